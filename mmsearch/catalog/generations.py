"""States of the index that readers see, and the built index of each."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, select
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.clock import now
from mmsearch.catalog.tables import BuiltIndexRow, GenerationRow
from mmsearch.core.records import BuiltVectorIndex


def add_generation(connection: Connection, built_id: int | None = None) -> int:
    """Show readers what has changed; without ``built_id`` the built index stays what it is."""
    if built_id is None:
        latest_built_id = (
            select(GenerationRow.built_id).order_by(GenerationRow.number.desc()).limit(1)
        )
        built_id = connection.execute(latest_built_id).scalar()
    statement = insert(GenerationRow).values(created_at=now(), built_id=built_id)
    return insert_row(connection, statement)


def publish(connection: Connection, built: BuiltVectorIndex) -> int:
    """Record a built index and make it the one of a new generation, whose number is returned."""
    statement = insert(BuiltIndexRow).values(
        plugin=built.plugin_name,
        name=built.file_ref.name,
        bytes=built.file_ref.bytes,
        sha256=built.file_ref.sha256,
        rows=built.rows,
        covers=built.covers,
        settings=dict(built.settings),
    )
    return add_generation(connection, insert_row(connection, statement))


def insert_row(connection: Connection, statement: Insert) -> int:
    """Run an insertion of one row; returns its integer primary key."""
    # Not RETURNING in the statement itself: SQLite knows it since 3.35 only.
    primary_key = connection.execute(statement).inserted_primary_key
    if primary_key is None:
        raise TypeError("the statement inserts no row, or many")
    return int(primary_key[0])
