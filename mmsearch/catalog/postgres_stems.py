"""The stems of all texts of a catalog in PostgreSQL, with the number of texts that have each.

FTS5 of SQLite lists them; ``ts_stat`` of PostgreSQL reads all texts for that. So three tables keep
them:

- ``stems``: the stems of the texts up to an id, with their numbers of texts;
- ``counted_texts``: this id, in one row;
- ``uncounted_texts``: the words of counted texts that were deleted since.

Readers add what is not counted yet: see `mmsearch.catalog.dialects`. A writer counts it from time
to time, many texts at once: with each commit, that would take longer.
"""

from __future__ import annotations

from typing import Final

from mmsearch.catalog.database import Database
from mmsearch.catalog.dialects import POSTGRES_STEM_CHANGES

COUNT_EVERY: Final = 20_000
"""Number of texts from which on a writer counts their stems."""

TABLES = (
    'CREATE TABLE IF NOT EXISTS stems (term TEXT COLLATE "C" NOT NULL PRIMARY KEY,'
    " doc BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS counted_texts (upto BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS uncounted_texts (words TSVECTOR NOT NULL)",
    "INSERT INTO counted_texts SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counted_texts)",
)

# The id of a deleted text may be used again.
INSERTED = """
    IF (SELECT min(id) FROM new_rows) <= (SELECT upto FROM counted_texts) THEN
        INSERT INTO stems AS known (term, doc)
        SELECT lexeme, count(*) FROM new_rows CROSS JOIN unnest(words) AS stem
        WHERE id <= (SELECT upto FROM counted_texts) GROUP BY lexeme
        ON CONFLICT (term) DO UPDATE SET doc = known.doc + excluded.doc;
    END IF;"""
"""Part of a trigger for new texts, in ``new_rows``."""

DELETED = """
    INSERT INTO uncounted_texts
    SELECT words FROM old_rows WHERE id <= (SELECT upto FROM counted_texts);"""
"""Part of a trigger for deleted texts, in ``old_rows``."""


def count_stems(db: Database) -> None:
    """Count the stems of texts that are new or deleted, in a transaction without other writers."""
    ((newest, upto, has_deleted),) = db.query(
        "SELECT (SELECT coalesce(max(id), 0) FROM texts), upto,"
        " EXISTS (SELECT 1 FROM uncounted_texts) FROM counted_texts"
    )
    if newest <= upto and not has_deleted:
        return
    db.query(
        "INSERT INTO stems AS known (term, doc)"  # noqa: S608 - our own names
        f" SELECT term, sum(doc) FROM ({POSTGRES_STEM_CHANGES}) AS changes"
        " GROUP BY term ORDER BY term"
        " ON CONFLICT (term) DO UPDATE SET doc = known.doc + excluded.doc"
    )
    db.query("DELETE FROM stems WHERE doc <= 0")
    db.query("DELETE FROM uncounted_texts")
    db.query("UPDATE counted_texts SET upto = ?", [max(newest, upto)])


def recount_stems(db: Database) -> None:
    """Count the stems of all texts again, in a transaction without other writers."""
    for statement in (
        "DELETE FROM stems",
        "DELETE FROM uncounted_texts",
        "UPDATE counted_texts SET upto = 0",
    ):
        db.query(statement)
    count_stems(db)
