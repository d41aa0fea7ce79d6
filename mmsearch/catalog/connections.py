"""Connections to the SQLite file: real transactions, durable commits, readable errors.

Python's sqlite3 begins transactions late and on its own; here its autocommit is switched off
(`isolation_level = None`) and SQLAlchemy's "begin" event says BEGIN itself, as the SQLAlchemy
manual advises under "Serializable isolation / Savepoints / Transactional DDL" of its SQLite page.
So a transaction that only reads is one WAL snapshot from its first read to its end, and one that
writes takes the write lock at once (BEGIN IMMEDIATE) and never has to upgrade.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import NullPool, QueuePool

from mmsearch.core.errors import DamagedFileError, IndexLockedError, MMSearchError, StateError

BUSY_TIMEOUT_S = 10.0
_BEGIN = "mmsearch_begin"

_REMOVE = "The index is damaged; remove it with 'mmsearch remove' and index the folder again."
_PERMISSIONS = "Look at its permissions, and at the disk."
_WAIT = "Wait until the other program has finished, or stop it."
_READABLE: dict[int, tuple[type[MMSearchError], str, str]] = {
    sqlite3.SQLITE_NOTADB: (DamagedFileError, "{path} is not an SQLite database.", _REMOVE),
    sqlite3.SQLITE_CORRUPT: (DamagedFileError, "{path} is damaged: {error}.", _REMOVE),
    sqlite3.SQLITE_BUSY: (IndexLockedError, "{path} is held by another program.", _WAIT),
    sqlite3.SQLITE_FULL: (
        StateError,
        "There is no room left on the disk of {path}.",
        "Free some; what was committed is safe.",
    ),
    sqlite3.SQLITE_READONLY: (StateError, "{path} cannot be written: {error}.", _PERMISSIONS),
    sqlite3.SQLITE_CANTOPEN: (StateError, "{path} cannot be opened: {error}.", _PERMISSIONS),
    sqlite3.SQLITE_IOERR: (StateError, "{path} cannot be read or written: {error}.", _PERMISSIONS),
}


def open_engine(path: Path, *, create: bool, read_only: bool) -> Engine:
    """An engine whose every connection is set up for a catalog.

    A writer keeps its connection, for the last one to close costs a checkpoint. Readers open one
    for each snapshot (a fraction of a millisecond) and so never outlive the file they read.

    Args:
        path: The database.
        create: Make the file if it is missing.
        read_only: Never write, not even the files beside it.
    """

    def connect() -> sqlite3.Connection:
        if read_only:
            return _connect_for_reading(path)
        return _connect_for_writing(path, create=create)

    if read_only:
        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    else:
        engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=2, max_overflow=-1
        )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", lambda context: _translate(context, path))
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: committed at the end, undone by an exception."""
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads: from its first read on, it sees one state."""
    with engine.connect() as connection:
        yield connection


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _connect_for_writing(path: Path, *, create: bool) -> sqlite3.Connection:
    connection = _connect(path, "rwc" if create else "rw")
    with _closed_on_error(connection):
        connection.execute("PRAGMA foreign_keys = ON")
        # NORMAL would lose commits that were acknowledged when the power goes.
        connection.execute("PRAGMA synchronous = FULL")
        # Kept in the file: readers go on while a writer commits.
        connection.execute("PRAGMA journal_mode = WAL")
    return connection


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Read a WAL database, also one in a folder that cannot be written.

    SQLite needs a -shm file beside a WAL database. Where it can neither use nor make one, the
    database can still be read as a file that nobody changes, provided that no -wal file holds
    commits that have not reached it yet.
    """
    connection = _connect(path, "ro")
    with _closed_on_error(connection):
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.OperationalError as error:
            if _primary(error) not in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}:
                raise
            if not path.is_file() or _has_content(path.with_name(path.name + "-wal")):
                raise
        else:
            return connection
    connection.close()
    return _connect(path, "ro&immutable=1")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _primary(error: sqlite3.Error) -> int:
    """SQLite's result code without the bits that tell the cases of one code apart."""
    return error.sqlite_errorcode & 0xFF


def _translate(context: ExceptionContext, path: Path) -> None:
    """Raise what a user can act on in place of SQLite's own error, where there is such a thing."""
    original = context.original_exception
    # sqlite3 raises some errors by itself; those have no code.
    if isinstance(original, sqlite3.Error) and hasattr(original, "sqlite_errorcode"):
        kind, sentence, hint = _READABLE.get(_primary(original), (None, "", ""))
        if kind is not None:
            raise kind(sentence.format(path=path, error=original), hint) from original
