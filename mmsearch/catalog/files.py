"""The SQLite file by Python's own sqlite3: opening it, reading rows, errors that can be acted on.

Queries need no more than this: importing SQLAlchemy would take longer than they do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmsearch.core.errors import DamagedFileError, IndexLockedError, MMSearchError, StateError

BUSY_TIMEOUT_S = 10.0

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


class Rows:
    """Reads rows over a connection.

    Args:
        connection: Of sqlite3, with ``isolation_level=None``.
        path: The database, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self._path = path

    def ask(
        self, statement: str, values: Mapping[str, object] | Sequence[object] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows of a statement.

        Raises:
            MMSearchError: What SQLite says, where there is something to do about it.
        """
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            readable = readable_error(error, self._path)
            if readable is None:
                raise
            raise readable from error


@contextmanager
def reading_file(path: Path) -> Iterator[Rows]:
    """One transaction that only reads: from its first read on, it sees one state."""
    try:
        connection = connect_for_reading(path)
    except sqlite3.Error as error:
        readable = readable_error(error, path)
        if readable is None:
            raise
        raise readable from error
    try:
        connection.execute("BEGIN")
        yield Rows(connection, path)
    finally:
        connection.close()


def readable_error(error: BaseException, path: Path) -> MMSearchError | None:
    """What a user can act on in place of SQLite's own error; None if there is no such thing."""
    # sqlite3 raises some errors by itself; those have no code.
    if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
        return None
    kind, sentence, hint = _READABLE.get(_primary(error), (None, "", ""))
    return None if kind is None else kind(sentence.format(path=path, error=error), hint)


# A folder that cannot be written, and a disk without room for the -shm file.
_NO_SHARED_MEMORY = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
}


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Read a WAL database, also one in a folder that cannot be written.

    SQLite needs a -shm file beside a WAL database. Where it can neither use nor make one, the
    database can still be read as a file that nobody changes, provided that no -wal file holds
    commits that have not reached it yet.
    """
    connection = connect(path, "ro")
    with closed_on_error(connection):
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
    return connect(path, "ro&immutable=1")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that begins no transaction by itself.

    Args:
        path: The database.
        mode: ``ro``, ``rw`` or ``rwc``, as in SQLite's URIs.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Close a connection whose setting up fails."""
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
