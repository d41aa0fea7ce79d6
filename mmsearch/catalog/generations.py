"""Writing of generations, built indexes, the identity, and the space being built."""

from __future__ import annotations

from types import EllipsisType

from sqlalchemy import Connection, Insert, insert, select, update

from mmsearch.catalog.field_changes import forget_changes
from mmsearch.catalog.identity import read_identity, to_settings
from mmsearch.catalog.row_writes import insert_new_rows, upsert_rows
from mmsearch.catalog.rows import (
    BUILDING,
    SERVING,
    SPACE_IN,
    TEXTS_CHANGED,
    now,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import (
    BUILT_INDEXES,
    EMBEDDINGS,
    GENERATIONS,
    SETTINGS,
    SPACES,
)
from mmsearch.core.errors import EncoderMismatchError
from mmsearch.core.identity import Identity
from mmsearch.core.records import BuiltVectorIndex


def add_generation(connection: Connection, built_id: int | EllipsisType | None = ...) -> int:
    """Add a generation and return its number.

    Args:
        connection: A connection in a transaction.
        built_id: Row of the built index, or None for none; by default that of the last generation.
    """
    if built_id is ...:
        latest = select(GENERATIONS.c.built_id).order_by(GENERATIONS.c.number.desc()).limit(1)
        built_id = connection.execute(latest).scalar()
    return insert_row(connection, insert(GENERATIONS).values(created_at=now(), built_id=built_id))


def publish(connection: Connection, built: BuiltVectorIndex) -> int:
    """Record a built index in a new generation, and return the generation's number."""
    forget_changes(as_read_connection(connection), built.settings)
    statement = insert(BUILT_INDEXES).values(
        plugin=built.plugin_name,
        name=built.file_ref.name,
        bytes=built.file_ref.bytes,
        sha256=built.file_ref.sha256,
        rows=built.rows,
        covers=built.covers,
        settings=dict(built.settings),
    )
    return add_generation(connection, insert_row(connection, statement))


def delete_old_generations(connection: Connection) -> None:
    """Delete the rows of earlier generations and of their built indexes, whose files are gone."""
    for statement in (
        "DELETE FROM generations WHERE number < (SELECT max(number) FROM generations)",
        "DELETE FROM built_indexes"
        " WHERE id NOT IN (SELECT built_id FROM generations WHERE built_id IS NOT NULL)",
    ):
        as_read_connection(connection).query(statement)


def write_identity(connection: Connection, identity: Identity) -> None:
    """Write the identity of an index; the encoder can only change while it holds no vectors.

    Raises:
        EncoderMismatchError: The index holds vectors of an encoder with another fingerprint.
    """
    db = as_read_connection(connection)
    bound = read_identity(db)
    if (
        bound is not None
        and bound.encoder.fingerprint != identity.encoder.fingerprint
        and db.query("SELECT 1 FROM segments LIMIT 1")
    ):
        raise EncoderMismatchError(
            f"The index holds vectors of {bound.encoder.name}, which cannot be compared with"
            f" vectors of {identity.encoder.name}.",
            "Use the encoder of the index, or create another index.",
            bound=bound.encoder.name,
            asked=identity.encoder.name,
        )
    replace_identity(connection, identity)
    if bound is not None and bound.texts != identity.texts:
        connection.execute(
            update(EMBEDDINGS).where(EMBEDDINGS.c.stale == 0).values(stale=TEXTS_CHANGED)
        )


def replace_identity(connection: Connection, identity: Identity) -> None:
    """Write an identity without checking the encoder; the caller has replaced the vectors."""
    settings = [{"key": key, "value": value} for key, value in to_settings(identity).items()]
    upsert_rows(connection, SETTINGS, settings, ["key"])
    insert_new_rows(connection, SETTINGS, [{"key": "created_at", "value": now()}])
    serving = {"state": SERVING, "encoder": identity.encoder.fingerprint}
    upsert_rows(connection, SPACES, [serving], ["state"])


def insert_row(connection: Connection, statement: Insert) -> int:
    """Insert one row and return its integer primary key."""
    # Do not use RETURNING: SQLite supports it only since 3.35.
    primary_key = connection.execute(statement).inserted_primary_key
    if primary_key is None:
        raise TypeError("the statement does not insert exactly one row")
    return int(primary_key[0])


def discard_building(connection: Connection) -> None:
    """Delete the space being built and its segments."""
    for statement in (
        f"DELETE FROM embeddings WHERE space_id = {SPACE_IN.format(BUILDING)}",  # noqa: S608
        f"DELETE FROM segments WHERE space_id = {SPACE_IN.format(BUILDING)}",  # noqa: S608
        f"DELETE FROM spaces WHERE state = '{BUILDING}'",  # noqa: S608
    ):
        as_read_connection(connection).query(statement)
