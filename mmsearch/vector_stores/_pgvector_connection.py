"""Connections to PostgreSQL with pgvector: a pool for threads, types, timeouts and errors."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from mmsearch.core import deadlines
from mmsearch.core.errors import (
    MMSearchError,
    ServerError,
    UnauthorizedError,
    UnreachableError,
)
from mmsearch.core.types import Vectors
from mmsearch.storage.places import clean_postgres_reason
from mmsearch.vector_stores._pointer import REBUILD_HINT

Result = TypeVar("Result")

PASSWORD_VARIABLE = "MMSEARCH_SEARCH_PASSWORD"  # noqa: S105 - the name of a variable

CONNECT_TIMEOUT_S = 5

QUERY_TIMEOUT_S = 30.0
"""Maximum seconds of a statement of a search, if the caller has no earlier deadline."""

MAX_IDLE = 8
"""Maximum number of idle connections that are kept."""

CANDIDATES = 1000
"""Candidates of each search of the graph: ``hnsw.ef_search``, whose maximum this is."""

# A scan that goes on until enough rows pass a filter ends after 20,000 rows by default.
_MAX_SCAN_ROWS = 2_000_000_000
_SESSION = (
    f"SET hnsw.ef_search = {CANDIDATES};"
    f" SET hnsw.max_scan_tuples = {_MAX_SCAN_ROWS};"
    " SET hnsw.scan_mem_multiplier = 8;"
    " SET client_min_messages = warning"
)
_DISK_FULL, _CANCELED, _UNDEFINED_TABLE, _NO_EXTENSION = "53100", "57014", "42P01", "0A000"
_UNDEFINED_TYPE, _NO_PRIVILEGE = "42704", "42501"


class Halfvec(bytes):
    """A vector in the binary format of the type ``halfvec``."""


class Vector(bytes):
    """A vector in the binary format of the type ``vector``."""


def to_halfvec(row: NDArray[np.float32]) -> Halfvec:
    """Return a vector as float16, (dim,)."""
    return Halfvec(struct.pack(">hh", len(row), 0) + row.astype(">f2").tobytes())


def to_vector(row: NDArray[np.float32]) -> Vector:
    """Return a vector as float32, (dim,)."""
    return Vector(struct.pack(">hh", len(row), 0) + row.astype(">f4").tobytes())


def from_halfvecs(stored: list[bytes], dim: int) -> Vectors:
    """Return vectors in the binary format of ``halfvec`` as float32 (n, dim)."""
    data = b"".join(one[4:] for one in stored)
    return np.frombuffer(data, dtype=">f2").astype(np.float32).reshape(-1, dim)


class _BytesDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        return bytes(obj)


class ConnectionPool:
    """Connections to one server for many threads; none is opened before it is needed.

    Args:
        url: ``postgresql+psycopg://user@host:port/database?sslmode=...``; the password comes
            from the environment.
    """

    def __init__(self, url: str) -> None:
        self._parameters = connection_parameters(url)
        # Without it, libpq reads PGPASSWORD or ~/.pgpass.
        if password := os.environ.get(PASSWORD_VARIABLE):
            self._parameters["password"] = password
        self.address = f"{self._parameters.get('host', 'localhost')}"
        if "port" in self._parameters:
            self.address += f":{self._parameters['port']}"
        self._idle: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    @contextmanager
    def connection(
        self, timeout_s: float | None = QUERY_TIMEOUT_S
    ) -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection in autocommit mode, whose errors are translated.

        Args:
            timeout_s: Maximum seconds of a statement; None for any time. An earlier deadline counts
                in any case.

        Raises:
            UnreachableError: The server does not answer.
            UnauthorizedError: It refuses the user or the password.
            DeadlineError: The deadline has passed.
            ServerError: It reports another error.
        """
        with self._translated_errors():
            connection = self._take()
            is_usable = False
            try:
                _set_timeout(connection, timeout_s)
                yield connection
                is_usable = True
            except (psycopg.Error, MMSearchError):
                is_usable = not connection.closed and not connection.broken
                raise
            finally:
                self._put(connection, is_usable=is_usable)

    def run(self, work: Callable[[psycopg.Connection[Any]], Result]) -> Result:
        """Return what a function that only reads returns; call it again if its connection is lost.

        A server that was started again has closed the idle connections.
        """
        try:
            with self.connection() as connection:
                return work(connection)
        except UnreachableError:
            self.forget_idle()
            with self.connection() as connection:
                return work(connection)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are free."""
        self._is_closed = True
        self.forget_idle()

    def forget_idle(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> psycopg.Connection[Any]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = psycopg.connect(
            **self._parameters,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            # Plans depend on the values: an array of ten ids or of a million.
            prepare_threshold=None,
            application_name="mmsearch",
        )
        try:
            _register_types(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put(self, connection: psycopg.Connection[Any], *, is_usable: bool) -> None:
        with self._lock:
            if is_usable and not self._is_closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        with suppress(psycopg.Error):
            connection.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: psycopg.Error) -> MMSearchError:  # noqa: PLR0911 - one per case
        state = error.sqlstate or ""
        text = clean_postgres_reason(error.diag.message_primary or str(error))[:300]
        if state == _CANCELED:
            if deadlines.is_expired():
                return deadlines.deadline_error()
            return UnreachableError(
                f"The search server {self.address} took longer than {QUERY_TIMEOUT_S:g} seconds.",
                "Retry when it is less busy.",
            )
        if state == _DISK_FULL:
            return ServerError(
                f"The disk of the search server {self.address} is full.",
                "Free space there and run again.",
            )
        if state == _UNDEFINED_TABLE:
            return ServerError(
                f"The search server {self.address} lacks the collection of this index.",
                REBUILD_HINT,
            )
        if state in (_NO_EXTENSION, _UNDEFINED_TYPE) and ("vector" in text or "halfvec" in text):
            return missing_extension_error(self.address)
        if state == _NO_PRIVILEGE or state.startswith("28") or _is_refused(text):
            return UnauthorizedError(
                f"The search server {self.address} refuses the user: {text}.",
                f"Set ${PASSWORD_VARIABLE}, or give the user the rights to create a schema.",
            )
        if isinstance(error, psycopg.OperationalError):
            return UnreachableError(
                f"The search server {self.address} does not answer: {text}.",
                "Check that it runs, and that its address is right.",
            )
        return ServerError(f"The search server {self.address} reports an error: {text}.")


def missing_extension_error(address: str) -> ServerError:
    """Return the error for a server without pgvector."""
    return ServerError(
        f"The database on {address} lacks the extension pgvector.",
        "Install pgvector 0.8.7 or newer there, and run CREATE EXTENSION vector as its owner.",
    )


def connection_parameters(url: str) -> dict[str, Any]:
    """Return the parameters of libpq for a URL that `mmsearch.storage.places` has checked."""
    split = urlsplit(url)
    parameters: dict[str, Any] = {"dbname": unquote(split.path.strip("/"))}
    if split.username:
        parameters["user"] = unquote(split.username)
    if split.hostname:
        parameters["host"] = split.hostname
    if split.port:
        parameters["port"] = split.port
    query = dict(parse_qsl(split.query))
    return parameters | {name: query[name] for name in ("host", "port", "sslmode") if name in query}


def _register_types(connection: psycopg.Connection[Any]) -> None:
    """Let a connection send vectors, if the database has pgvector, and set its search."""
    has_vectors = True
    for name, kind in (("halfvec", Halfvec), ("vector", Vector)):
        info = TypeInfo.fetch(connection, name)
        if info is None:
            has_vectors = False
            continue
        info.register(connection)
        dumper = type(f"{name.title()}Dumper", (_BytesDumper,), {"oid": info.oid})
        connection.adapters.register_dumper(kind, dumper)
    if has_vectors:
        # The library of the extension, which knows these settings, is loaded by its first use.
        connection.execute("SELECT '[1]'::halfvec")
        connection.execute(_SESSION)


def _set_timeout(connection: psycopg.Connection[Any], timeout_s: float | None) -> None:
    left_s = deadlines.seconds_left()
    if left_s is not None and left_s <= 0:
        raise deadlines.deadline_error()
    limits_s = [limit for limit in (timeout_s, left_s) if limit is not None]
    timeout_ms = max(1, round(1000 * min(limits_s))) if limits_s else 0
    connection.execute(f"SET statement_timeout = {timeout_ms}".encode())


def _is_refused(text: str) -> bool:
    """Return True if a connection failed because of its user or password."""
    words = ("authentication", "no password supplied", "role ", "pg_hba")
    return any(word in text for word in words)
