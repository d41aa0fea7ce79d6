"""States of the index that readers see, and the built index of each."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, select
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.clock import now
from mmsearch.catalog.tables import BuiltIndexRow, GenerationRow
from mmsearch.core.records import BuiltIndex


def add_generation(connection: Connection, built_id: int | None = None) -> int:
    """Show readers what has changed; without ``built_id`` the built index stays what it is."""
    if built_id is None:
        newest = select(GenerationRow.built_id).order_by(GenerationRow.number.desc()).limit(1)
        built_id = connection.execute(newest).scalar()
    statement = insert(GenerationRow).values(created_at=now(), built_id=built_id)
    return inserted_id(connection, statement)


def publish(connection: Connection, built: BuiltIndex) -> int:
    """Record a built index and make it the one of a new generation, whose number is returned."""
    statement = insert(BuiltIndexRow).values(
        plugin=built.spec_name,
        name=built.stamp.name,
        bytes=built.stamp.bytes,
        sha256=built.stamp.sha256,
        rows=built.rows,
        covers=built.covers,
        settings=dict(built.settings),
    )
    return add_generation(connection, inserted_id(connection, statement))


def inserted_id(connection: Connection, statement: Insert) -> int:
    """Run an insertion of one row; returns its integer primary key."""
    # Not RETURNING in the statement itself: SQLite knows it since 3.35 only.
    key = connection.execute(statement).inserted_primary_key
    if key is None:
        raise TypeError("the statement inserts no row, or many")
    return int(key[0])
