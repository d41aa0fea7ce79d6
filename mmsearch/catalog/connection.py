"""Access to the SQLite file with Python's sqlite3: connections, reads, and error translation.

Queries avoid SQLAlchemy because importing it takes longer than a query. Each statement has a
timeout, and stops at the caller's deadline: SQLite calls a progress handler after every N steps of
its virtual machine (https://www.sqlite.org/c3ref/progress_handler.html), and ends the statement
with SQLITE_INTERRUPT if the handler returns true.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from time import monotonic
from typing import Any

from mmsearch.catalog.dialects import FOLD_FUNCTION, SQLITE, Dialect
from mmsearch.core import deadlines
from mmsearch.core.errors import (
    DamagedFileError,
    DiskFullError,
    Hint,
    IndexLockedError,
    MMSearchError,
    StateError,
    StorageError,
    to_storage_error,
)
from mmsearch.core.files import create_file

BUSY_TIMEOUT_S = 10.0

QUERY_TIMEOUT_S = 30.0
"""Timeout of a reader's statement, in seconds."""

MAINTENANCE_TIMEOUT_S = 3600.0
"""Timeout of a statement of a writer or a check, in seconds; it may read every row."""

PROGRESS_CHECK_STEPS = 1_000_000
"""Steps between two calls of the handler, some tens of milliseconds. The handler has to wait for
the GIL, which other threads may hold for five milliseconds."""

_FileVersion = tuple[int, ...]

_REPAIR_HINT = Hint(
    "{} to rebuild the catalog; it reuses all the vectors it can.",
    "Call index.repair()",
    "Run 'mmsearch repair'",
)
_PERMISSIONS_HINT = "Check its permissions and the disk."
_WAIT_HINT = "Wait until the other program has finished, or stop it."
_ERRORS_BY_CODE: dict[int, tuple[type[MMSearchError], str, str]] = {
    sqlite3.SQLITE_NOTADB: (DamagedFileError, "{path} is not an SQLite database.", _REPAIR_HINT),
    sqlite3.SQLITE_CORRUPT: (DamagedFileError, "{path} is damaged: {error}.", _REPAIR_HINT),
    sqlite3.SQLITE_BUSY: (IndexLockedError, "{path} is held by another program.", _WAIT_HINT),
    sqlite3.SQLITE_LOCKED: (IndexLockedError, "{path} is held by another program.", _WAIT_HINT),
    sqlite3.SQLITE_PROTOCOL: (IndexLockedError, "{path} is held by another program.", _WAIT_HINT),
    sqlite3.SQLITE_PERM: (StorageError, "{path} cannot be opened: {error}.", _PERMISSIONS_HINT),
    sqlite3.SQLITE_FULL: (
        DiskFullError,
        "There is no room left on the disk of {path}.",
        "Free some space; all committed data is safe.",
    ),
    sqlite3.SQLITE_READONLY: (
        StorageError,
        "{path} cannot be written: {error}.",
        _PERMISSIONS_HINT,
    ),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "{path} cannot be opened: {error}.", _PERMISSIONS_HINT),
    sqlite3.SQLITE_IOERR: (
        StorageError,
        "{path} cannot be read or written: {error}.",
        _PERMISSIONS_HINT,
    ),
}


_interrupted = threading.local()

_NOT_UTF8_MESSAGE = "Could not decode to UTF-8"


class TimeoutConnection(sqlite3.Connection):
    """A sqlite3 connection with a timeout for each statement."""

    _timeout_s = QUERY_TIMEOUT_S
    _deadline_s = 0.0

    def set_timeout(self, timeout_s: float) -> None:
        """Set the timeout of each statement, in seconds."""
        self._timeout_s = timeout_s
        self.set_progress_handler(self._is_expired, PROGRESS_CHECK_STEPS)

    def start_timer(self) -> None:
        """Start the timeout of a statement."""
        self._deadline_s = monotonic() + self._timeout_s

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Run a statement with the timeout."""
        self._deadline_s = monotonic() + self._timeout_s
        return super().execute(*arguments)

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that starts the timeout with each statement."""
        return super().cursor(factory or _TimeoutCursor)

    def _is_expired(self) -> bool:
        if monotonic() > self._deadline_s:
            _interrupted.limit_s = self._timeout_s
            return True
        if deadlines.is_expired():
            _interrupted.limit_s = None
            return True
        return False


class _TimeoutCursor(sqlite3.Cursor):
    def execute(self, *arguments: Any) -> _TimeoutCursor:
        self.connection.start_timer()  # type: ignore[attr-defined]
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> _TimeoutCursor:
        self.connection.start_timer()  # type: ignore[attr-defined]
        return super().executemany(*arguments)


class ReadConnection:
    """A `Database` of SQLite: a connection that reads rows and translates errors.

    Args:
        connection: A sqlite3 connection with ``isolation_level=None``.
        path: The database, for error messages.

    Attributes:
        connection: The sqlite3 connection.
        path: The database.
        dialect: SQLite's.
    """

    dialect: Dialect = SQLITE

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    def query(
        self, statement: str, parameters: Mapping[str, object] | Sequence[object] = ()
    ) -> list[tuple[Any, ...]]:
        """Run a statement and return all its rows.

        Raises:
            MMSearchError: SQLite reports an error that the user can act on.
        """
        try:
            return self.connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            translated = translate_error(error, self.path)
            if translated is None:
                raise
            raise translated from error

    def count_changes(self) -> int:
        """Return the number of rows that the connection has ever changed."""
        return self.connection.total_changes

    def attempt(self) -> AbstractContextManager[None]:
        """Do nothing: a statement that fails ends no transaction."""
        return nullcontext()

    def enable_folding(self) -> None:
        """Register `fold_text` as an SQL function."""
        from mmsearch.core.query import fold_text  # noqa: PLC0415 - only filters need it

        self.connection.create_function(FOLD_FUNCTION, 1, fold_text, deterministic=True)

    def iterate(
        self, statement: str, parameters: Mapping[str, object] | Sequence[object] = ()
    ) -> Iterator[tuple[Any, ...]]:
        """Run a statement and yield its rows, without holding all of them.

        Raises:
            MMSearchError: SQLite reports an error that the user can act on.
        """
        with translated_errors(self.path):
            yield from self.connection.execute(statement, parameters)


class ReadPool:
    """A connection pool for repeated reads of a database, each of its latest state.

    One idle connection is kept for reuse while the file stays the same: opening a connection takes
    longer than reading the rows that a query needs.

    Args:
        path: The database.
        check: Called for each new connection; raises an error for a database that mmsearch did
            not create.
        timeout_s: Timeout of each statement, in seconds; default `QUERY_TIMEOUT_S`.
    """

    def __init__(
        self,
        path: Path,
        check: Callable[[ReadConnection, Path], None] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._path = path
        self._check = check
        self._timeout_s = timeout_s
        self._idle: list[tuple[_FileVersion, TimeoutConnection]] = []

    @contextmanager
    def read_transaction(self) -> Iterator[ReadConnection]:
        """Open a read transaction, which sees one state from its first read on.

        Raises:
            MMSearchError: The file cannot be read.
        """
        file_version, connection, is_new = self._open()
        if is_new and self._timeout_s is not None:
            connection.set_timeout(self._timeout_s)
        db = ReadConnection(connection, self._path)
        try:
            db.query("BEGIN")
            if is_new and self._check is not None:
                self._check(db, self._path)
            yield db
            db.query("COMMIT")
        except BaseException:
            connection.close()
            raise
        if file_version is None or self._idle:
            connection.close()
        else:
            self._idle.append((file_version, connection))

    def close(self) -> None:
        """Close the idle connection; the next read opens a new one."""
        with suppress(IndexError):
            while True:
                self._idle.pop()[1].close()

    def _open(self) -> tuple[_FileVersion | None, TimeoutConnection, bool]:
        """Return the file version, the connection, and True if the connection is new.

        A connection without a file version (None) must not be reused.
        """
        file_version = _file_version(self._path)
        with suppress(IndexError):
            opened_version, connection = self._idle.pop()
            if opened_version == file_version:
                return file_version, connection, False
            connection.close()
        with translated_errors(self._path):
            shared_connection = _connect_shared(self._path)
            if shared_connection is not None:
                return file_version, shared_connection, True
            return None, _connect_immutable(self._path), True


class PinnedConnection:
    """One connection that reads the same state of a database until it is closed.

    Args:
        path: The database.
        check: Raises an error for a database that mmsearch did not create.

    Raises:
        MMSearchError: The database cannot be read.
    """

    def __init__(self, path: Path, check: Callable[[ReadConnection, Path], None]) -> None:
        with translated_errors(path):
            connection = connect_read_only(path)
        with close_on_error(connection):
            # A check may read every row.
            connection.set_timeout(MAINTENANCE_TIMEOUT_S)
            self._db = ReadConnection(connection, path)
            self._db.query("BEGIN")
            check(self._db, path)

    @contextmanager
    def read_transaction(self) -> Iterator[ReadConnection]:
        """Return the connection, whose only transaction is always open."""
        yield self._db

    def close(self) -> None:
        """Close the connection."""
        self._db.connection.close()


def translate_error(error: BaseException, path: Path) -> MMSearchError | KeyboardInterrupt | None:
    """Translate SQLite's error into one that the user can act on; None for other errors."""
    if not isinstance(error, sqlite3.Error):
        return None
    # Errors raised by Python's sqlite3 module itself have no code.
    if not hasattr(error, "sqlite_errorcode"):
        if _NOT_UTF8_MESSAGE in str(error):
            return DamagedFileError(
                f"{path} is damaged: it holds text that is not UTF-8.", _REPAIR_HINT
            )
        return None
    if _primary_code(error) == sqlite3.SQLITE_INTERRUPT:
        return interrupt_error(path)
    if _primary_code(error) == sqlite3.SQLITE_CORRUPT:
        disk_error = _disk_error(error, path)
        if disk_error is not None:
            return disk_error
    error_class, template, hint = _ERRORS_BY_CODE.get(_primary_code(error), (None, "", ""))
    return (
        None if error_class is None else error_class(template.format(path=path, error=error), hint)
    )


def interrupt_error(path: object) -> MMSearchError | KeyboardInterrupt:
    """Return the error for a statement of this thread that ended with SQLITE_INTERRUPT.

    Args:
        path: The database, for error messages.
    """
    if not hasattr(_interrupted, "limit_s"):
        # A signal handler raised inside the progress handler, and SQLite swallowed the exception.
        return KeyboardInterrupt()
    limit_s = _interrupted.limit_s
    del _interrupted.limit_s
    if limit_s is None:
        return deadlines.deadline_error()
    return StateError(
        f"Reading {path} took longer than {limit_s:,.0f} seconds.",
        Hint(
            "Try again if the disk was busy, or {} to see if the index is damaged.",
            "call index.check()",
            "run 'mmsearch check'",
        ),
    )


def _disk_error(error: sqlite3.Error, path: Path) -> MMSearchError | None:
    """Return an error if a failing disk may be the cause of SQLite's error, not a damaged file.

    When the operating system fails to read (EIO), SQLite reports SQLITE_CORRUPT: "vdbe.c" converts
    SQLITE_IOERR_CORRUPTFS to it. So this reads and checks the whole database once more.
    """
    try:
        for file in (path, path.with_name(path.name + "-wal")):
            with suppress(FileNotFoundError):
                _read_to_end(file)
    except OSError as disk_error:
        return to_storage_error(disk_error)
    if error.sqlite_errorcode == sqlite3.SQLITE_CORRUPT_VTAB:
        # Damage in a full-text table: quick_check skips these, and a failing disk never causes
        # this code.
        return None
    with suppress(sqlite3.Error), closing(connect(path, "ro")) as connection:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result == "ok" or is_unreadable_page(result):
            return unconfirmed_damage_error(path)
    return None


def _read_to_end(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(_READ_CHUNK_BYTES):
            pass


_READ_CHUNK_BYTES = 1 << 20
_PAGE_ERROR = re.compile(r"error code=(\d+)")


def is_unreadable_page(line: str) -> bool:
    """Return True if a line of SQLite's integrity check reports a page that could not be read."""
    code_match = _PAGE_ERROR.search(line)
    return code_match is not None and int(code_match[1]) & 0xFF != sqlite3.SQLITE_CORRUPT


def unconfirmed_damage_error(path: Path) -> StorageError:
    """Return the error for a database that could not be read but shows no damage."""
    return StorageError(
        f"{path} could not be read, though no damage was found: the disk may be failing.",
        "Run it again, and check the system log.",
    )


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into errors that the user can act on; see `translate_error`."""
    try:
        yield
    except sqlite3.Error as error:
        translated = translate_error(error, path)
        if translated is None:
            raise
        raise translated from error


# Codes for a folder that cannot be written, and for a disk without room for the -shm file.
_SHARED_MEMORY_ERRORS = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
}


def reject_journal(path: Path) -> None:
    """Raise an error if a rollback journal exists beside the database.

    A catalog is a WAL database, which has no such journal. SQLite would play back a planted
    journal and delete the file that it names as its super-journal, wherever that file is.

    Raises:
        DamagedFileError: A rollback journal exists.
    """
    journal = path.with_name(f"{path.name}-journal")
    if os.path.lexists(journal):
        raise DamagedFileError(f"{journal} is not a file of a catalog.", _REPAIR_HINT)


def connect_read_only(path: Path) -> TimeoutConnection:
    """Open a WAL database for reading, even in a folder that cannot be written.

    SQLite needs a -shm file beside a WAL database. If it can neither use nor create one, the
    database can still be opened as immutable, provided that no -wal file holds commits that are
    not in the database yet.
    """
    return _connect_shared(path) or _connect_immutable(path)


def _connect_shared(path: Path) -> TimeoutConnection | None:
    """Open a connection that works beside writers; return None if no -shm file can be used."""
    connection = connect(path, "ro")
    with close_on_error(connection):
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except sqlite3.OperationalError as error:
            if _primary_code(error) not in _SHARED_MEMORY_ERRORS:
                raise
            if not path.is_file() or has_content(path.with_name(path.name + "-wal")):
                raise
        else:
            return connection
    connection.close()
    return None


def _connect_immutable(path: Path) -> TimeoutConnection:
    return connect(path, "ro&immutable=1")


def connect(path: Path, mode: str, timeout_s: float = QUERY_TIMEOUT_S) -> TimeoutConnection:
    """Open a connection that never begins a transaction implicitly.

    Args:
        path: The database.
        mode: ``ro``, ``rw`` or ``rwc``, as in SQLite's URIs.
        timeout_s: Timeout of each statement, in seconds.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=TimeoutConnection,
    )
    with close_on_error(connection):
        connection.set_timeout(timeout_s)
        if mode.startswith("ro"):
            # Writers need a trusted schema: their triggers fill FTS5 tables, which SQLite does not
            # consider safe.
            connection.execute("PRAGMA trusted_schema = OFF")
        set_defensive(connection, True)
        # Reads must not depend on free space in the temporary folder.
        connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def copy_database(db: ReadConnection, path: Path) -> None:
    """Copy a database in one step to a file, durably.

    Raises:
        MMSearchError: The database cannot be read, or the copy cannot be written.
        OSError: The copy cannot be written.
    """
    # A file created by SQLite would be readable by everybody.
    create_file(path).close()
    with translated_errors(db.path):
        try:
            with closing(sqlite3.connect(path)) as target:
                db.connection.backup(target)
                # The copy has no concurrent readers, so it needs no WAL files.
                target.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            # This error is about the copy; damage of the source is not an OperationalError.
            raise translate_error(error, path) or error from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def set_defensive(connection: sqlite3.Connection, enabled: bool) -> None:
    """Enable or disable SQLite's defensive mode.

    In this mode SQLite rejects statements that may damage a database, such as writes to FTS5's
    shadow tables: https://www.sqlite.org/c3ref/c_dbconfig_defensive.html. Python 3.11 cannot set
    the mode.
    """
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, enabled)


@contextmanager
def close_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a connection if its setup fails."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _file_version(path: Path) -> _FileVersion | None:
    """Return device, inode, size and mtime of a file, which show a replacement or a change.

    Return None if the file cannot be found.
    """
    with suppress(OSError):
        stat_result = path.stat()
        return stat_result.st_dev, stat_result.st_ino, stat_result.st_size, stat_result.st_mtime_ns
    return None


def has_content(path: Path) -> bool:
    """Return True if a file exists and is not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _primary_code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, without the extended bits."""
    return error.sqlite_errorcode & 0xFF
