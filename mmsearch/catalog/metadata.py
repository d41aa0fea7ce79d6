"""Metadata of pictures: that of the picture file merged with what its sidecars and paths say.

The columns of ``items`` hold the merged values, so filters and results read one row. A trigger
sets ``must_merge`` when the metadata around any asset of an item changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from mmsearch.catalog.row_writes import update_rows
from mmsearch.catalog.rows import storable
from mmsearch.catalog.sqlalchemy_engine import as_read_connection
from mmsearch.catalog.tables import ITEMS
from mmsearch.core.records import NO_METADATA
from mmsearch.core.types import METADATA_GROUPS, Metadata, merge_metadata

FIELDS = tuple(name for group in METADATA_GROUPS for name in group)
"""Columns of ``items`` that are merged."""


def metadata_columns(metadata: Metadata) -> dict[str, Any]:
    """Return the columns of ``items`` for the metadata of a picture file, without its texts."""
    return {name: storable(getattr(metadata, name)) for name in FIELDS}


def files_metadata_to_json(overrides: Metadata, fallbacks: Metadata) -> str | None:
    """Return the value of ``assets.metadata``; None if there is no metadata around the file."""
    if overrides is NO_METADATA and fallbacks is NO_METADATA:
        return None
    sides = {
        side: {
            name: value for name, value in metadata_columns(metadata).items() if value is not None
        }
        for side, metadata in (("overrides", overrides), ("fallbacks", fallbacks))
    }
    known = {side: values for side, values in sides.items() if values}
    return json.dumps(known) if known else None


def merge_changed_metadata(connection: Connection) -> list[int]:
    """Merge the metadata of all pictures whose files' metadata has changed; return their ids.

    What overrides a picture file comes first, then the picture file, then the fallbacks; files are
    taken in the order of their paths.
    """
    db = as_read_connection(connection)
    columns = ", ".join(FIELDS)
    changed = db.query(f"SELECT id, embedded, {columns} FROM items WHERE must_merge = 1")  # noqa: S608
    if not changed:
        return []
    around: dict[int, list[Mapping[str, Any]]] = {}
    for item_id, stored in db.query(
        "SELECT items.id, metadata FROM items JOIN assets USING (content_id)"
        " WHERE must_merge = 1 AND metadata IS NOT NULL ORDER BY source_id, assets.key"
    ):
        around.setdefault(item_id, []).append(_load(stored))
    rows = []
    for item_id, embedded_json, *values in changed:
        embedded = (
            dict(zip(FIELDS, values, strict=True))
            if embedded_json is None
            else {name: _load(embedded_json).get(name) for name in FIELDS}
        )
        files = around.get(item_id, [])
        candidates = [
            *(_parse(file.get("overrides")) for file in files),
            Metadata(**embedded),
            *(_parse(file.get("fallbacks")) for file in files),
        ]
        rows.append(
            {
                "id": item_id,
                "embedded": json.dumps(embedded) if files else None,
                "must_merge": 0,
                **merge_metadata(candidates),
            }
        )
    update_rows(connection, ITEMS, rows, ["id"])
    return [item_id for item_id, *_ in changed]


def _load(stored: str) -> dict[str, Any]:
    """Return a stored JSON object; an empty one if it was damaged."""
    try:
        return dict(json.loads(stored))
    except (ValueError, TypeError, RecursionError):
        return {}


def _parse(stored: Any) -> Metadata:
    if not isinstance(stored, dict):
        return NO_METADATA
    values: dict[str, Any] = {name: stored.get(name) for name in FIELDS}
    return Metadata(**values)
