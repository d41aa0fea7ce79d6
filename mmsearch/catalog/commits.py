"""Rows of segments, of their pictures and of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, or_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.metadata import files_metadata_to_json, metadata_columns
from mmsearch.catalog.rows import storable
from mmsearch.catalog.tables import FILES, IMAGES, SEGMENTS, TAGS, TEXTS
from mmsearch.catalog.texts import delete_embedded_texts, insert_texts, update_file_texts
from mmsearch.core.records import EncodedPicture, ScannedFile, Segment, ShardCommit


def segment_values(segment: Segment) -> dict[str, Any]:
    """Return the columns that the tables of segments and of staged segments share."""
    return {
        "number": segment.number,
        **asdict(segment.file_ref),
        "rows": segment.rows,
        "dim": segment.dim,
    }


def has_segment(db: ReadConnection, segment: Segment) -> bool:
    """Return True if a segment is in the catalog.

    Raises:
        ValueError: There is another segment of this number.
    """
    statement = "SELECT name, bytes, sha256 FROM segments WHERE number = ?"
    existing = db.query(statement, [segment.number])
    file_ref = segment.file_ref
    if existing and existing[0] != (file_ref.name, file_ref.bytes, file_ref.sha256):
        raise ValueError(f"segment {segment.number} already exists with different content")
    return bool(existing)


def add_segment(
    connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
) -> None:
    """Write the rows of a segment and of its pictures.

    Raises:
        ValueError: The segment and its pictures contradict each other or the catalog.
    """
    if segment.rows != len(pictures):
        raise ValueError(
            f"segment {segment.number} has {segment.rows} rows for {len(pictures)} pictures"
        )
    replacements = [item for item in pictures if item.replaces is not None]
    _release_digests(connection, replacements)
    images = [
        {
            "id": item.id,
            "digest": item.digest,
            "width": item.picture.width,
            "height": item.picture.height,
            "format": storable(item.picture.format),
            "damage": storable(item.picture.damage),
            **metadata_columns(item.picture),
            "texts_digest": item.texts_digest,
            "segment": segment.number,
        }
        for item in pictures
    ]
    try:
        connection.execute(insert(SEGMENTS), segment_values(segment))
        insert_rows(connection, IMAGES, images)
    except IntegrityError as error:
        raise ValueError(
            f"segment {segment.number} repeats a file name, a picture's id or its content:"
            f" {error.orig}"
        ) from error
    _keep_embedded_metadata(connection, [item for item in replacements if item.keep_texts])
    _move_references(connection, replacements)
    delete_embedded_texts(connection, [item.id for item in replacements if not item.keep_texts])
    insert_texts(
        connection,
        [
            (item.id, None, embedded, None)
            for item in pictures
            if not item.keep_texts
            for embedded in item.picture.texts
        ],
    )


def _release_digests(connection: Connection, replacements: Sequence[EncodedPicture]) -> None:
    """Mark the replaced rows as superseded and free their digests for the new rows."""
    if replacements:
        connection.execute(
            update(IMAGES)
            .where(IMAGES.c.id == bindparam("former"))
            .values(digest=bindparam("freed"), superseded=1, retell=0),
            [
                {"former": item.replaces, "freed": item.digest + f":{item.replaces}".encode()}
                for item in replacements
            ],
        )


def _keep_embedded_metadata(connection: Connection, kept: Sequence[EncodedPicture]) -> None:
    """Copy what the picture files say to the new rows, which have the merged metadata."""
    if kept:
        embedded = select(IMAGES.c.embedded).where(IMAGES.c.id == bindparam("former"))
        connection.execute(
            update(IMAGES)
            .where(IMAGES.c.id == bindparam("present"))
            .values(embedded=embedded.scalar_subquery()),
            [{"former": item.replaces, "present": item.id} for item in kept],
        )


def _move_references(connection: Connection, replacements: Sequence[EncodedPicture]) -> None:
    for table in (FILES, TEXTS, TAGS) if replacements else ():
        connection.execute(
            update(table)
            .where(table.c.image_id == bindparam("former"))
            .values(image_id=bindparam("present")),
            [{"former": item.replaces, "present": item.id} for item in replacements],
        )


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows into a table of `mmsearch.catalog.tables`; none are fine."""
    if rows:
        connection.execute(insert(table), rows)


def delete_files(connection: Connection, shard: ShardCommit) -> None:
    """Delete the files that a shard removes."""
    if shard.removed:
        connection.execute(
            delete(FILES).where(
                FILES.c.root_id == shard.root_id, FILES.c.path == bindparam("dropped_path")
            ),
            [{"dropped_path": path} for path in shard.removed],
        )


def upsert_files(connection: Connection, shard: ShardCommit, image_ids: Mapping[bytes, int]) -> int:
    """Write files with their texts; return the number of captions from tables removed.

    ``image_ids`` are the ids of the pictures by digest.
    """
    rows = []
    for placed in shard.indexed:
        image_id = image_ids.get(placed.digest)
        if image_id is None:
            digest_hex = placed.digest.hex()
            raise ValueError(f"{placed.file.path!r} has content {digest_hex}, which has no vector")
        metadata = files_metadata_to_json(placed.overrides, placed.fallbacks)
        rows.append(
            _file_row(shard, placed.file, placed.digest)
            | {"image_id": image_id, "texts_key": placed.texts_key, "metadata": metadata}
        )
    for file, digest, reason in shard.failed:
        rows.append(_file_row(shard, file, digest) | {"error": storable(reason)})
    if not rows:
        return 0
    upsert = insert(FILES)
    new_values = upsert.excluded
    columns = [name for name in rows[0] if name not in ("root_id", "path")]
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["root_id", "path"],
            set_={name: new_values[name] for name in columns},
            # An unchanged row must not count as a change.
            where=or_(*(FILES.c[name].is_distinct_from(new_values[name]) for name in columns)),
        ),
        rows,
    )
    return update_file_texts(connection, shard, image_ids)


def _file_row(shard: ShardCommit, file: ScannedFile, digest: bytes) -> dict[str, Any]:
    return {
        "root_id": shard.root_id,
        "path": file.path,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "ctime_ns": file.ctime_ns,
        "checked_ns": shard.checked_ns,
        "digest": digest,
        "image_id": None,
        "error": None,
        "texts_key": b"",
        "metadata": None,
    }


def mark_failed(connection: Connection, image_ids: Sequence[int], reason: str) -> None:
    """Mark the files of at most `MAX_SQL_PARAMETERS` pictures for a retry by the next run."""
    connection.execute(
        update(FILES)
        .where(FILES.c.image_id.in_(image_ids))
        .values(image_id=None, error=storable(reason), digest=b"")
    )
