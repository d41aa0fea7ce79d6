"""Generations: the states of the index that readers see, each with its built vector index."""

from __future__ import annotations

from sqlalchemy import Connection, Insert, select
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.clock import now
from mmsearch.catalog.tables import BuiltIndexRow, GenerationRow
from mmsearch.core.records import BuiltVectorIndex


def add_generation(connection: Connection, built_id: int | None = None) -> int:
    """Add a generation and return its number; without ``built_id`` keep the built index."""
    if built_id is None:
        latest_built_id = (
            select(GenerationRow.built_id).order_by(GenerationRow.number.desc()).limit(1)
        )
        built_id = connection.execute(latest_built_id).scalar()
    statement = insert(GenerationRow).values(created_at=now(), built_id=built_id)
    return insert_row(connection, statement)


def publish(connection: Connection, built: BuiltVectorIndex) -> int:
    """Record a built index in a new generation, and return the generation's number."""
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
    """Insert one row and return its integer primary key."""
    # Do not use RETURNING: SQLite supports it only since 3.35.
    primary_key = connection.execute(statement).inserted_primary_key
    if primary_key is None:
        raise TypeError("the statement does not insert exactly one row")
    return int(primary_key[0])
