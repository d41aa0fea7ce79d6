"""Stacks of a catalog: contents that are near duplicates of each other, or of one burst.

Few statements, each for many items: a search looks up the stacks of its candidates. A stack has a
number below 0 among the groups of items, because the smallest content in it may be gone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.database import Database
from mmsearch.catalog.rows import locate, read_ids
from mmsearch.core.records import FOLDER_KIND, DuplicateRecord, StackRecord
from mmsearch.core.types import Ids

_GROUPS = (
    "SELECT coalesce(-stack_id, items.content_id) FROM items"
    " LEFT JOIN duplicates ON duplicates.content_id = items.content_id"
    " WHERE items.id {in_ids} ORDER BY items.id"
)

_ITEMS_OF_STACKS = (
    "WITH searched AS MATERIALIZED (SELECT content_id, stack_id FROM items"
    " LEFT JOIN duplicates USING (content_id) WHERE items.id {in_ids})"
    " SELECT id FROM items WHERE content_id IN (SELECT content_id FROM searched UNION"
    " SELECT duplicates.content_id FROM duplicates JOIN searched USING (stack_id)) ORDER BY id"
)

# One row of arrays is much faster than a row for each picture of a long burst.
_MEMBERS = (
    "WITH searched AS MATERIALIZED (SELECT items.id AS item_id, duplicates.* FROM items"
    " JOIN duplicates USING (content_id) WHERE items.id {in_ids})"
    " SELECT item_id, {items}, {contents}, {is_near} FROM searched"
    " JOIN duplicates AS member ON member.stack_id = searched.stack_id"
    " AND member.content_id <> searched.content_id"
    " JOIN items ON items.content_id = member.content_id AND items.is_live = 1"
    " GROUP BY item_id"
)

_PLACES = (
    "SELECT items.id, taken_at, sources.kind, sources.uri, assets.key FROM items"
    " JOIN assets ON assets.content_id = items.content_id"
    " JOIN sources ON sources.id = assets.source_id WHERE items.id {in_ids}"
)


def has_stacks(db: Database) -> bool:
    """Return True if the catalog lists duplicates."""
    return bool(db.query("SELECT EXISTS (SELECT 1 FROM duplicates)")[0][0])


def find_stack_ids(db: Database, ids: Ids) -> Ids:
    """Return the number of the stack or content of each item, int64 (n,), in their order."""
    unique_ids, places = np.unique(ids, return_inverse=True)
    return read_ids(
        db, _GROUPS.format(in_ids=db.dialect.in_ids), [json.dumps(unique_ids.tolist())]
    )[places]


def find_stack_item_ids(db: Database, ids: Ids) -> Ids:
    """Return the ids of all items of the stacks and contents of some items, ascending."""
    return read_ids(
        db, _ITEMS_OF_STACKS.format(in_ids=db.dialect.in_ids), [json.dumps(ids.tolist())]
    )


def load_stacks(
    db: Database, ids: Sequence[int], allowed: Ids | None, limit: int
) -> dict[int, StackRecord]:
    """Return the other pictures of the stacks of some items; see `Snapshot.stacks`."""
    chosen: dict[int, tuple[int, list[tuple[int, str]]]] = {}
    statement = _MEMBERS.format(
        in_ids=db.dialect.in_ids,
        items=db.dialect.list_of("items.id"),
        contents=db.dialect.list_of("items.content_id"),
        is_near=db.dialect.list_of("member.near_id = searched.near_id"),
    )
    for item_id, *arrays in db.query(statement, [json.dumps(list(ids))]):
        items, contents, is_near = (np.array(json.loads(a), dtype=np.int64) for a in arrays)
        order = np.argsort(items)
        if allowed is not None:
            order = order[_contains(allowed, items[order])]
        # The first item of each content, near duplicates first.
        _, firsts = np.unique(contents[order], return_index=True)
        first = order[np.sort(firsts)]
        first = first[np.argsort(1 - is_near[first], kind="stable")]
        kinds = ("burst", "near")
        listed = [(int(items[row]), kinds[is_near[row]]) for row in first[:limit].tolist()]
        if len(first):
            chosen[item_id] = len(first), listed
    if not chosen:
        return {}
    places = _load_places(db, [item for _, listed in chosen.values() for item, _ in listed])
    return {
        item_id: StackRecord(count, [_make_record(item, kind, places[item]) for item, kind in some])
        for item_id, (count, some) in chosen.items()
    }


def _contains(allowed: Ids, ids: Ids) -> NDArray[np.bool_]:
    """Return which of some ids are among allowed ones, which ascend, bool (n,)."""
    return np.searchsorted(allowed, ids) < np.searchsorted(allowed, ids, side="right")


_Place = tuple[bool, bytes, str | None]
"""True for a picture in no folder, its path or URI, and when it was taken."""


def _load_places(db: Database, ids: Sequence[int]) -> dict[int, _Place]:
    """Return the first place of each item; files of folders come first, as in a record."""
    places: dict[int, _Place] = {}
    for item_id, taken_at, kind, uri, key in db.query(
        _PLACES.format(in_ids=db.dialect.in_ids), [json.dumps(ids)]
    ):
        place = (kind != FOLDER_KIND, locate(kind, uri, key), taken_at)
        places[item_id] = min(place, places.get(item_id, place), key=lambda each: each[:2])
    return places


def _make_record(item_id: int, kind: str, place: _Place) -> DuplicateRecord:
    is_elsewhere, path, taken_at = place
    return DuplicateRecord(item_id, path, kind, taken_at, path if is_elsewhere else b"")
