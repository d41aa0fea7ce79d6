"""The locks of writers of an index whose catalog is in PostgreSQL: advisory locks of a session.

Runs that add a source take the lock of the index shared, and one of their source; what needs the
whole index takes the lock of the index alone. The server frees them when the connection ends, also
after a kill. It notices the loss of a host after a minute (``tcp_keepalives_idle``).
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import Final

import psycopg

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S
from mmsearch.catalog.postgres import PostgresDatabase, PostgresPlace, connect
from mmsearch.catalog.rows import relative_to
from mmsearch.core.display import display_path
from mmsearch.core.errors import IndexLockedError, StorageError, UsageError
from mmsearch.core.records import FOLDER_KIND, RECORDS_KIND, Root

_POLL_S: Final = 0.1
_NAME: Final = "mmsearch writer"
_INDEX: Final = b"index"
_FILES: Final = b"files"
_HINT: Final = "Wait until it finishes, or stop it; queries still work."
_SOURCE_HINT: Final = "Wait until it finishes, or stop it; other sources can be indexed meanwhile."

_HOLDERS: Final = (
    "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (CAST(classid AS BIGINT) << 32 | CAST(objid AS BIGINT)) = ? ORDER BY backend_start"
)


class _Session:
    """A connection that holds locks of an index.

    Args:
        place: The catalog, whose schema need not exist yet.

    Raises:
        StorageError: The server cannot be reached.
    """

    def __init__(self, place: PostgresPlace) -> None:
        connection = connect(place, MAINTENANCE_TIMEOUT_S)
        self._db = PostgresDatabase(connection, place)
        name = f"{_NAME} {os.getpid()} {socket.gethostname()}"
        self._db.query("SELECT set_config('application_name', ?, false)", [name])

    def try_lock(self, name: bytes, *, shared: bool = False) -> bool:
        """Take a lock if no other session has it in a way that excludes this; return if so."""
        suffix = "_shared" if shared else ""
        rows = self._db.query(f"SELECT pg_try_advisory_lock{suffix}(?)", [self._key(name)])
        return bool(rows[0][0])

    def wait_for(self, name: bytes, deadline_s: float, *, shared: bool = False) -> bool:
        """Take a lock as soon as that is possible; return False at the deadline."""
        while not self.try_lock(name, shared=shared):
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_POLL_S)
        return True

    def check(self) -> None:
        """Raise a `StorageError` if the connection is lost, and so are its locks."""
        self._db.query("SELECT 1")

    def unlock(self, name: bytes, *, shared: bool = False) -> None:
        """Free a lock, also on a connection that is lost."""
        suffix = "_shared" if shared else ""
        with suppress(psycopg.Error):
            # Not by `query`, which raises errors after the deadline of a caller.
            self._db.connection.execute(
                f"SELECT pg_advisory_unlock{suffix}(%s)".encode(), [self._key(name)]
            )

    def holders(self, name: bytes) -> list[str]:
        """Return process, host and start of each other session that has a lock, oldest first."""
        found = []
        for application, since in self._db.query(_HOLDERS, [self._key(name)]):
            process, _, host = application.removeprefix(_NAME).strip().partition(" ")
            since_utc = since.astimezone(UTC)
            found.append(f"process {process} on {host} since {since_utc:%Y-%m-%dT%H:%M:%S+00:00}")
        return found

    def close(self) -> None:
        """Close the connection, which frees all its locks a moment later."""
        self._db.connection.close()

    def _key(self, name: bytes) -> int:
        schema = self._db.place.schema.encode()
        digest = hashlib.blake2b(name, key=hashlib.sha256(schema).digest(), digest_size=8)
        return int.from_bytes(digest.digest(), "big", signed=True)


class AdvisoryLock:
    """Lock of a whole index, as a `Lock`: a session of PostgreSQL holds it.

    Args:
        place: The catalog, whose schema need not exist yet.
        name: Name of the index, for messages.
    """

    def __init__(self, place: PostgresPlace, name: str) -> None:
        self._place = place
        self._name = name
        self._session: _Session | None = None

    @property
    def holder(self) -> str | None:
        """Process, host and start of the holder; None while nobody holds it."""
        return _join(list_holders(self._place))

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock; see `Lock.acquire`.

        Raises:
            IndexLockedError: Another writer holds the lock; the message names it.
            StorageError: The server cannot be reached.
            UsageError: ``timeout_s`` is not a number.
        """
        deadline_s = _deadline(timeout_s)
        if self._session is not None:
            return
        session = _Session(self._place)
        try:
            _take_index(session, self._name, deadline_s, shared=False)
        except BaseException:
            session.close()
            raise
        self._session = session

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._session is None:
            return
        session, self._session = self._session, None
        # Closing alone would free it a moment later.
        session.unlock(_INDEX)
        session.close()


class RunLock:
    """The right of a run to add a source to an index beside other runs; not thread-safe.

    Args:
        place: The catalog, whose schema need not exist yet.
        name: Name of the index, for messages.
        timeout_s: Maximum seconds to wait for other writers.

    Raises:
        IndexLockedError: A writer needs the whole index; the message names it.
        StorageError: The server cannot be reached.
        UsageError: ``timeout_s`` is not a number.
    """

    def __init__(self, place: PostgresPlace, name: str, timeout_s: float = 0.0) -> None:
        self._name = name
        self._deadline_s = _deadline(timeout_s)
        self._session = session = _Session(place)
        self._locked: list[tuple[bytes, bool]] = []
        try:
            _take_index(session, name, self._deadline_s, shared=True)
            self._locked.append((_INDEX, True))
            # Another run has this one alone only while it removes files.
            session.wait_for(_FILES, math.inf, shared=True)
            self._locked.append((_FILES, True))
        except BaseException:
            session.close()
            raise

    def release(self) -> None:
        """Release all locks."""
        for name, shared in reversed(self._locked):
            self._session.unlock(name, shared=shared)
        self._locked = []
        self._session.close()

    def take_source(self, kind: str, uri: bytes, read_roots: Callable[[], Iterable[Root]]) -> None:
        """Take the lock of the source that is to be written.

        The source of a folder is the root that covers it. It excludes runs on folders inside and
        around it, because a new root takes over those inside.

        Args:
            kind: See `SourceRecord`.
            uri: Path or URI of the source, or of a folder in it.
            read_roots: Returns the roots of the catalog.

        Raises:
            IndexLockedError: Another run writes it; the message names that.
        """
        while True:
            place = _find_root(uri, read_roots()) if kind == FOLDER_KIND else uri
            locks = _source_locks(kind, place)
            self._wait_for_all(locks, kind, place)
            # Another run may have added a root around the folder before.
            if kind != FOLDER_KIND or _find_root(uri, read_roots()) == place:
                self._locked += locks
                return
            self._unlock(locks)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep other runs from starting if none is active now; yield True if so."""
        is_alone = self._try_lock(_FILES)
        try:
            yield is_alone
        finally:
            if is_alone:
                self._session.unlock(_FILES)

    @contextmanager
    def one_at_a_time(self, work: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Wait until no other run does this work, and exclude others from it.

        Args:
            work: Name of the work.
            on_wait: Called before a wait.
        """
        name = b"work " + work.encode()
        if not self._try_lock(name):
            on_wait()
            while not self._try_lock(name):
                time.sleep(_POLL_S)
        try:
            yield
        finally:
            self._session.unlock(name)

    def check(self) -> None:
        """Check that the locks are held since they were taken.

        Otherwise another run may have been alone meanwhile, and may have removed files of this one.

        Raises:
            StorageError: The connection is lost, for example because the server was restarted.
        """
        with self._lost_if_unreachable():
            self._session.check()

    @contextmanager
    def _lost_if_unreachable(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise StorageError(
                f"The connection that holds the locks of index {self._name!r} was lost.",
                "Run again; all committed data is safe.",
            ) from error

    def _try_lock(self, name: bytes) -> bool:
        with self._lost_if_unreachable():
            return self._session.try_lock(name)

    def _wait_for_all(self, locks: Sequence[tuple[bytes, bool]], kind: str, uri: bytes) -> None:
        while True:
            for count, (name, shared) in enumerate(locks):
                if not self._session.try_lock(name, shared=shared):
                    self._unlock(locks[:count])
                    break
            else:
                return
            if time.monotonic() >= self._deadline_s:
                holder = _join(self._session.holders(name)) or "another process"
                what = "A program's pictures" if kind == RECORDS_KIND else display_path(uri)
                verb = "are being added" if kind == RECORDS_KIND else "is being indexed"
                raise IndexLockedError(
                    f"{what} {verb} to {self._name!r} by {holder}.", _SOURCE_HINT
                )
            time.sleep(_POLL_S)

    def _unlock(self, locks: Sequence[tuple[bytes, bool]]) -> None:
        for name, shared in reversed(locks):
            self._session.unlock(name, shared=shared)


def list_holders(place: PostgresPlace) -> tuple[str, ...]:
    """Return process, host and start of each writer of an index, oldest first.

    Raises:
        StorageError: The server cannot be reached.
    """
    session = _Session(place)
    try:
        return tuple(session.holders(_INDEX))
    finally:
        session.close()


def _source_locks(kind: str, uri: bytes) -> list[tuple[bytes, bool]]:
    """Return the locks of a source, and whether they are shared."""
    if kind != FOLDER_KIND:
        return [(b"source " + uri, False)]
    parts = uri.strip(b"/").split(b"/") if uri.strip(b"/") else []
    around = [b"folder /" + b"/".join(parts[:count]) for count in range(len(parts))]
    return [*((name, True) for name in around), (b"folder /" + b"/".join(parts), False)]


def _find_root(folder: bytes, roots: Iterable[Root]) -> bytes:
    """Return the root that covers a folder; the folder itself if none does."""
    for root in roots:
        if relative_to(root.path, folder) is not None:
            return root.path
    return folder


def _deadline(timeout_s: float) -> float:
    if math.isnan(timeout_s):
        raise UsageError(f"The time to wait for another writer is {timeout_s}.", "Give seconds.")
    return time.monotonic() + timeout_s


def _take_index(session: _Session, name: str, deadline_s: float, *, shared: bool) -> None:
    if not session.wait_for(_INDEX, deadline_s, shared=shared):
        holder = _join(session.holders(_INDEX)) or "another process"
        raise IndexLockedError(f"Index {name!r} is being written by {holder}.", _HINT)


def _join(holders: Sequence[str]) -> str | None:
    """Return who holds a lock, as messages say it; None if nobody does."""
    if len(holders) < 2:
        return holders[0] if holders else None
    others = len(holders) - 1
    return f"{holders[0]} and {others} other run{'s' if others > 1 else ''}"
