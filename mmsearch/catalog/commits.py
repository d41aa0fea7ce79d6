"""Atomic writes of a finished shard: its segment, pictures, files and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from mmsearch.catalog import texts
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.segment_rows import segment_values
from mmsearch.catalog.sql_utils import chunks, storable
from mmsearch.catalog.tables import (
    FileRow,
    ImageRow,
    RootRow,
    SegmentRow,
    StagedSegmentRow,
    TagRow,
    TextRow,
)
from mmsearch.core.records import EncodedPicture, ScannedFile, Segment, ShardCommit


def find_image_ids(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
    """Return the picture ids of the contents that have a vector, by digest."""
    image_ids: dict[bytes, int] = {}
    for chunk in chunks(list(set(digests))):
        rows = connection.execute(
            select(ImageRow.digest, ImageRow.id).where(ImageRow.digest.in_(chunk))
        )
        image_ids.update((row.digest, row.id) for row in rows)
    return image_ids


def next_free_ids(connection: Connection) -> tuple[int, int]:
    """Return the first free picture id and the first free segment number."""
    # sqlite_sequence holds the highest number that each AUTOINCREMENT column ever had.
    rows = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
    last_numbers: dict[str, int] = {row.name: row.seq for row in rows}
    staged = connection.execute(select(func.max(StagedSegmentRow.number))).scalar() or 0
    return (
        last_numbers.get(ImageRow.__tablename__, 0) + 1,
        max(last_numbers.get(SegmentRow.__tablename__, 0), staged) + 1,
    )


def commit_shard(connection: Connection, shard: ShardCommit) -> int:
    """Write a shard, and add a generation if that changed any row.

    Returns:
        Number of captions from tables that were removed.

    Raises:
        ValueError: The shard contradicts itself or the catalog; a bug, never the user's fault.
    """
    if connection.execute(select(RootRow.id).where(RootRow.id == shard.root_id)).first() is None:
        raise ValueError(f"there is no root {shard.root_id}")
    changes_before = _count_changes(connection)
    if shard.segment is None:
        if shard.pictures:
            raise ValueError(f"{len(shard.pictures)} pictures without a segment")
    elif not _has_segment(connection, shard.segment):
        add_segment(connection, shard.segment, shard.pictures)
    removed = _upsert_files(connection, shard)
    _delete_files(connection, shard)
    texts.clear_stale(connection, _affected_image_ids(connection, shard))
    if _count_changes(connection) != changes_before:
        add_generation(connection)
    return removed


def _affected_image_ids(connection: Connection, shard: ShardCommit) -> list[int]:
    existing = find_image_ids(connection, (placed.digest for placed in shard.indexed))
    return sorted({*existing.values(), *(item.id for item in shard.pictures)})


def _count_changes(connection: Connection) -> int:
    """Return the number of rows this connection has written so far, including by triggers."""
    return int(connection.execute(select(func.total_changes())).scalar_one())


def _has_segment(connection: Connection, segment: Segment) -> bool:
    existing = connection.execute(
        select(SegmentRow.name, SegmentRow.bytes, SegmentRow.sha256).where(
            SegmentRow.number == segment.number
        )
    ).first()
    file_ref = segment.file_ref
    if existing is not None and tuple(existing) != (file_ref.name, file_ref.bytes, file_ref.sha256):
        raise ValueError(f"segment {segment.number} already exists with different content")
    return existing is not None


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
            "taken_at": storable(item.picture.taken_at),
            "camera": storable(item.picture.camera),
            "latitude": item.picture.latitude,
            "longitude": item.picture.longitude,
            "texts_digest": item.texts_digest,
            "segment": segment.number,
        }
        for item in pictures
    ]
    try:
        connection.execute(insert(SegmentRow), segment_values(segment))
        _insert_rows(connection, ImageRow, images)
    except IntegrityError as error:
        raise ValueError(
            f"segment {segment.number} repeats a file name, a picture's id or its content:"
            f" {error.orig}"
        ) from error
    _move_references(connection, replacements)
    texts.delete_embedded_texts(
        connection, [item.id for item in replacements if not item.keep_texts]
    )
    texts.insert_texts(
        connection,
        [
            (item.id, None, text, None)
            for item in pictures
            if not item.keep_texts
            for text in item.picture.texts
        ],
    )


def _release_digests(connection: Connection, replacements: Sequence[EncodedPicture]) -> None:
    """Mark the replaced rows as superseded and free their digests for the new rows."""
    if replacements:
        connection.execute(
            update(ImageRow)
            .where(ImageRow.id == bindparam("former"))
            .values(digest=bindparam("freed"), superseded=1, retell=0),
            [
                {"former": item.replaces, "freed": item.digest + f":{item.replaces}".encode()}
                for item in replacements
            ],
        )


def _move_references(connection: Connection, replacements: Sequence[EncodedPicture]) -> None:
    for table in (FileRow, TextRow, TagRow) if replacements else ():
        connection.execute(
            update(table)
            .where(table.image_id == bindparam("former"))
            .values(image_id=bindparam("present")),
            [{"former": item.replaces, "present": item.id} for item in replacements],
        )


def _insert_rows(connection: Connection, table: type[Any], rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _delete_files(connection: Connection, shard: ShardCommit) -> None:
    if shard.removed:
        connection.execute(
            delete(FileRow).where(
                FileRow.root_id == shard.root_id, FileRow.path == bindparam("dropped_path")
            ),
            [{"dropped_path": path} for path in shard.removed],
        )


def _upsert_files(connection: Connection, shard: ShardCommit) -> int:
    """Write files with their texts; return the number of captions from tables removed."""
    image_ids = find_image_ids(connection, (placed.digest for placed in shard.indexed))
    rows = []
    for placed in shard.indexed:
        image_id = image_ids.get(placed.digest)
        if image_id is None:
            digest_hex = placed.digest.hex()
            raise ValueError(f"{placed.file.path!r} has content {digest_hex}, which has no vector")
        rows.append(_file_row(shard, placed.file, placed.digest, image_id, None, placed.texts_key))
    for file, digest, reason in shard.failed:
        rows.append(_file_row(shard, file, digest, None, storable(reason), b""))
    if not rows:
        return 0
    upsert = insert(FileRow)
    new_values = upsert.excluded
    columns = ("size", "mtime_ns", "checked_ns", "digest", "image_id", "error", "texts_key")
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["root_id", "path"],
            set_={name: new_values[name] for name in columns},
            # An unchanged row must not count as a change.
            where=or_(
                *(getattr(FileRow, name).is_distinct_from(new_values[name]) for name in columns)
            ),
        ),
        rows,
    )
    return texts.update_file_texts(connection, shard, image_ids)


def _file_row(
    shard: ShardCommit,
    file: ScannedFile,
    digest: bytes,
    image_id: int | None,
    error: str | None,
    texts_key: bytes,
) -> dict[str, Any]:
    return {
        "root_id": shard.root_id,
        "path": file.path,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "checked_ns": shard.checked_ns,
        "digest": digest,
        "image_id": image_id,
        "error": error,
        "texts_key": texts_key,
    }
