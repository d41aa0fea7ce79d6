"""The lock of a writer of an index whose catalog is in PostgreSQL: an advisory lock of a session.

The server frees it when the connection ends, also after a kill. It notices the loss of a host after
a minute (``tcp_keepalives_idle``).
"""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import suppress
from datetime import UTC
from typing import Any

import psycopg

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S
from mmsearch.catalog.postgres import PostgresDatabase, PostgresPlace, connect
from mmsearch.core.errors import IndexLockedError, UsageError

_POLL_S = 0.1
_KEY = "hashtextextended(?, 2)"
_NAME = "mmsearch writer"

_HOLDER = (
    "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)"  # noqa: S608
    " WHERE locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND (CAST(classid AS BIGINT) << 32 | CAST(objid AS BIGINT)) = {_KEY}"
)


class AdvisoryLock:
    """Writer lock of an index, as a `Lock`: a session of PostgreSQL holds it.

    Args:
        place: The catalog, whose schema need not exist yet.
        name: Name of the index, for messages.
    """

    def __init__(self, place: PostgresPlace, name: str) -> None:
        self._place = place
        self._name = name
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def holder(self) -> str | None:
        """Process, host and start of the holder; None while nobody holds it."""
        if self._connection is not None:
            return self._read_holder(self._connection)
        with connect(self._place) as connection:
            return self._read_holder(connection)

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock; see `Lock.acquire`.

        Raises:
            IndexLockedError: Another writer holds the lock; the message names it.
            StorageError: The server cannot be reached.
            UsageError: ``timeout_s`` is not a number.
        """
        if math.isnan(timeout_s):
            raise UsageError(
                f"The time to wait for another writer is {timeout_s}.", "Give seconds."
            )
        if self._connection is not None:
            return
        connection = connect(self._place, MAINTENANCE_TIMEOUT_S)
        try:
            self._wait(PostgresDatabase(connection, self._place), timeout_s)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        db = PostgresDatabase(connection, self._place)
        try:
            # Closing alone would free it a moment later.
            with suppress(psycopg.Error):
                db.query(f"SELECT pg_advisory_unlock({_KEY})", [self._place.schema])
        finally:
            connection.close()

    def _wait(self, db: PostgresDatabase, timeout_s: float) -> None:
        name = f"{_NAME} {os.getpid()} {socket.gethostname()}"
        db.query("SELECT set_config('application_name', ?, false)", [name])
        deadline_s = time.monotonic() + timeout_s
        while True:
            ((is_taken,),) = db.query(f"SELECT pg_try_advisory_lock({_KEY})", [self._place.schema])
            if is_taken:
                return
            if time.monotonic() >= deadline_s:
                holder = self._read_holder(db.connection) or "another process"
                raise IndexLockedError(
                    f"Index {self._name!r} is being written by {holder}.",
                    "Wait until it finishes, or stop it; queries still work.",
                )
            time.sleep(_POLL_S)

    def _read_holder(self, connection: psycopg.Connection[Any]) -> str | None:
        rows = PostgresDatabase(connection, self._place).query(_HOLDER, [self._place.schema])
        if not rows:
            return None
        name, since = rows[0]
        process, _, host = name.removeprefix(_NAME).strip().partition(" ")
        return f"process {process} on {host} since {since.astimezone(UTC):%Y-%m-%dT%H:%M:%S+00:00}"
