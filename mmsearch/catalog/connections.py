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

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import NullPool, QueuePool

from mmsearch.core.errors import DamagedFileError, IndexLockedError, MMSearchError, StateError
from mmsearch.core.faults import FaultPoint, reach

BUSY_TIMEOUT_S = 10.0
_BEGIN = "mmsearch_begin"

_REPAIR = "Run 'mmsearch repair': it makes the catalog again without encoding what it can reuse."
_PERMISSIONS = "Look at its permissions, and at the disk."
_WAIT = "Wait until the other program has finished, or stop it."
_READABLE: dict[int, tuple[type[MMSearchError], str, str]] = {
    sqlite3.SQLITE_NOTADB: (DamagedFileError, "{path} is not an SQLite database.", _REPAIR),
    sqlite3.SQLITE_CORRUPT: (DamagedFileError, "{path} is damaged: {error}.", _REPAIR),
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
        reach(FaultPoint.TRANSACTION_BEGUN)
        yield connection
        reach(FaultPoint.TRANSACTION_READY)
    reach(FaultPoint.TRANSACTION_COMMITTED)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads: from its first read on, it sees one state."""
    with engine.connect() as connection:
        yield connection


def empty_wal(engine: Engine) -> None:
    """Move everything from the -wal file into the database, unless a reader still needs it."""
    connection = engine.raw_connection()
    try:
        with suppress(sqlite3.OperationalError):
            # In no transaction, hence not through SQLAlchemy, which would begin one.
            cursor = connection.cursor()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.close()
    finally:
        connection.close()


def vacuum(engine: Engine) -> None:
    """Write the database anew without free pages; killed meanwhile, it stays as it was."""
    connection = engine.raw_connection()
    try:
        connection.cursor().execute("VACUUM")
    finally:
        connection.close()
    empty_wal(engine)


def copy_database(engine: Engine, path: Path) -> None:
    """Copy one state of a database, page by page, with SQLite's backup API.

    https://www.sqlite.org/backup.html: while another connection writes, the copy begins anew; it
    is made in one step here, which holds a read transaction, so it never has to.
    """
    source = engine.raw_connection()
    try:
        with closing(sqlite3.connect(path)) as target:
            raw = source.driver_connection
            if not isinstance(raw, sqlite3.Connection):
                raise TypeError("not a connection of sqlite3")
            raw.backup(target)
            # The copy has no readers beside it: one file is enough.
            target.execute("PRAGMA journal_mode = DELETE")
    finally:
        source.close()
    with path.open("rb+") as file:
        os.fsync(file.fileno())


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


# A folder that cannot be written, and a disk without room for the -shm file.
_NO_SHARED_MEMORY = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
}


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
            if _primary(error) not in _NO_SHARED_MEMORY:
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
