"""Rows of many new assets, written at once: those that `mmsearch.catalog.commits` would write.

A row at a time, the triggers of ``assets`` take more time than all inserts together. So those of
SQLite are dropped and created again within the transaction, and statements for all rows do their
work. Those of PostgreSQL are called once a statement. Rows are written with their final values: a
row that is changed in its own transaction is written twice, and PostgreSQL checks its foreign keys
again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager

from sqlalchemy import Connection, Table

from mmsearch.catalog.commits import add_embeddings, segment_values
from mmsearch.catalog.database import Database
from mmsearch.catalog.field_changes import LOG_NEW_ASSET
from mmsearch.catalog.metadata import FIELDS, files_metadata_to_json
from mmsearch.catalog.row_writes import RowConflictError, insert_rows, reserve_numbers
from mmsearch.catalog.rows import (
    SERVING,
    chunks,
    find_contents,
    scalar,
    storable,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, is_postgres
from mmsearch.catalog.tables import ASSETS, CONTENTS, ITEMS, SEGMENTS
from mmsearch.catalog.texts import insert_texts, item_finder, merge_texts
from mmsearch.core.records import FOLDER_KIND, EncodedPicture, ShardCommit
from mmsearch.core.types import Text

_ITEM_COLUMNS = (
    *("id", "content_id", "is_live", "width", "height", "format", "damage"),
    *("part", "start_ms", "end_ms", "page"),
    *FIELDS,
    "perceptual_hash",
)
_ASSET_COLUMNS = (
    "id",
    "source_id",
    "key",
    "size",
    "mtime_ns",
    "ctime_ns",
    "checked_ns",
    "digest",
    "content_id",
    "texts_key",
    "metadata",
    "part",
    "stamp",
    "record",
)

ContentIds = dict[bytes, tuple[int, int]]
"""Ids of contents and of their first items, by digest."""


def is_new(db: Database, shard: ShardCommit) -> bool:
    """Return True if `insert_shard` can write a shard."""
    keys = {placed.file.path for placed in shard.indexed}
    return (
        not _has_more(shard)
        and shard.segment is not None
        and not any(item.keep_texts for item in shard.pictures)
        and len(keys) == len(shard.indexed)
        and not _is_any_known(db, "items WHERE id", [item.id for item in shard.pictures])
        and not _is_any_known(db, "contents WHERE digest", [i.digest for i in shard.pictures])
        and not _is_any_known(db, "assets WHERE source_id = ? AND key", list(keys), shard.root_id)
    )


def _has_more(shard: ShardCommit) -> bool:
    """Return True if a shard has more than new assets."""
    return bool(
        shard.failed
        or shard.text_items
        or shard.removed
        or shard.unused_ids
        or any(placed.moved_from for placed in shard.indexed)
    )


def _is_any_known(
    db: Database, column: str, values: Sequence[int] | Sequence[bytes], *parameters: int
) -> bool:
    for chunk in chunks(values):
        marks = ", ".join("?" * len(chunk))
        if db.query(f"SELECT 1 FROM {column} IN ({marks}) LIMIT 1", [*parameters, *chunk]):  # noqa: S608
            return True
    return False


def insert_shard(connection: Connection, shard: ShardCommit) -> list[int]:
    """Write a shard of new pictures and new assets; return the ids of items to `clear_stale`.

    Args:
        connection: A connection in a transaction.
        shard: A shard without failed and removed assets. The ids and contents of its pictures, and
            the keys of its assets, are not in the catalog.

    Raises:
        ValueError: The shard contradicts itself or the catalog.
    """
    if _has_more(shard):
        raise ValueError("the shard has more than new assets")
    db = as_read_connection(connection)
    new = {item.digest for item in shard.pictures}
    new_ids = {item.id for item in shard.pictures}
    contents = find_contents(db, (p.digest for p in shard.indexed if p.digest not in new))
    counts = Counter(placed.digest for placed in shard.indexed)
    try:
        if shard.segment is not None:
            space_id, added = _insert_pictures(connection, shard, counts)
            contents |= added
        first_id = reserve_numbers(connection, ASSETS, len(shard.indexed))
        with _without_triggers(connection, "assets"):
            _insert_assets(connection, shard, contents, first_id, new)
        if not is_postgres(connection):
            _apply_triggers(connection, shard, contents, counts, new)
            copies = [
                (contents[placed.digest][0], placed.file.size, first_id)
                for placed in shard.indexed
                if placed.digest not in new
            ]
            if copies:
                connection.exec_driver_sql(LOG_NEW_ASSET, copies)
        described = _insert_texts(connection, shard, contents, first_id)
        if shard.segment is not None:
            add_embeddings(connection, shard.segment, shard.pictures, space_id)
    except RowConflictError as error:
        raise ValueError(f"a picture or an asset of the shard is not new: {error}") from error
    copied = {item_id for digest, (_, item_id) in contents.items() if digest not in new}
    return sorted((described - new_ids) | copied)


def _insert_pictures(
    connection: Connection, shard: ShardCommit, counts: Mapping[bytes, int]
) -> tuple[int, ContentIds]:
    """Write a segment, and its contents and items; return the id of its space, and the contents."""
    segment, pictures = shard.segment, shard.pictures
    if segment is None or segment.rows != len(pictures):
        raise ValueError(f"there is no segment of {len(pictures)} rows")
    db = as_read_connection(connection)
    space_id = scalar(db, "SELECT id FROM spaces WHERE state = ?", [SERVING])
    values = segment_values(segment) | {"space_id": space_id}
    insert_rows(connection, SEGMENTS, [values])
    kinds = {item.digest: item.kind for item in pictures}
    first_id = reserve_numbers(connection, CONTENTS, len(kinds))
    content_ids = {digest: number for number, digest in enumerate(kinds, first_id)}
    _insert(
        connection,
        CONTENTS,
        ("id", "digest", "kind", "asset_count"),
        [
            (content_ids[digest], digest, kind, counts.get(digest, 0))
            for digest, kind in kinds.items()
        ],
    )
    _insert(
        connection,
        ITEMS,
        _ITEM_COLUMNS,
        [
            _item_row(
                item,
                content_ids[item.digest],
                is_live=counts.get(item.digest, 0) > 0,
            )
            for item in pictures
        ],
    )
    first_items = {
        item.digest: (content_ids[item.digest], item.id)
        for item in pictures
        if item.locator.part == 0
    }
    return space_id, first_items


def _item_row(item: EncodedPicture, content_id: int, *, is_live: bool) -> tuple[object, ...]:
    picture, locator = item.picture, item.locator
    return (
        item.id,
        content_id,
        is_live,
        picture.width,
        picture.height,
        storable(picture.format),
        storable(picture.damage),
        locator.part,
        locator.start_ms,
        locator.end_ms,
        locator.page,
        storable(picture.taken_at),
        storable(picture.taken_from),
        storable(picture.camera),
        storable(picture.lens),
        picture.latitude,
        picture.longitude,
        picture.rating,
        storable(picture.label),
        item.perceptual_hash,
    )


def _insert_assets(
    connection: Connection,
    shard: ShardCommit,
    contents: ContentIds,
    first_id: int,
    counted: Set[bytes],
) -> None:
    """Write assets; those of the contents in ``counted`` are counted already."""
    rows: dict[bool, list[tuple[object, ...]]] = {True: [], False: []}
    for asset_id, placed in enumerate(shard.indexed, first_id):
        if placed.digest not in contents:
            raise ValueError(
                f"{placed.file.path!r} has content {placed.digest.hex()}, which has no item"
            )
        file = placed.file
        rows[placed.digest in counted].append(
            (
                asset_id,
                shard.root_id,
                file.path,
                file.size,
                file.mtime_ns,
                file.ctime_ns,
                shard.checked_ns,
                placed.digest,
                contents[placed.digest][0],
                placed.texts_key,
                files_metadata_to_json(placed.overrides, placed.fallbacks),
                placed.part,
                placed.stamp,
                None if placed.metadata is None else json.dumps(placed.metadata),
            )
        )
    _insert(connection, ASSETS, _ASSET_COLUMNS, rows[False])
    with _without_counting(connection):
        _insert(connection, ASSETS, _ASSET_COLUMNS, rows[True])


def _apply_triggers(
    connection: Connection,
    shard: ShardCommit,
    contents: ContentIds,
    counts: Mapping[bytes, int],
    new: set[bytes],
) -> None:
    """Do what the triggers of ``assets`` do; the counts of new contents are written already."""
    known = [(count, contents[digest][0]) for digest, count in counts.items() if digest not in new]
    if known:
        connection.exec_driver_sql(
            "UPDATE contents SET asset_count = asset_count + ? WHERE id = ?", known
        )
    if shard.indexed:
        connection.exec_driver_sql(
            "DELETE FROM parts WHERE source_id IN"
            " (SELECT id FROM sources WHERE id = ? AND kind = ?)",
            (shard.root_id, FOLDER_KIND),
        )
    described = {
        (contents[placed.digest][0],)
        for placed in shard.indexed
        if files_metadata_to_json(placed.overrides, placed.fallbacks) is not None
    }
    if described:
        connection.exec_driver_sql(
            "UPDATE items SET must_merge = 1 WHERE content_id = ?", sorted(described)
        )


def _insert_texts(
    connection: Connection, shard: ShardCommit, contents: ContentIds, first_id: int
) -> set[int]:
    """Write the texts of new pictures and assets; return the ids of their items."""
    rows: list[tuple[int, int | None, Text, bytes | None]] = [
        (item.id, None, text, None) for item in shard.pictures for text in item.picture.texts
    ]
    first_items = {digest: item_id for digest, (_, item_id) in contents.items()}
    find_item = item_finder(as_read_connection(connection), shard.indexed, first_items)
    for asset_id, placed in enumerate(shard.indexed, first_id):
        if placed.texts or placed.table is not None:
            item_id = first_items[placed.digest]
            rows += [
                (find_item(item_id, text), asset_id, text, table)
                for text, table in merge_texts(placed, ())
            ]
    insert_texts(connection, rows)
    return {item_id for item_id, *_ in rows}


@contextmanager
def _without_triggers(connection: Connection, table: str) -> Iterator[None]:
    """Drop the triggers of a table for a block of the transaction; a rollback restores them."""
    if is_postgres(connection):
        yield
        return
    triggers = as_read_connection(connection).query(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", [table]
    )
    for name, _ in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    yield
    for _, statement in triggers:
        connection.exec_driver_sql(statement)


@contextmanager
def _without_counting(connection: Connection) -> Iterator[None]:
    """Let the triggers of PostgreSQL not count the assets that are inserted in a block."""
    if not is_postgres(connection):
        yield
        return
    from mmsearch.catalog.postgres import COUNTED_SETTING  # noqa: PLC0415 - costs psycopg

    db = as_read_connection(connection)
    db.query("SELECT set_config(?, 'on', true)", [COUNTED_SETTING])
    yield
    db.query("SELECT set_config(?, 'off', true)", [COUNTED_SETTING])


def _insert(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[tuple[object, ...]],
) -> None:
    insert_rows(connection, table, [dict(zip(columns, row, strict=True)) for row in rows])
