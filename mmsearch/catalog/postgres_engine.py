"""SQLAlchemy engines for PostgreSQL, and the lock that several writers of an index share.

A write transaction begins with the advisory lock of the index: writers commit one after another, as
with SQLite, so that what one has read is still so when it writes. Each transaction is short, and a
killed writer's connection ends, which frees the lock. `scripts/bench --only scale_catalog` measures
what one and three writers commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import QueuePool

from mmsearch.catalog.connection import MAINTENANCE_TIMEOUT_S
from mmsearch.catalog.postgres import PostgresPlace, connect, translate_error
from mmsearch.catalog.sqlalchemy_engine import BEGIN_OPTION, PLACE_OPTION

COMMIT_LOCK = 0
"""Second key of the advisory lock of a transaction; the first is the name of the schema."""


def open_postgres_engine(
    place: PostgresPlace, check_locks: Callable[[], None] | None = None
) -> Engine:
    """Create an engine for writing to the schema of an index, which exists.

    Args:
        place: The catalog.
        check_locks: Raises an error, before a transaction is committed, if the writer has lost its
            locks since it began.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(place),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=-1,
        # After a restart of the server, a kept connection is of no use.
        pool_pre_ping=True,
        use_native_hstore=False,
    )
    engine.update_execution_options(**{PLACE_OPTION: place})
    event.listen(engine, "begin", _take_commit_lock)
    if check_locks is not None:
        # If they are held now, they were held during the whole transaction.
        event.listen(engine, "commit", lambda connection: check_locks())
    event.listen(engine, "handle_error", lambda context: _raise_translated(context, place))
    return engine


def _connect(place: PostgresPlace) -> psycopg.Connection[Any]:
    connection = connect(place, MAINTENANCE_TIMEOUT_S, writes=True)
    connection.autocommit = False
    return connection


def _take_commit_lock(connection: Connection) -> None:
    options = connection.get_execution_options()
    if BEGIN_OPTION in options:
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))",
            (options[PLACE_OPTION].schema, COMMIT_LOCK),
        )


def _raise_translated(context: ExceptionContext, place: PostgresPlace) -> None:
    """Replace the server's error by one that the user can act on, if there is one."""
    original = context.original_exception
    translated = translate_error(original, place)
    if translated is not None:
        raise translated from original
