"""Rows of segments, embeddings, items, contents and assets."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from mmsearch.catalog.database import Database
from mmsearch.catalog.metadata import files_metadata_to_json, metadata_columns
from mmsearch.catalog.row_writes import (
    RowConflictError,
    delete_rows,
    insert_new_rows,
    insert_rows,
    update_rows,
    upsert_rows,
)
from mmsearch.catalog.rows import (
    SERVING,
    TEXTS_CHANGED,
    chunks,
    scalar,
    storable,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import (
    ASSETS,
    CONTENTS,
    EMBEDDINGS,
    ITEMS,
    PARTS,
    SEGMENTS,
    STALE_ROWS,
)
from mmsearch.catalog.texts import find_outdated, replace_embedded_texts, update_asset_texts
from mmsearch.core.records import EncodedPicture, ScannedFile, Segment, ShardCommit


def segment_values(segment: Segment) -> dict[str, Any]:
    """Return the columns of a segment, without its space."""
    return {
        "number": segment.number,
        **asdict(segment.file_ref),
        "rows": segment.rows,
        "dim": segment.dim,
    }


def has_segment(db: Database, segment: Segment) -> bool:
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
    connection: Connection,
    segment: Segment,
    pictures: Sequence[EncodedPicture],
    state: str = SERVING,
    *,
    stale_ids: Sequence[int] = (),
) -> None:
    """Write the rows of a segment, of its embeddings, and of items that are new or read again.

    A former embedding of an item in the same space becomes a stale row of its segment.

    Args:
        connection: See `begin_segment`, also for the others.
        segment: The segment.
        pictures: The pictures of its rows.
        state: State of the space of the segment.
        stale_ids: Ids of other rows of the segment, which are not used.

    Raises:
        ValueError: The segment and its pictures contradict each other or the catalog.
    """
    space_id, new = begin_segment(connection, segment, pictures, state, stale_ids=stale_ids)
    add_embeddings(connection, segment, new, space_id)


def begin_segment(
    connection: Connection,
    segment: Segment,
    pictures: Sequence[EncodedPicture],
    state: str = SERVING,
    *,
    stale_ids: Sequence[int] = (),
) -> tuple[int, list[EncodedPicture]]:
    """Write what `add_segment` writes without the embeddings of new items.

    These embeddings are best written by `add_embeddings` when all their texts are there: a text
    that is written later makes an embedding stale, until `clear_stale` compares both.

    Args:
        connection: A connection in a transaction.
        segment: The segment.
        pictures: The pictures of its rows.
        state: State of the space of the segment.
        stale_ids: Ids of other rows of the segment, which are not used.

    Returns:
        Id of the space, and the new items.

    Raises:
        ValueError: The segment and its pictures contradict each other or the catalog.
    """
    if segment.rows != len(pictures) + len(stale_ids):
        raise ValueError(
            f"segment {segment.number} has {segment.rows} rows for {len(pictures)} pictures"
        )
    db = as_read_connection(connection)
    space_id = scalar(db, "SELECT id FROM spaces WHERE state = ?", [state])
    existing = _load_digests(db, [item.id for item in pictures])
    for item in pictures:
        if existing.get(item.id, item.digest) != item.digest:
            raise ValueError(f"item {item.id} already exists with another content")
    decoded = [item for item in pictures if not item.keep_texts]
    new = [item for item in decoded if item.id not in existing]
    known = [item for item in pictures if item.keep_texts or item.id in existing]
    try:
        values = segment_values(segment) | {"space_id": space_id}
        insert_rows(connection, SEGMENTS, [values])
        _insert_items(connection, new)
        _update_items(connection, [item for item in decoded if item.id in existing])
        _discard_embeddings(connection, space_id, [i.id for i in pictures if i.id in existing])
        _insert_embeddings(connection, segment, known, space_id, ())
        stale_rows = [{"segment": segment.number, "item_id": number} for number in stale_ids]
        insert_rows(connection, STALE_ROWS, stale_rows)
    except RowConflictError as error:
        raise ValueError(
            f"segment {segment.number} repeats a file name, a picture's id or its content: {error}"
        ) from error
    replace_embedded_texts(connection, {item.id: item.picture.texts for item in decoded}, existing)
    return int(space_id), new


def add_embeddings(
    connection: Connection, segment: Segment, pictures: Sequence[EncodedPicture], space_id: int
) -> None:
    """Write the embeddings of new items; those that do not match their texts are stale.

    Args:
        connection: A connection in a transaction.
        segment: The segment, which has been written.
        pictures: Pictures of its rows, whose texts have been written.
        space_id: Id of the space of the segment.
    """
    if not pictures:
        return
    db = as_read_connection(connection)
    outdated = find_outdated(db, {item.id: item.texts_digest for item in pictures})
    _insert_embeddings(connection, segment, pictures, space_id, outdated)


def _insert_embeddings(
    connection: Connection,
    segment: Segment,
    pictures: Sequence[EncodedPicture],
    space_id: int,
    stale_ids: Container[int],
) -> None:
    rows = [
        {
            "item_id": item.id,
            "space_id": space_id,
            "segment": segment.number,
            "texts_digest": item.texts_digest,
            "stale": TEXTS_CHANGED if item.id in stale_ids else 0,
        }
        for item in pictures
    ]
    insert_rows(connection, EMBEDDINGS, rows)


def add_text_items(connection: Connection, items: Sequence[EncodedPicture]) -> None:
    """Write the rows of new items without pixels; those that exist are passed over.

    Raises:
        ValueError: An item exists already with another content.
    """
    existing = _load_digests(as_read_connection(connection), [item.id for item in items])
    for item in items:
        if existing.get(item.id, item.digest) != item.digest:
            raise ValueError(f"item {item.id} already exists with another content")
    new = [item for item in items if item.id not in existing]
    _insert_items(connection, new, has_pixels=False)
    replace_embedded_texts(connection, {item.id: item.picture.texts for item in new}, ())


def _load_digests(db: Database, item_ids: Sequence[int]) -> dict[int, bytes]:
    """Return the digests of the contents of existing items."""
    return dict(
        db.query(
            "SELECT items.id, digest FROM items JOIN contents ON contents.id = content_id"  # noqa: S608
            f" WHERE items.id {db.dialect.in_ids}",
            [json.dumps(list(item_ids))],
        )
    )


def _insert_items(
    connection: Connection, pictures: Sequence[EncodedPicture], *, has_pixels: bool = True
) -> None:
    """Write the rows of new items and of their contents."""
    if not pictures:
        return
    kinds = {item.digest: item.kind for item in pictures}
    contents = [{"digest": digest, "kind": kind} for digest, kind in kinds.items()]
    insert_new_rows(connection, CONTENTS, contents)
    content_ids = {}
    for chunk in chunks(list(kinds)):
        statement = select(CONTENTS.c.digest, CONTENTS.c.id, CONTENTS.c.asset_count)
        for digest, content_id, count in connection.execute(
            statement.where(CONTENTS.c.digest.in_(chunk))
        ):
            content_ids[digest] = {"content_id": content_id, "is_live": int(count > 0)}
    rows = [
        {
            "id": item.id,
            **content_ids[item.digest],
            "has_pixels": int(has_pixels),
            **_item_values(item),
        }
        for item in pictures
    ]
    insert_rows(connection, ITEMS, rows)


def _update_items(connection: Connection, pictures: Sequence[EncodedPicture]) -> None:
    """Write what picture files say that were read again; then it must be merged again."""
    if not pictures:
        return
    rows = []
    for item in pictures:
        values = _item_values(item)
        del values["part"]
        rows.append({"id": item.id, "embedded": None, "must_merge": 1, **values})
    update_rows(connection, ITEMS, rows, ["id"])


def _item_values(item: EncodedPicture) -> dict[str, Any]:
    """Return the columns of an item that come from its picture file."""
    return {
        "width": item.picture.width,
        "height": item.picture.height,
        "format": storable(item.picture.format),
        "damage": storable(item.picture.damage),
        "perceptual_hash": item.perceptual_hash,
        **vars(item.locator),
        **metadata_columns(item.picture),
    }


def _discard_embeddings(connection: Connection, space_id: int, item_ids: Sequence[int]) -> None:
    """Delete the embeddings of items in a space; their rows become stale."""
    for chunk in chunks(item_ids):
        is_former = (EMBEDDINGS.c.space_id == space_id) & EMBEDDINGS.c.item_id.in_(chunk)
        former = select(EMBEDDINGS.c.segment, EMBEDDINGS.c.item_id).where(is_former)
        connection.execute(insert(STALE_ROWS).from_select(["segment", "item_id"], former))
        connection.execute(delete(EMBEDDINGS).where(is_former))


def delete_assets(connection: Connection, shard: ShardCommit) -> None:
    """Delete the assets that a shard removes."""
    removed = [{"source_id": shard.root_id, "key": path} for path in shard.removed]
    delete_rows(connection, ASSETS, removed)


def upsert_assets(
    connection: Connection,
    shard: ShardCommit,
    contents: Mapping[bytes, tuple[int, int]],
) -> int:
    """Write assets with their texts; return the number of captions from tables removed.

    Args:
        connection: A connection in a transaction.
        shard: The shard with the assets.
        contents: Ids of the contents and of their first items, by digest.
    """
    rows = []
    for placed in shard.indexed:
        if placed.digest not in contents:
            digest_hex = placed.digest.hex()
            raise ValueError(f"{placed.file.path!r} has content {digest_hex}, which has no item")
        metadata = files_metadata_to_json(placed.overrides, placed.fallbacks)
        rows.append(
            _asset_row(shard, placed.file, placed.digest)
            | {
                "content_id": contents[placed.digest][0],
                "texts_key": placed.texts_key,
                "metadata": metadata,
                "part": placed.part,
                "stamp": placed.stamp,
                "record": None if placed.metadata is None else json.dumps(placed.metadata),
            }
        )
    for file, digest, reason in shard.failed:
        part, stamp = shard.failed_parts.get(file.path, (None, None))
        values = {"error": storable(reason), "part": part, "stamp": stamp}
        rows.append(_asset_row(shard, file, digest) | values)
    if not rows:
        return 0
    # An unchanged row must not count as a change.
    upsert_rows(connection, ASSETS, rows, ("source_id", "key"), changed=True)
    item_ids = {digest: item_id for digest, (_, item_id) in contents.items()}
    return update_asset_texts(connection, shard, item_ids)


def _asset_row(shard: ShardCommit, file: ScannedFile, digest: bytes) -> dict[str, Any]:
    return {
        "source_id": shard.root_id,
        "key": file.path,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "ctime_ns": file.ctime_ns,
        "checked_ns": shard.checked_ns,
        "digest": digest,
        "content_id": None,
        "error": None,
        "texts_key": b"",
        "metadata": None,
        "part": None,
        "stamp": None,
        "record": None,
    }


def mark_failed(connection: Connection, item_ids: Sequence[int], reason: str) -> None:
    """Mark the assets of at most `MAX_SQL_PARAMETERS` items for a retry by the next run."""
    contents = select(ITEMS.c.content_id).where(ITEMS.c.id.in_(item_ids))
    is_failed = ASSETS.c.content_id.in_(contents)
    # With their stamps, the next run would pass the parts of sources, and the assets in them.
    parts = select(ASSETS.c.source_id).where(is_failed)
    connection.execute(delete(PARTS).where(PARTS.c.source_id.in_(parts)))
    connection.execute(
        update(ASSETS)
        .where(is_failed)
        .values(content_id=None, error=storable(reason), digest=b"", stamp=None)
    )


def delete_items(connection: Connection, item_ids: Sequence[int]) -> None:
    """Delete at most `MAX_SQL_PARAMETERS` items that are not live, and contents without items.

    A content that keeps some of its items is no longer known: its digest is replaced, so that the
    next run encodes all of it again.
    """
    contents = select(ITEMS.c.content_id).where(ITEMS.c.id.in_(item_ids))
    connection.execute(
        update(CONTENTS).where(CONTENTS.c.id.in_(contents)).values(digest=func.randomblob(32))
    )
    connection.execute(delete(ITEMS).where(ITEMS.c.id.in_(item_ids)))
    delete_empty_contents(connection)


def delete_empty_contents(connection: Connection) -> None:
    """Delete the contents that have no items."""
    connection.execute(delete(CONTENTS).where(CONTENTS.c.id.not_in(select(ITEMS.c.content_id))))
