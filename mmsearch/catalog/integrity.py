"""Whether a catalog agrees with itself, and making again what is derived within it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import suppress

from sqlalchemy import JSON, Column, Connection, Float, Integer, LargeBinary, Text

from mmsearch.catalog.connection import (
    Rows,
    is_refused_page,
    readable_errors,
    set_defensive,
    unproved_damage,
)
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.migrations import MIGRATIONS
from mmsearch.catalog.tables import Base
from mmsearch.core.errors import DamagedFileError, MMSearchError

# What must select nothing, and what it means if it does.
_LAWS = (
    (
        "SELECT id FROM images WHERE file_count <>"
        " (SELECT count(*) FROM files WHERE files.image_id = images.id)",
        "{count} pictures have a wrong count of files",
    ),
    (
        "SELECT number FROM segments WHERE rows <>"
        " (SELECT count(*) FROM images WHERE images.segment = segments.number)",
        "{count} segments have another number of pictures than of vectors",
    ),
    (
        "SELECT texts.id FROM texts JOIN files ON files.id = texts.file_id"
        " WHERE files.image_id IS NOT texts.image_id",
        "{count} texts belong to another picture than their file",
    ),
    (
        "SELECT tags.id FROM tags JOIN texts ON texts.id = tags.text_id"
        " WHERE tags.image_id <> texts.image_id",
        "{count} keywords belong to another picture than their text",
    ),
    (
        "SELECT id FROM files WHERE image_id IS NOT NULL AND length(digest) <> 32",
        "{count} files have a digest that is not valid",
    ),
    (
        "SELECT images.id FROM files JOIN images ON images.id = files.image_id"
        " WHERE images.digest <> files.digest",
        "{count} files have another content than their picture",
    ),
)
_FULL_TEXT: dict[str, str] = {
    found[1]: found[2]
    for step in MIGRATIONS
    for statement in step.statements
    if (found := re.match(r"\s*CREATE VIRTUAL TABLE (\w+) USING (fts5 .*)", statement, re.DOTALL))
}
"""The definition of each full-text table, by its name."""

_STORED_AS = (
    # Every value that is written as JSON is a text, a list or an object.
    (JSON, ("text",)),
    (Integer, ("integer",)),
    (Float, ("real",)),
    (LargeBinary, ("blob",)),
    (Text, ("text",)),
)


def findings(rows: Rows) -> Iterator[str]:
    """Yield what is proved to be wrong, a sentence each; nothing is written.

    Full-text indexes are compared in memory, which takes as much of it as they have bytes.

    Args:
        rows: In one transaction, on a connection that keeps temporary tables in memory.

    Raises:
        MMSearchError: Something could not be read, which proves nothing.
        sqlite3.Error: The same.
    """
    for look in (_structure, _values, _foreign_keys, _laws, _identity):
        proved = False
        try:
            for sentence in look(rows):
                proved = True
                yield sentence
        except DamagedFileError as error:
            proved = True
            yield f"The catalog cannot be read: {error.message}"
        if proved:
            # Each step relies on the one before.
            break
    for table, definition in _FULL_TEXT.items():
        try:
            _compare_full_text(rows, table, definition)
        except DamagedFileError:
            yield f"The catalog's full-text table {table!r} does not fit its texts."


def mend(connection: Connection) -> None:
    """Make B-tree indexes and full-text tables again from the rows."""
    connection.exec_driver_sql("REINDEX")
    for table in _FULL_TEXT:
        connection.exec_driver_sql(f"INSERT INTO {table} ({table}) VALUES ('delete-all')")  # noqa: S608 - our names
    connection.exec_driver_sql("INSERT INTO words (rowid, text) SELECT id, text FROM texts")
    connection.exec_driver_sql(
        "INSERT INTO trigrams (rowid, text) SELECT id, text FROM texts WHERE spaceless"
    )
    connection.exec_driver_sql(
        "UPDATE images SET file_count ="
        " (SELECT count(*) FROM files WHERE files.image_id = images.id)"
    )


def _structure(rows: Rows) -> Iterator[str]:
    refused = False
    for (said,) in rows.ask("PRAGMA integrity_check(20)"):
        for line in said.splitlines():
            if is_refused_page(line):
                refused = True
            elif line != "ok" and not line.startswith("***"):
                yield f"The catalog's structure is damaged: {line}."
    if refused:
        raise unproved_damage(rows.path)


def _values(rows: Rows) -> Iterator[str]:
    """Yield values of another kind than their column's; raise on text that is not UTF-8."""
    for table in Base.metadata.sorted_tables:
        wrong = " OR ".join(f"NOT ({_is_stored_right(column)})" for column in table.columns)
        ((count,),) = rows.ask(f"SELECT count(*) FROM {table.name} WHERE {wrong}")  # noqa: S608 - our names
        if count:
            yield (
                f"The catalog contradicts itself: {count} rows of {table.name!r} have values of"
                " another kind than their columns."
            )
        for column in table.columns:
            if isinstance(column.type, Text):
                # Reading a text decodes it.
                with readable_errors(rows.path):
                    for _ in rows.connection.execute(f"SELECT {column.name} FROM {table.name}"):  # noqa: S608
                        pass


def _is_stored_right(column: Column[object]) -> str:
    kinds = next(kinds for kind, kinds in _STORED_AS if isinstance(column.type, kind))
    names = ", ".join(repr(kind) for kind in (*kinds, *(["null"] if column.nullable else [])))
    law = f"typeof({column.name}) IN ({names})"
    return f"{law} AND json_valid({column.name})" if isinstance(column.type, JSON) else law


def _identity(rows: Rows) -> Iterator[str]:
    """Read the settings of the index: what cannot be understood raises."""
    read_identity(rows)
    yield from ()


def _foreign_keys(rows: Rows) -> Iterator[str]:
    found = rows.ask("PRAGMA foreign_key_check")
    for table in sorted({row[0] for row in found}):
        count = sum(row[0] == table for row in found)
        yield f"The catalog's table {table!r} has {count} rows that point at nothing."


def _laws(rows: Rows) -> Iterator[str]:
    for statement, meaning in _LAWS:
        count = len(rows.ask(statement))
        if count:
            yield f"The catalog contradicts itself: {meaning.format(count=count)}."


def _compare_full_text(rows: Rows, table: str, definition: str) -> None:
    """Run FTS5's own check on a copy of a full-text index in memory: it counts as a write.

    ``trigrams`` holds some of the texts only, so that FTS5 cannot compare it with all of them:
    https://www.sqlite.org/fts5.html#the_integrity_check_command.

    Raises:
        DamagedFileError: The index is not of these texts.
    """
    copy = f"{table}_copy"
    # FTS5 looks for the texts beside its index.
    rows.ask("CREATE TEMP VIEW texts AS SELECT id, text FROM main.texts")
    set_defensive(rows.connection, False)
    try:
        rows.ask(f"CREATE VIRTUAL TABLE temp.{copy} USING {definition}")
        for part in ("data", "idx", "docsize", "config"):
            rows.ask(f"DELETE FROM temp.{copy}_{part}")  # noqa: S608 - our names
            rows.ask(f"INSERT INTO temp.{copy}_{part} SELECT * FROM main.{table}_{part}")  # noqa: S608
        columns, values = (f"{copy}, rank", "'integrity-check', 1")
        if table == "trigrams":
            columns, values = copy, "'integrity-check'"
        rows.ask(f"INSERT INTO temp.{copy} ({columns}) VALUES ({values})")  # noqa: S608
    finally:
        with suppress(MMSearchError, sqlite3.Error):
            rows.ask(f"DROP TABLE IF EXISTS temp.{copy}")
        set_defensive(rows.connection, True)
        rows.ask("DROP VIEW temp.texts")
