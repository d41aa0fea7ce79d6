"""SQLAlchemy engines for the SQLite file: real transactions, durable commits, readable errors.

Python's sqlite3 begins transactions late and implicitly. This module disables that
(`isolation_level = None`) and emits BEGIN in SQLAlchemy's "begin" event, as the SQLAlchemy manual
advises under "Serializable isolation / Savepoints / Transactional DDL" of its SQLite page. So a
read transaction is one WAL snapshot from its first read to its end. A write transaction takes the
write lock at once (BEGIN IMMEDIATE) and never has to upgrade.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import clear_frames
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import QueuePool

from mmsearch.catalog.connection import (
    MAINTENANCE_TIMEOUT_S,
    ReadConnection,
    close_on_error,
    connect,
    translate_error,
    translated_errors,
)
from mmsearch.catalog.database import Database
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

BEGIN_OPTION, _PATH_OPTION, PLACE_OPTION = "mmsearch_begin", "mmsearch_path", "mmsearch_place"
"""Options of engines: how a write begins, the database, and its place on a server."""


def open_engine(path: Path, *, create: bool = False) -> Engine:
    """Create an engine for writing, whose connections are configured for a catalog.

    It keeps its connections, because closing the last one costs a checkpoint.

    Args:
        path: The database.
        create: Create the file if it is missing.
    """
    engine = create_engine(
        "sqlite://",
        creator=lambda: _connect_writable(path, create=create),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=-1,
    )
    event.listen(engine, "begin", _emit_begin)
    engine.update_execution_options(**{_PATH_OPTION: path})
    event.listen(engine, "handle_error", lambda context: _raise_translated(context, path))
    return engine


@contextmanager
def write_transaction(engine: Engine, *, alone: bool = True) -> Iterator[Connection]:
    """Open a write transaction: commit it at the end, roll it back on an exception.

    Args:
        engine: A writable engine.
        alone: False for a transaction that may run beside others, if the database can do that.
    """
    if alone or engine.dialect.name == "sqlite":
        engine = engine.execution_options(**{BEGIN_OPTION: "BEGIN IMMEDIATE"})
    transaction = engine.begin()
    with _release_lock_on_interrupt(), transaction as connection:
        hit_failpoint(FailPoint.TRANSACTION_BEGUN)
        yield connection
        hit_failpoint(FailPoint.TRANSACTION_READY)
    hit_failpoint(FailPoint.TRANSACTION_COMMITTED)


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Open a read transaction, which sees one state from its first read on."""
    with _release_lock_on_interrupt(), engine.connect() as connection:
        yield connection


@contextmanager
def _release_lock_on_interrupt() -> Iterator[None]:
    """Release the locks when Ctrl-C interrupts a statement.

    SQLAlchemy then closes the connection, but SQLite keeps a closed connection and its locks until
    its last statement is freed, and the traceback still refers to that statement.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        clear_frames(interrupt.__traceback__)
        raise
    except AssertionError as error:
        # SQLAlchemy raises this when Ctrl-C interrupts a commit.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def is_postgres(connection: Connection) -> bool:
    """Return True if a connection is one of PostgreSQL."""
    return connection.dialect.name == "postgresql"


def as_read_connection(connection: Connection) -> Database:
    """Return a `Database` that reads and writes in the connection's own transaction."""
    if not connection.in_transaction():
        connection.begin()
    raw = connection.connection.driver_connection
    options = connection.get_execution_options()
    if isinstance(raw, sqlite3.Connection):
        return ReadConnection(raw, options[_PATH_OPTION])
    from mmsearch.catalog.postgres import PostgresDatabase  # noqa: PLC0415 - costs psycopg

    return PostgresDatabase(cast("Any", raw), options[PLACE_OPTION])


def checkpoint_wal(engine: Engine) -> None:
    """Move everything from the -wal file into the database, unless a reader still needs it."""
    # A failing disk causes SQLITE_CORRUPT here: a DatabaseError, not an OperationalError.
    with _raw_connection(engine) as connection, suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


def vacuum(engine: Engine) -> None:
    """Rewrite the database without free pages; a kill in between leaves it unchanged."""
    path = engine.get_execution_options()[_PATH_OPTION]
    with translated_errors(path), _raw_connection(engine) as connection:
        # The temporary copy is as large as the database, so it must be on disk.
        connection.execute("PRAGMA temp_store = FILE")
        try:
            connection.execute("VACUUM").close()
        finally:
            connection.execute("PRAGMA temp_store = MEMORY")
    checkpoint_wal(engine)


@contextmanager
def _raw_connection(engine: Engine) -> Iterator[sqlite3.Connection]:
    """Yield a sqlite3 connection outside a transaction, which SQLAlchemy would begin."""
    path = engine.get_execution_options()[_PATH_OPTION]
    connection = engine.raw_connection()
    try:
        raw = connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("not a sqlite3 connection")
        with translated_errors(path):
            yield raw
    finally:
        connection.close()


def _emit_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN_OPTION, "BEGIN"))


def _connect_writable(path: Path, *, create: bool) -> sqlite3.Connection:
    connection = connect(path, "rwc" if create else "rw", MAINTENANCE_TIMEOUT_S)
    with close_on_error(connection):
        connection.execute("PRAGMA foreign_keys = ON")
        # NORMAL could lose acknowledged commits in a power failure.
        connection.execute("PRAGMA synchronous = FULL")
        # WAL lets readers continue while a writer commits. The mode is stored in the file.
        connection.execute("PRAGMA journal_mode = WAL")
    return connection


def _raise_translated(context: ExceptionContext, path: Path) -> None:
    """Replace SQLite's error by one that the user can act on, if there is one."""
    original = context.original_exception
    translated = translate_error(original, path)
    if translated is not None:
        raise translated from original
