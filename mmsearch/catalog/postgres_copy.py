"""Copies of a catalog from a file to PostgreSQL, and back: row by row, with the ids of the rows.

The target makes what only it has: full text and folded columns. Counts that triggers keep are
copied, so triggers are off meanwhile. A copy is one transaction: a kill leaves nothing of it, and
readers see all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Table

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, ReadPool
from mmsearch.catalog.database import Database
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.postgres import PinnedPostgres, PostgresPlace, connect
from mmsearch.catalog.postgres_engine import open_postgres_engine
from mmsearch.catalog.postgres_rows import RowCopier
from mmsearch.catalog.postgres_schema import check_readable, migrate, table_order
from mmsearch.catalog.postgres_stems import recount_stems
from mmsearch.catalog.reader import SqlReader
from mmsearch.catalog.sqlalchemy_engine import (
    as_read_connection,
    is_postgres,
    open_engine,
    write_transaction,
)
from mmsearch.catalog.tables import METADATA
from mmsearch.core.errors import DamagedFileError, Hint, StateError

PAGE_ROWS = 5_000
"""Number of rows that are written at a time."""


def copy_to_file(place: PostgresPlace, path: Path) -> None:
    """Copy one state of a catalog in PostgreSQL to a new file.

    Args:
        place: The catalog.
        path: The file, which is missing.

    Raises:
        MMSearchError: The server cannot be reached, or the file cannot be written.
    """
    # Closing it moves all rows into the database, and writes its checksum.
    with (
        closing(PinnedPostgres(place, check_readable)) as source,
        closing(open_writer(path, create=True)),
    ):
        engine = open_engine(path)
        try:
            with source.read_transaction() as db, write_transaction(engine) as connection:
                _copy_all(db, connection)
        finally:
            engine.dispose()


def copy_to_postgres(path: Path, place: PostgresPlace, verify: Callable[[SqlReader], None]) -> None:
    """Copy a catalog in a file to PostgreSQL; what the schema held is replaced.

    Args:
        path: The file, which nobody writes meanwhile.
        place: The catalog, whose writer lock the caller holds.
        verify: Called with the copy before others see it; an error discards the copy.

    Raises:
        MMSearchError: The server cannot be reached, or the file cannot be read.
    """
    with connect(place, MAINTENANCE_TIMEOUT_S) as connection:
        migrate(connection, place, create=True)
    engine = open_postgres_engine(place)
    try:
        with (
            closing(ReadPool(path, timeout_s=MAINTENANCE_TIMEOUT_S)) as pool,
            pool.read_transaction() as db,
            write_transaction(engine) as connection,
        ):
            _copy_all(db, connection)
            verify(SqlReader(_OneTransaction(as_read_connection(connection))))
    finally:
        engine.dispose()


class _OneTransaction:
    """The connection of a transaction, as `Connections` for readers of what it has written."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def read_transaction(self) -> AbstractContextManager[Database]:
        return nullcontext(self._db)

    def close(self) -> None:
        """Do nothing: the transaction belongs to the caller."""


def _copy_all(source: Database, connection: Connection) -> None:
    target = as_read_connection(connection)
    tables = [METADATA.tables[name] for name in table_order() if name in METADATA.tables]
    with _without_triggers(target, tables):
        for table in reversed(tables):
            target.query(f"DELETE FROM {table.name}")  # noqa: S608 - our names
        for table in tables:
            _copy_table(source, connection, table)
        _copy_sequences(source, target, tables)
        if is_postgres(connection):
            recount_stems(target)
            # The first queries need plans for many rows.
            for table in tables:
                target.query(f"ANALYZE {table.name}")
        else:
            for statement in _FULL_TEXT:
                target.query(statement)
    before, after = (_count_rows(db, tables) for db in (source, target))
    if before != after:
        differing = sorted(name for name in before if before[name] != after[name])
        raise StateError(
            f"The copy of the catalog has other numbers of {', '.join(differing)}.",
            Hint("{}, and migrate again.", "Call index.check()", "Run 'mmsearch check'"),
        )


def _copy_table(source: Database, connection: Connection, table: Table) -> None:
    columns = [column.name for column in table.columns]
    # The words of suggestions are found in the order in which they were inserted.
    order = (
        "rowid"
        if table.name == "suggestions"
        else ", ".join(table.primary_key.columns.keys() or ["1"])
    )
    rows = source.iterate(
        f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {order}"  # noqa: S608 - our names
    )
    while page := list(islice(rows, PAGE_ROWS)):
        if is_postgres(connection):
            _insert_in_postgres(connection, table, columns, page)
        else:
            marks = ", ".join("?" * len(columns))
            connection.exec_driver_sql(
                f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                page,
            )


def _insert_in_postgres(
    connection: Connection, table: Table, columns: list[str], page: list[tuple[Any, ...]]
) -> None:
    copier = RowCopier(as_read_connection(connection), is_encoded=True)
    rows: list[Mapping[str, Any]] = [dict(zip(columns, row, strict=True)) for row in page]
    try:
        copier.insert(table, rows)
    # SQLite keeps values of other types, and rows of an older version may break a constraint.
    except (psycopg.DataError, psycopg.IntegrityError, ValueError) as error:
        raise DamagedFileError(
            f"A row of the table {table.name} cannot be kept by PostgreSQL:"
            f" {str(error).splitlines()[0]}.",
            Hint("{} first.", "Call index.repair()", "Run 'mmsearch repair'"),
        ) from error


_FULL_TEXT = (
    "INSERT INTO words (words) VALUES ('delete-all')",
    "INSERT INTO trigrams (trigrams) VALUES ('delete-all')",
    "INSERT INTO words (rowid, text) SELECT id, text FROM texts",
    "INSERT INTO trigrams (rowid, text) SELECT id, text FROM texts WHERE spaceless",
)


@contextmanager
def _without_triggers(db: Database, tables: list[Table]) -> Iterator[None]:
    """Turn the triggers of a database off within a transaction, which ends with them on."""
    if db.dialect.name == "postgresql":
        for table in tables:
            db.query(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
        yield
        for table in tables:
            db.query(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
        return
    triggers = db.query("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    for name, _ in triggers:
        db.query(f"DROP TRIGGER {name}")
    yield
    for _, statement in triggers:
        db.query(statement)


def _copy_sequences(source: Database, target: Database, tables: list[Table]) -> None:
    """Let the target go on with ids that no row of the source ever had."""
    highest: dict[str, int] = dict(source.query("SELECT name, seq FROM sqlite_sequence"))
    if source.dialect.name == "postgresql":
        for table, number in source.query(
            "SELECT class.relname, last_value FROM pg_sequences"
            " JOIN pg_class AS own ON own.relname = sequencename"
            "   AND own.relnamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)"
            " JOIN pg_depend ON objid = own.oid AND deptype = 'i'"
            " JOIN pg_class AS class ON class.oid = refobjid"
            " WHERE schemaname = current_schema() AND last_value IS NOT NULL"
        ):
            highest[table] = max(highest.get(table, 0), number)
    target.query("DELETE FROM sqlite_sequence")
    for table in tables:
        keys = table.primary_key.columns.keys()
        if len(keys) != 1 or table.c[keys[0]].type.python_type is not int:
            continue
        (key,) = keys
        ((newest,),) = target.query(f"SELECT coalesce(max({key}), 0) FROM {table.name}")  # noqa: S608
        number = max(newest, highest.get(table.name, 0))
        if target.dialect.name == "postgresql":
            sequence = f"pg_get_serial_sequence('{table.name}', '{key}')"
            is_used = "true" if number else "false"
            target.query(f"SELECT setval({sequence}, ?, {is_used})", [max(number, 1)])
        elif not _is_numbered_forever(target, table):
            continue
        if number:
            target.query(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table.name, number]
            )


def _is_numbered_forever(db: Database, table: Table) -> bool:
    """Return True if a table of SQLite never uses an id twice."""
    return bool(
        db.query(
            "SELECT 1 FROM sqlite_master WHERE name = ? AND sql LIKE '%AUTOINCREMENT%'",
            [table.name],
        )
    )


def _count_rows(db: Database, tables: list[Table]) -> dict[str, int]:
    return {
        table.name: int(db.query(f"SELECT count(*) FROM {table.name}")[0][0])  # noqa: S608
        for table in tables
    }
