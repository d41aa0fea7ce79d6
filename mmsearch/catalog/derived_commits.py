"""Writing of derived texts: each method is one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Engine, delete, func, select

from mmsearch.catalog.database import Connections, Database
from mmsearch.catalog.derived import SqlDerivedReader
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.row_writes import insert_rows, upsert_rows
from mmsearch.catalog.rows import chunks, find_contents, find_items, storable
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, write_transaction
from mmsearch.catalog.tables import DERIVED, DERIVED_FILES, TEXTS
from mmsearch.catalog.texts import insert_texts
from mmsearch.core.derived import DerivedFile, DerivedState, DerivedTexts


class SqlDerivedWriter(SqlDerivedReader):
    """Implementation of `mmsearch.core.derived.DerivedWriter`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
        engine: Its engine.
    """

    def __init__(self, connections: Connections, engine: Engine) -> None:
        super().__init__(connections)
        self._engine = engine

    def commit(self, file: DerivedFile, contents: Sequence[DerivedTexts]) -> None:
        """Record a file, replace the texts of its contents, and add a generation."""
        with write_transaction(self._engine) as connection:
            _insert_file(connection, file)
            _replace_texts(connection, contents)
            add_generation(connection)

    def restore(self, file: DerivedFile | None, contents: Sequence[DerivedTexts]) -> int:
        """Record a file of a lost catalog; return the number of its contents in the index."""
        with write_transaction(self._engine) as connection:
            if file is not None:
                _insert_file(connection, file)
            return _replace_texts(connection, contents)

    def replace_files(self, file: DerivedFile | None) -> None:
        """Record one file in place of all others; None if nothing is left to keep."""
        with write_transaction(self._engine) as connection:
            _replace_files(connection, file)

    def remove(self, enricher: str, file: DerivedFile | None) -> int:
        """Remove all that an enricher has made; return the number of contents."""
        with write_transaction(self._engine) as connection:
            _replace_files(connection, file)
            is_own = (TEXTS.c.source == enricher) & TEXTS.c.made_by.is_not(None)
            connection.execute(delete(TEXTS).where(is_own))
            count = connection.execute(
                select(func.count()).where(DERIVED.c.enricher == enricher)
            ).scalar()
            connection.execute(delete(DERIVED).where(DERIVED.c.enricher == enricher))
            add_generation(connection)
        return int(count or 0)


def _replace_files(connection: Connection, file: DerivedFile | None) -> None:
    connection.execute(delete(DERIVED_FILES))
    if file is not None:
        _insert_file(connection, file)


def _insert_file(connection: Connection, file: DerivedFile) -> None:
    values = {"number": file.number, **asdict(file.file_ref), "rows": file.rows}
    insert_rows(connection, DERIVED_FILES, [values])


def _replace_texts(connection: Connection, contents: Sequence[DerivedTexts]) -> int:
    """Replace what enrichers made of contents; return the number of contents that are known.

    Those that are no longer in the index are passed over. What was read of a part of a content
    replaces older texts of that part only, and a failure replaces none.
    """
    db = as_read_connection(connection)
    items: dict[bytes, dict[int, int]] = {}
    for (digest, part), item_id in find_items(db, (one.digest for one in contents)).items():
        items.setdefault(digest, {})[part] = item_id
    content_ids = {digest: ids[0] for digest, ids in find_contents(db, items).items()}
    known = [one for one in contents if one.digest in content_ids]
    _delete_texts(connection, known, items)
    insert_texts(
        connection,
        [
            (items[one.digest][part], None, text, None)
            for one in known
            for part, texts in sorted(one.texts.items())
            if part in items[one.digest]
            for text in texts
        ],
    )
    former_s = _load_seconds(db, [content_ids[one.digest] for one in known])
    rows = [
        {
            "content_id": content_id,
            "enricher": one.enricher,
            "made_by": one.made_by,
            "state": one.state.value,
            "upto_ms": one.upto_ms,
            "seconds": one.seconds
            + (former_s.get((content_id, one.enricher, one.made_by), 0.0) if one.from_ms else 0.0),
            "error": storable(one.error),
        }
        for one in known
        for content_id in [content_ids[one.digest]]
    ]
    upsert_rows(connection, DERIVED, rows, ("content_id", "enricher"))
    return len(known)


def _load_seconds(db: Database, content_ids: Sequence[int]) -> dict[tuple[int, str, str], float]:
    statement = (
        "SELECT content_id, enricher, made_by, seconds FROM derived"  # noqa: S608
        f" WHERE content_id {db.dialect.in_ids}"
    )
    return {tuple(key): seconds for *key, seconds in db.query(statement, [json.dumps(content_ids)])}


def _delete_texts(
    connection: Connection, contents: Sequence[DerivedTexts], items: Mapping[bytes, dict[int, int]]
) -> None:
    """Delete the texts that new ones of the same enricher replace."""
    for one in contents:
        if one.state is DerivedState.FAILED:
            continue
        start_ms = func.coalesce(TEXTS.c.start_ms, 0)
        is_older = TEXTS.c.made_by != one.made_by
        if one.state is DerivedState.PARTIAL:
            is_older &= start_ms < one.upto_ms
        is_replaced = is_older | ((TEXTS.c.made_by == one.made_by) & (start_ms >= one.from_ms))
        for chunk in chunks(sorted(items[one.digest].values())):
            is_own = TEXTS.c.item_id.in_(chunk) & (TEXTS.c.source == one.enricher)
            connection.execute(delete(TEXTS).where(is_own & is_replaced))
