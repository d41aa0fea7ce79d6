"""What changes together: a shard of work, a built index, and the generation that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Insert, bindparam, delete, func, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError

from mmsearch.catalog.clock import now
from mmsearch.catalog.tables import (
    BuiltIndexRow,
    FileRow,
    GenerationRow,
    ImageRow,
    RootRow,
    SegmentRow,
    TextRow,
)
from mmsearch.core.records import BuiltIndex, EncodedPicture, Segment, ShardCommit

Item = TypeVar("Item")

CHUNK = 900
"""Values in one statement; SQLite builds before 3.32 take at most 999."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """``items`` in pieces that fit into one statement."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def images_of(connection: Connection, digests: Iterable[bytes]) -> dict[bytes, int]:
    """The ids of those contents that have a vector."""
    found: dict[bytes, int] = {}
    for part in chunks(list(set(digests))):
        rows = connection.execute(
            select(ImageRow.digest, ImageRow.id).where(ImageRow.digest.in_(part))
        )
        found.update((row.digest, row.id) for row in rows)
    return found


def commit_shard(connection: Connection, shard: ShardCommit) -> None:
    """Write a shard; a generation follows if that changed anything.

    Raises:
        ValueError: The shard contradicts itself or the catalog; a bug, never the user's fault.
    """
    if connection.execute(select(RootRow.id).where(RootRow.id == shard.root_id)).first() is None:
        raise ValueError(f"there is no root {shard.root_id}")
    before = _changes(connection)
    if shard.segment is None:
        if shard.pictures:
            raise ValueError(f"{len(shard.pictures)} pictures without a segment")
    elif not _has_segment(connection, shard.segment):
        _add_segment(connection, shard.segment, shard.pictures)
    _drop_files(connection, shard)
    _put_files(connection, shard)
    if _changes(connection) != before:
        add_generation(connection)


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


def _changes(connection: Connection) -> int:
    """Rows written by this connection so far, those that triggers wrote included."""
    return int(connection.execute(select(func.total_changes())).scalar_one())


def _has_segment(connection: Connection, segment: Segment) -> bool:
    known = connection.execute(
        select(SegmentRow.name, SegmentRow.bytes, SegmentRow.sha256).where(
            SegmentRow.number == segment.number
        )
    ).first()
    stamp = segment.stamp
    if known is not None and tuple(known) != (stamp.name, stamp.bytes, stamp.sha256):
        raise ValueError(f"segment {segment.number} is there already, with another content")
    return known is not None


def _add_segment(
    connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture]
) -> None:
    if segment.rows != len(pictures):
        raise ValueError(
            f"segment {segment.number} has {segment.rows} rows for {len(pictures)} pictures"
        )
    stamp = segment.stamp
    images = [
        {
            "id": item.id,
            "digest": item.digest,
            "width": item.picture.width,
            "height": item.picture.height,
            "format": _storable(item.picture.format),
            "taken_at": _storable(item.picture.taken_at),
            "segment": segment.number,
        }
        for item in pictures
    ]
    texts = [
        {
            "image_id": item.id,
            "kind": _storable(text.kind),
            "language": _storable(text.language),
            "text": _storable(text.text),
        }
        for item in pictures
        for text in item.picture.texts
    ]
    try:
        connection.execute(
            insert(SegmentRow).values(
                number=segment.number,
                name=stamp.name,
                bytes=stamp.bytes,
                sha256=stamp.sha256,
                rows=segment.rows,
                dim=segment.dim,
            )
        )
        _insert(connection, ImageRow, images)
        _insert(connection, TextRow, texts)
    except IntegrityError as error:
        raise ValueError(
            f"segment {segment.number} repeats a file name, a picture's id or its content:"
            f" {error.orig}"
        ) from error


def _insert(connection: Connection, table: type[Any], rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _drop_files(connection: Connection, shard: ShardCommit) -> None:
    if shard.dropped:
        connection.execute(
            delete(FileRow).where(
                FileRow.root_id == shard.root_id, FileRow.path == bindparam("dropped_path")
            ),
            [{"dropped_path": path} for path in shard.dropped],
        )


def _put_files(connection: Connection, shard: ShardCommit) -> None:
    image_ids = images_of(connection, (digest for _, digest in shard.placed))
    placed = [(file, digest, image_ids.get(digest), None) for file, digest in shard.placed]
    for file, digest, image_id, _ in placed:
        if image_id is None:
            raise ValueError(f"{file.path!r} has content {digest.hex()}, which has no vector")
    failed = [(file, digest, None, _storable(reason)) for file, digest, reason in shard.failed]
    rows = [
        {
            "root_id": shard.root_id,
            "path": file.path,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "checked_ns": shard.checked_ns,
            "digest": digest,
            "image_id": image_id,
            "error": error,
        }
        for file, digest, image_id, error in (*placed, *failed)
    ]
    if not rows:
        return
    upsert = insert(FileRow)
    new = upsert.excluded
    kept = ("size", "mtime_ns", "checked_ns", "digest", "image_id", "error")
    connection.execute(
        upsert.on_conflict_do_update(
            index_elements=["root_id", "path"],
            set_={name: new[name] for name in kept},
            # A row that would stay as it is does not count as a change.
            where=or_(*(getattr(FileRow, name).is_distinct_from(new[name]) for name in kept)),
        ),
        rows,
    )


def _storable(value: Any) -> Any:
    """Text that UTF-8 can carry: a lone surrogate, as in names that are no text, becomes '?'."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
