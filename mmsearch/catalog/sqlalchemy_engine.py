"""Connections to the SQLite file: real transactions, durable commits, readable errors.

Python's sqlite3 begins transactions late and on its own; here its autocommit is switched off
(`isolation_level = None`) and SQLAlchemy's "begin" event says BEGIN itself, as the SQLAlchemy
manual advises under "Serializable isolation / Savepoints / Transactional DDL" of its SQLite page.
So a transaction that only reads is one WAL snapshot from its first read to its end, and one that
writes takes the write lock at once (BEGIN IMMEDIATE) and never has to upgrade.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from traceback import clear_frames

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from mmsearch.catalog.connection import (
    ReadConnection,
    close_on_error,
    connect,
    connect_read_only,
    translate_error,
    translated_errors,
)
from mmsearch.catalog.timeouts import MAINTENANCE_TIMEOUT_S
from mmsearch.core.files import create_file
from mmsearch.storage.failpoints import FailPoint, hit_failpoint

_BEGIN_OPTION, _PATH_OPTION = "mmsearch_begin", "mmsearch_path"


def open_engine(path: Path, *, create: bool, read_only: bool) -> Engine:
    """An engine whose every connection is set up for a catalog.

    A writer keeps its connection, for the last one to close costs a checkpoint. Readers open one
    for each snapshot (a fraction of a millisecond) and so never outlive the file they read.

    Args:
        path: The database.
        create: Make the file if it is missing.
        read_only: Never write, not even the files beside it.
    """

    def open_connection() -> sqlite3.Connection:
        if read_only:
            return connect_read_only(path)
        return _connect_writable(path, create=create)

    if read_only:
        engine = create_engine("sqlite://", creator=open_connection, poolclass=NullPool)
    else:
        engine = create_engine(
            "sqlite://", creator=open_connection, poolclass=QueuePool, pool_size=2, max_overflow=-1
        )
    event.listen(engine, "begin", _emit_begin)
    return _configure(engine, path)


def open_pinned_engine(path: Path) -> Engine:
    """Return an engine that reads one state of a catalog until it is disposed of.

    Its one connection stays in one transaction, whatever SQLAlchemy begins and ends on it.

    Args:
        path: The database.

    Raises:
        MMSearchError: It cannot be read.
    """
    with translated_errors(path):
        connection = connect_read_only(path)
        with close_on_error(connection):
            # A check may read every row.
            connection.set_timeout(MAINTENANCE_TIMEOUT_S)
            connection.execute("BEGIN")
            # SQLite's snapshot begins with the first read.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    engine = create_engine(
        "sqlite://", creator=lambda: connection, poolclass=StaticPool, pool_reset_on_return=None
    )
    for name in ("do_commit", "do_rollback"):
        setattr(engine.dialect, name, lambda connection: None)
    return _configure(engine, path)


def _configure(engine: Engine, path: Path) -> Engine:
    engine.update_execution_options(**{_PATH_OPTION: path})
    event.listen(engine, "handle_error", lambda context: _raise_translated(context, path))
    return engine


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, undone by an exception."""
    transaction = engine.execution_options(**{_BEGIN_OPTION: "BEGIN IMMEDIATE"}).begin()
    with _release_lock_on_interrupt(), transaction as connection:
        hit_failpoint(FailPoint.TRANSACTION_BEGUN)
        yield connection
        hit_failpoint(FailPoint.TRANSACTION_READY)
    hit_failpoint(FailPoint.TRANSACTION_COMMITTED)


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads: from its first read on, it sees one state."""
    with _release_lock_on_interrupt(), engine.connect() as connection:
        yield connection


@contextmanager
def _release_lock_on_interrupt() -> Iterator[None]:
    """Leave no lock behind when Ctrl-C comes in the midst of a statement.

    SQLAlchemy closes the connection then, but SQLite keeps a closed connection, with its locks,
    until its last statement is forgotten, and the traceback remembers that.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        clear_frames(interrupt.__traceback__)
        raise
    except AssertionError as error:
        # What SQLAlchemy makes of an interruption in the midst of a commit.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


def as_read_connection(connection: Connection) -> ReadConnection:
    """What is read without SQLAlchemy, in the connection's own transaction."""
    if not connection.in_transaction():
        connection.begin()
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise TypeError("not a connection of sqlite3")
    return ReadConnection(raw, connection.get_execution_options()[_PATH_OPTION])


def checkpoint_wal(engine: Engine) -> None:
    """Move everything from the -wal file into the database, unless a reader still needs it."""
    # A disk that fails to read is SQLITE_CORRUPT here: a DatabaseError, no OperationalError.
    with _raw_connection(engine) as connection, suppress(sqlite3.DatabaseError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


def vacuum(engine: Engine) -> None:
    """Write the database again without free pages; killed meanwhile, it stays as it was."""
    path = engine.get_execution_options()[_PATH_OPTION]
    with translated_errors(path), _raw_connection(engine) as connection:
        # As large as the database: on disk, not in memory.
        connection.execute("PRAGMA temp_store = FILE")
        try:
            connection.execute("VACUUM").close()
        finally:
            connection.execute("PRAGMA temp_store = MEMORY")
    checkpoint_wal(engine)


def backup_database(engine: Engine, path: Path) -> None:
    """Copy one state of a database, page by page, with SQLite's backup API.

    https://www.sqlite.org/backup.html: while another connection writes, the copy begins again; it
    is made in one step here, which holds a read transaction, so it never has to.

    Raises:
        MMSearchError: The database cannot be read, or the copy cannot be written.
        OSError: The copy cannot be written.
    """
    # SQLite would let everybody read what it creates.
    create_file(path).close()
    with _raw_connection(engine) as raw:
        try:
            with closing(sqlite3.connect(path)) as target:
                raw.backup(target)
                # The copy has no readers beside it: one file is enough.
                target.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            # Damage is no such error: that would be of the source.
            raise translate_error(error, path) or error from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _raw_connection(engine: Engine) -> Iterator[sqlite3.Connection]:
    """Yield a connection in no transaction: SQLAlchemy would begin one."""
    path = engine.get_execution_options()[_PATH_OPTION]
    connection = engine.raw_connection()
    try:
        raw = connection.driver_connection
        if not isinstance(raw, sqlite3.Connection):
            raise TypeError("not a connection of sqlite3")
        with translated_errors(path):
            yield raw
    finally:
        connection.close()


def _emit_begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN_OPTION, "BEGIN"))


def _connect_writable(path: Path, *, create: bool) -> sqlite3.Connection:
    connection = connect(path, "rwc" if create else "rw", MAINTENANCE_TIMEOUT_S)
    with close_on_error(connection):
        connection.execute("PRAGMA foreign_keys = ON")
        # NORMAL would lose commits that were acknowledged when the power goes.
        connection.execute("PRAGMA synchronous = FULL")
        # Kept in the file: readers go on while a writer commits.
        connection.execute("PRAGMA journal_mode = WAL")
    return connection


def _raise_translated(context: ExceptionContext, path: Path) -> None:
    """Raise what a user can act on in place of SQLite's own error, where there is such a thing."""
    original = context.original_exception
    translated = translate_error(original, path)
    if translated is not None:
        raise translated from original
