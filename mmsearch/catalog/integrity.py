"""Consistency checks of a catalog."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from mmsearch.catalog.connection import (
    ReadConnection,
    is_unreadable_page,
    set_defensive,
    unconfirmed_damage_error,
)
from mmsearch.catalog.database import Database
from mmsearch.catalog.identity import read_identity
from mmsearch.catalog.migrations import MIGRATIONS
from mmsearch.catalog.schema import Column, table_columns
from mmsearch.core.errors import DamagedFileError, MMSearchError

# Statements that must return no rows, and the message for the rows that they return.
_INVARIANTS = (
    (
        "SELECT id FROM contents WHERE asset_count <>"
        " (SELECT count(*) FROM assets WHERE assets.content_id = contents.id)",
        "{count} pictures have a wrong file count",
    ),
    (
        "SELECT items.id FROM items JOIN contents ON contents.id = content_id"
        " WHERE (is_live = 1) <> (asset_count > 0)",
        "{count} pictures are shown or hidden although they should not be",
    ),
    (
        "SELECT id FROM contents WHERE id NOT IN (SELECT content_id FROM items)",
        "{count} contents have no picture",
    ),
    (
        "SELECT number FROM segments WHERE rows <>"
        " (SELECT count(*) FROM embeddings WHERE embeddings.segment = segments.number)"
        " + (SELECT count(*) FROM stale_rows WHERE stale_rows.segment = segments.number)",
        "{count} segments have a number of pictures that differs from their number of vectors",
    ),
    (
        "SELECT item_id FROM embeddings JOIN segments ON segments.number = embeddings.segment"
        " WHERE segments.space_id IS NOT embeddings.space_id",
        "{count} pictures have a vector in a segment of another encoder",
    ),
    (
        "SELECT id FROM items WHERE has_pixels = 1 AND id NOT IN"
        " (SELECT item_id FROM embeddings JOIN spaces"
        " ON spaces.id = space_id WHERE state = 'serving')",
        "{count} pictures have no vector",
    ),
    (
        "SELECT texts.id FROM texts JOIN assets ON assets.id = texts.asset_id"
        " JOIN items ON items.id = texts.item_id"
        " WHERE assets.content_id IS NOT items.content_id",
        "{count} texts belong to a different picture than their file",
    ),
    (
        "SELECT tags.id FROM tags JOIN texts ON texts.id = tags.text_id"
        " WHERE tags.item_id <> texts.item_id",
        "{count} keywords belong to a different picture than their text",
    ),
    (
        "SELECT id FROM assets WHERE content_id IS NOT NULL AND length(digest) <> 32",
        "{count} files have an invalid digest",
    ),
    (
        "SELECT contents.id FROM assets JOIN contents ON contents.id = assets.content_id"
        " WHERE contents.digest <> assets.digest",
        "{count} files have a different digest than their picture",
    ),
)
_FULL_TEXT_TABLES: dict[str, str] = {
    found[1]: found[2]
    for step in MIGRATIONS
    for statement in step.statements
    if (found := re.match(r"\s*CREATE VIRTUAL TABLE (\w+) USING (fts5 .*)", statement, re.DOTALL))
}
"""Definitions of the full-text tables, by table name."""


def find_problems(db: Database) -> Iterator[str]:
    """Yield one sentence for each confirmed problem; write nothing.

    Full-text indexes are compared in memory, which takes as much memory as their size.

    Args:
        db: A connection in one transaction that keeps temporary tables in memory.

    Raises:
        MMSearchError: Something could not be read, which does not confirm damage.
        sqlite3.Error: Same as above.
    """
    if not isinstance(db, ReadConnection):
        # A server checks types, keys and its indexes by itself.
        yield from _run_checks(db, (_check_invariants, _check_identity))
        return
    checks = (_check_structure, _check_values, _check_foreign_keys)
    yield from _run_checks(db, (*checks, _check_invariants, _check_identity))
    for table, definition in _FULL_TEXT_TABLES.items():
        try:
            _check_full_text(db, table, definition)
        except DamagedFileError:
            yield f"The catalog's full-text table {table!r} does not match its texts."


_Check = Callable[[Any], Iterator[str]]
"""A function that yields the problems of a database."""


def _run_checks(db: Database, checks: Iterable[_Check]) -> Iterator[str]:
    """Yield the problems that the first check with any finds: each relies on the previous one."""
    for check in checks:
        has_problem = False
        try:
            for problem in check(db):
                has_problem = True
                yield problem
        except DamagedFileError as error:
            has_problem = True
            yield f"The catalog cannot be read: {error.message}"
        if has_problem:
            return


def _check_structure(db: ReadConnection) -> Iterator[str]:
    has_unreadable_page = False
    for (output,) in db.query("PRAGMA integrity_check(20)"):
        for line in output.splitlines():
            if is_unreadable_page(line):
                has_unreadable_page = True
            elif line != "ok" and not line.startswith("***"):
                yield f"The catalog's structure is damaged: {line}."
    if has_unreadable_page:
        raise unconfirmed_damage_error(db.path)


def _check_values(db: ReadConnection) -> Iterator[str]:
    """Yield a problem for each table with values of the wrong type; raise on invalid UTF-8."""
    for table, columns in table_columns().items():
        mismatch = " OR ".join(f"NOT ({_storage_condition(column)})" for column in columns)
        ((count,),) = db.query(f"SELECT count(*) FROM {table} WHERE {mismatch}")  # noqa: S608 - our names
        if count:
            yield (
                f"The catalog contradicts itself: {count} rows of {table!r} have values of"
                " the wrong type."
            )
        for column in columns:
            if column.type == "TEXT":
                # Reading a text value decodes it, so invalid UTF-8 raises here.
                for _ in db.iterate(f"SELECT {column.name} FROM {table}"):  # noqa: S608
                    pass


def _storage_condition(column: Column) -> str:
    # Every JSON value that mmsearch writes is a string, a list or an object, stored as text.
    storage_class = "text" if column.type == "JSON" else column.type.lower()
    allowed_types = f"'{storage_class}', 'null'" if column.nullable else f"'{storage_class}'"
    condition = f"typeof({column.name}) IN ({allowed_types})"
    return f"{condition} AND json_valid({column.name})" if column.type == "JSON" else condition


def _check_identity(db: Database) -> Iterator[str]:
    """Read the settings of the index, which raises if they are invalid."""
    read_identity(db)
    yield from ()


def _check_foreign_keys(db: ReadConnection) -> Iterator[str]:
    violations = db.query("PRAGMA foreign_key_check")
    for table in sorted({row[0] for row in violations}):
        count = sum(row[0] == table for row in violations)
        yield f"The catalog's table {table!r} has {count} rows that refer to missing rows."


def _check_invariants(db: Database) -> Iterator[str]:
    for statement, message in _INVARIANTS:
        count = len(db.query(statement))
        if count:
            yield f"The catalog contradicts itself: {message.format(count=count)}."


def _check_full_text(db: ReadConnection, table: str, definition: str) -> None:
    """Run FTS5's integrity check on an in-memory copy of a full-text index.

    A copy is needed because SQLite treats the check as a write. ``trigrams`` holds only some of
    the texts, so FTS5 cannot compare it with all of them:
    https://www.sqlite.org/fts5.html#the_integrity_check_command.

    Raises:
        DamagedFileError: The index does not match the texts.
    """
    copy_table = f"{table}_copy"
    # FTS5 looks for the content table in the schema of its index.
    db.query("CREATE TEMP VIEW texts AS SELECT id, text FROM main.texts")
    set_defensive(db.connection, False)
    try:
        db.query(f"CREATE VIRTUAL TABLE temp.{copy_table} USING {definition}")
        for shadow_table in ("data", "idx", "docsize", "config"):
            db.query(f"DELETE FROM temp.{copy_table}_{shadow_table}")  # noqa: S608 - our names
            rows = f"SELECT * FROM main.{table}_{shadow_table}"  # noqa: S608 - our names
            db.query(f"INSERT INTO temp.{copy_table}_{shadow_table} {rows}")
        columns, values = (f"{copy_table}, rank", "'integrity-check', 1")
        if table == "trigrams":
            columns, values = copy_table, "'integrity-check'"
        db.query(f"INSERT INTO temp.{copy_table} ({columns}) VALUES ({values})")  # noqa: S608
    finally:
        with suppress(MMSearchError, sqlite3.Error):
            db.query(f"DROP TABLE IF EXISTS temp.{copy_table}")
        set_defensive(db.connection, True)
        db.query("DROP VIEW temp.texts")
