"""Connections to a catalog in PostgreSQL: reads, time limits, and error translation.

Each index has a schema of its own. A read transaction is REPEATABLE READ and READ ONLY: it sees one
state. Time limits are the server's ``statement_timeout``, which ends at the caller's deadline.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper, Loader
from psycopg.postgres import types

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S, QUERY_TIMEOUT_S
from mmsearch.catalog.database import Database, Parameters
from mmsearch.catalog.dialects import POSTGRES, Dialect
from mmsearch.catalog.postgres_sql import to_postgres
from mmsearch.core import deadlines
from mmsearch.core.errors import (
    DiskFullError,
    IndexLockedError,
    InvalidQueryError,
    MMSearchError,
    StateError,
    StorageError,
    UsageError,
)
from mmsearch.storage.places import clean_postgres_reason

PASSWORD_VARIABLE = "MMSEARCH_CATALOG_PASSWORD"  # noqa: S105 - a name
SCHEME = "postgresql+psycopg"
CONNECT_TIMEOUT_S = 5
COUNTED_SETTING = "mmsearch.counted"
"""Setting of a transaction: ``on`` while the assets that it inserts are counted already."""

_MAX_NAME_BYTES = 63
_IDLE_CONNECTIONS = 4
_ROWS_PER_FETCH = 2000


@dataclass(frozen=True)
class PostgresPlace:
    """The place of the catalog of an index.

    Attributes:
        url: ``postgresql+psycopg://user@host:port/database``, without a password.
        schema: The schema of the index.
        path: Where the catalog would be as a file, beside the other files of the index.
    """

    url: str
    schema: str
    path: Path

    @property
    def label(self) -> str:
        """The catalog as messages name it."""
        parts = urlsplit(self.url)
        return f"the catalog {self.schema!r} at {parts.hostname or 'localhost'}{parts.path}"


def parse_url(url: str, path: Path) -> PostgresPlace:
    """Return the place of a URL; ``?schema=NAME`` names its schema, by default that of its folder.

    Raises:
        UsageError: The URL is not one of PostgreSQL, has a password, or names no valid schema.
    """
    parts = urlsplit(url)
    if parts.scheme != SCHEME:
        raise UsageError(
            f"{url!r} is not the URL of a catalog.", f"Give {SCHEME}://USER@HOST/DATABASE."
        )
    if parts.password is not None:
        raise UsageError(
            "The URL of the catalog has a password.",
            f"Leave it out, and set {PASSWORD_VARIABLE} or use ~/.pgpass.",
        )
    options = dict(parse_qsl(parts.query))
    schema = options.pop("schema", path.parent.name)
    if not 0 < len(schema.encode()) <= _MAX_NAME_BYTES or schema.startswith("pg_"):
        raise UsageError(
            f"{schema!r} cannot be the name of a schema of PostgreSQL.",
            "Give another one of at most 63 bytes with ?schema=NAME.",
        )
    return PostgresPlace(urlunsplit(parts._replace(query=urlencode(options))), schema, path)


def connect(
    place: PostgresPlace, timeout_s: float = QUERY_TIMEOUT_S, *, writes: bool = False
) -> psycopg.Connection[Any]:
    """Open a connection without implicit transactions, in the schema of the index.

    Args:
        place: The catalog.
        timeout_s: Timeout of each statement, in seconds.
        writes: True for a connection that writes many rows.

    Raises:
        MMSearchError: The server cannot be reached, or refuses the user.
    """
    with translated_errors(place):
        return psycopg.connect(
            place.url.replace(SCHEME, "postgresql", 1),
            autocommit=True,
            context=_ADAPTERS,
            **_connection_options(place, timeout_s, writes=writes),
        )


def _connection_options(place: PostgresPlace, timeout_s: float, *, writes: bool) -> dict[str, Any]:
    settings = {
        "search_path": f"{quoted(place.schema)},public",
        "statement_timeout": str(round(timeout_s * 1000)),
        "TimeZone": _time_zone(),
        # The plans of queries with lists of ids differ by their length. Foreign keys are checked by
        # a statement a row, whose plan is always the same: planning it each time takes longer than
        # the rest of a commit.
        "plan_cache_mode": "auto" if writes else "force_custom_plan",
        "jit": "off",
        # A host that is lost holds no locks for long.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "client_encoding": "UTF8",
        "standard_conforming_strings": "on",
    }
    options: dict[str, Any] = {
        # A space ends a setting, unless a backslash precedes it.
        "options": " ".join(
            f"-c {name}=" + re.sub(r"([\\ ])", r"\\\1", value) for name, value in settings.items()
        ),
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "mmsearch",
    }
    if writes:
        # Statements that are not kept are planned each time.
        options["prepare_threshold"] = None
    password = os.environ.get(PASSWORD_VARIABLE)
    if password:
        options["password"] = password
    return options


def quoted(name: str) -> str:
    """Return a name in quotes, as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _time_zone() -> str:
    """Return the name of the local time zone, or its present offset if it has no name."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        with suppress(OSError):
            name = os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    if re.fullmatch(r"[A-Za-z]+(/[A-Za-z0-9_+-]+)*", name):
        return name
    offset = datetime.now(UTC).astimezone().utcoffset()
    minutes = 0 if offset is None else round(offset.total_seconds() / 60)
    # POSIX counts the other way round.
    sign = "-" if minutes >= 0 else "+"
    return f"<local>{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


class PostgresDatabase:
    """A `Database` of PostgreSQL: a connection that reads rows and translates errors.

    Args:
        connection: A connection of `connect`.
        place: The catalog.

    Attributes:
        connection: The connection.
        path: See `PostgresPlace`.
        dialect: PostgreSQL's.
    """

    dialect: Dialect = POSTGRES

    def __init__(self, connection: psycopg.Connection[Any], place: PostgresPlace) -> None:
        self.connection = connection
        self.place = place
        self.path = place.path

    def query(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return all its rows; none for one that changes rows.

        Raises:
            MMSearchError: The server reports an error that the user can act on.
        """
        if deadlines.is_expired():
            raise deadlines.deadline_error()
        with translated_errors(self.place):
            cursor = self.connection.execute(to_postgres(statement), parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def count_changes(self) -> int:
        """Return the number of rows that the transaction has changed, or earlier ones, too."""
        return int(self.query("SELECT total_changes()")[0][0])

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Set a savepoint, to which an error goes back: it would end the transaction."""
        self.query("SAVEPOINT attempt")
        try:
            yield
        except Exception:
            # Also after the caller's deadline, so not by `query`.
            with translated_errors(self.place):
                self.connection.execute("ROLLBACK TO attempt")
            raise
        self.query("RELEASE attempt")

    def enable_folding(self) -> None:
        """Do nothing: columns hold the folded values."""

    def iterate(self, statement: str, parameters: Parameters = ()) -> Iterator[tuple[Any, ...]]:
        """Run a statement and yield its rows, without holding all of them.

        Raises:
            MMSearchError: The server reports an error that the user can act on.
        """
        with translated_errors(self.place), self.connection.cursor("mmsearch_rows") as cursor:
            cursor.itersize = _ROWS_PER_FETCH
            cursor.execute(to_postgres(statement), parameters)
            yield from cursor


Check = Callable[[Database, PostgresPlace], None]
"""A function that raises an error for a schema that this code cannot read."""


class PostgresPool:
    """Connections for repeated reads, each of the latest state; some are kept for reuse.

    Args:
        place: The catalog.
        check: Called for each new connection.
        timeout_s: Timeout of each statement, in seconds.
    """

    def __init__(
        self, place: PostgresPlace, check: Check | None = None, timeout_s: float = QUERY_TIMEOUT_S
    ) -> None:
        self._place = place
        self._check = check
        self._timeout_s = timeout_s
        self._idle: list[psycopg.Connection[Any]] = []

    @contextmanager
    def read_transaction(self) -> Iterator[Database]:
        """Open a read transaction, which sees one state from its first read on.

        Raises:
            MMSearchError: The catalog cannot be read.
        """
        connection = self._begin()
        try:
            yield PostgresDatabase(connection, self._place)
            with translated_errors(self._place):
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; the next read opens a new one."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _begin(self) -> psycopg.Connection[Any]:
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                try:
                    connection.execute(_begin_statement(self._timeout_s))
                except psycopg.OperationalError:
                    # The server has closed it, for example because it was restarted.
                    connection.close()
                else:
                    return connection
        connection = connect(self._place, self._timeout_s)
        try:
            with translated_errors(self._place):
                connection.execute(_begin_statement(self._timeout_s))
            if self._check is not None:
                self._check(PostgresDatabase(connection, self._place), self._place)
        except BaseException:
            connection.close()
            raise
        return connection


class PinnedPostgres:
    """One connection that reads the same state of a catalog until it is closed.

    Args:
        place: The catalog.
        check: See `PostgresPool`.

    Raises:
        MMSearchError: The catalog cannot be read.
    """

    def __init__(self, place: PostgresPlace, check: Check) -> None:
        connection = connect(place, MAINTENANCE_TIMEOUT_S)
        try:
            self._db = PostgresDatabase(connection, place)
            self._db.query(_BEGIN)
            check(self._db, place)
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def read_transaction(self) -> Iterator[Database]:
        """Return the connection, whose only transaction is always open."""
        yield self._db

    def close(self) -> None:
        """Close the connection."""
        self._db.connection.close()


_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def _begin_statement(timeout_s: float) -> bytes:
    """Return a statement that begins a read; its statements end at the caller's deadline."""
    left_s = deadlines.seconds_left()
    if left_s is None or left_s >= timeout_s:
        return _BEGIN.encode()
    return f"{_BEGIN}; SET LOCAL statement_timeout = {max(1, round(left_s * 1000))}".encode()


@contextmanager
def translated_errors(place: PostgresPlace) -> Iterator[None]:
    """Translate errors of PostgreSQL into errors that the user can act on."""
    try:
        yield
    except psycopg.Error as error:
        translated = translate_error(error, place)
        if translated is None:
            raise
        raise translated from error


def translate_error(error: BaseException, place: PostgresPlace) -> MMSearchError | None:
    """Translate an error of PostgreSQL into one that the user can act on; None for others."""
    if not isinstance(error, psycopg.Error):
        return None
    if isinstance(error, errors.QueryCanceled) and deadlines.is_expired():
        return deadlines.deadline_error()
    names = {"catalog": place.label, "reason": _reason(error), "variable": PASSWORD_VARIABLE}
    if any(word in names["reason"] for word in ("password", "authentication")):
        return _make_error(_REFUSED, names)
    if _NO_DATABASE.fullmatch(names["reason"]):
        return _make_error(_MISSING, names)
    for kinds, template in _ERRORS:
        if isinstance(error, kinds):
            return _make_error(template, names)
    return None


_Template = tuple[type[MMSearchError], str, str]
"""An error, what has happened, and the next step."""


def _make_error(template: _Template, names: Mapping[str, str]) -> MMSearchError:
    error_class, fact, hint = template
    fact = fact.format(**names)
    return error_class(fact[0].upper() + fact[1:], hint.format(**names))


_REFUSED: _Template = (
    StorageError,
    "{catalog} refuses the user: {reason}.",
    "Set {variable}, or use ~/.pgpass.",
)
_NO_DATABASE = re.compile(r'database ".*" does not exist')
_MISSING: _Template = (
    StorageError,
    "{catalog} cannot be reached: {reason}.",
    "Create the database there, or correct its name in the URL.",
)
_ERRORS: tuple[tuple[tuple[type[psycopg.Error], ...], _Template], ...] = (
    (
        (errors.QueryCanceled,),
        (
            StateError,
            "a statement on {catalog} took longer than the server allows.",
            "Try again when the server is less busy.",
        ),
    ),
    (
        (errors.InFailedSqlTransaction,),
        (StateError, "an earlier statement on {catalog} failed.", "Try again."),
    ),
    (
        (errors.StatementTooComplex,),
        (
            InvalidQueryError,
            "the condition is nested too deeply.",
            "Use fewer parentheses inside each other.",
        ),
    ),
    (
        (errors.NumericValueOutOfRange,),
        (
            InvalidQueryError,
            "a filter contains a number that is too large, or a lone surrogate.",
            "Use numbers up to 2 ** 63 - 1 and valid Unicode text.",
        ),
    ),
    (
        (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure),
        (
            IndexLockedError,
            "{catalog} is held by another program.",
            "Wait until the other program has finished, or stop it.",
        ),
    ),
    (
        (errors.DiskFull,),
        (
            DiskFullError,
            "there is no room left on the disk of {catalog}.",
            "Free some space; all committed data is safe.",
        ),
    ),
    (
        (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction),
        (
            StorageError,
            "{catalog} cannot be used: {reason}.",
            "Ask the owner of the database for the right.",
        ),
    ),
    (
        (psycopg.OperationalError, psycopg.InterfaceError),
        (
            StorageError,
            "{catalog} cannot be reached: {reason}.",
            "Check its address, and that the server runs.",
        ),
    ),
)


def _reason(error: psycopg.Error) -> str:
    """Return what an error says, as a clause."""
    message = error.diag.message_primary or str(error)
    return clean_postgres_reason(message) or type(error).__name__


# --- values ---


class _TextDumper(Dumper):
    """Texts without NUL, which PostgreSQL cannot store, of the type that the statement wants."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\ufffd").encode()


class _FlagDumper(Dumper):
    """Flags are integers in all tables."""

    oid = types["int2"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _FlagLoader(Loader):
    def load(self, data: Any) -> int:
        return int(bytes(data) == b"t")


class _NumberLoader(Loader):
    """Sums of integers are numerics."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return float(text) if "." in text or not text.lstrip("-").isdigit() else int(text)


class _JsonLoader(Loader):
    """Objects stay texts, as in SQLite."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


def _make_adapters() -> AdaptContext:
    adapters = psycopg.adapt.AdaptersMap(psycopg.adapters)
    adapters.register_dumper(str, _TextDumper)
    adapters.register_dumper(bool, _FlagDumper)
    adapters.register_loader("bool", _FlagLoader)
    adapters.register_loader("numeric", _NumberLoader)
    adapters.register_loader("json", _JsonLoader)
    adapters.register_loader("jsonb", _JsonLoader)
    return _Adapters(adapters)


class _Adapters:
    """The conversions of values to parameters and of results, for new connections."""

    def __init__(self, adapters: psycopg.adapt.AdaptersMap) -> None:
        self.adapters = adapters
        self.connection = None


_ADAPTERS = _make_adapters()
