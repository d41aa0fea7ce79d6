"""Values of the fields of items that filters compare, for search servers that filter by themselves.

They are those of `mmsearch.catalog.filters`, by the same SQL, folded as filters fold them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.catalog.filters import FIELD_EXPRESSIONS, LIST_FIELD_KINDS
from mmsearch.catalog.identity import CHANGED_FIELDS_KEY, CHANGED_IDS_KEY
from mmsearch.catalog.rows import scalar
from mmsearch.core.query import LIST_FIELDS, fold_text
from mmsearch.core.server_filters import ItemFields
from mmsearch.core.types import Ids

_COLUMNS = ", ".join(FIELD_EXPRESSIONS.values())
_LIST_FIELD_BY_KIND = {kind: name for name, kind in LIST_FIELD_KINDS.items()}


def read_item_fields(db: Database, ids: Sequence[int]) -> list[ItemFields]:
    """Return the fields of the items that exist among ids, deleted ones included, ordered by id."""
    listed = json.dumps(list(ids))
    values_by_list: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for item_id, kind, value in db.query(
        f"SELECT item_id, kind, tag FROM tags WHERE item_id {db.dialect.in_ids}",  # noqa: S608
        [listed],
    ):
        if kind in _LIST_FIELD_BY_KIND:
            values_by_list[item_id][_LIST_FIELD_BY_KIND[kind]].add(value)
    rows = db.query(
        f"SELECT items.id, {_COLUMNS} FROM items"  # noqa: S608
        f" WHERE items.id {db.dialect.in_ids} ORDER BY items.id",
        [listed],
    )
    return [
        ItemFields(
            item_id,
            {
                **dict(zip(FIELD_EXPRESSIONS, map(fold_text, values), strict=True)),
                **{name: tuple(sorted(values_by_list[item_id][name])) for name in LIST_FIELDS},
            },
        )
        for item_id, *values in rows
    ]


def read_changed_fields(db: Database, collection: str) -> Ids | None:
    """Return the items whose fields differ from those in a collection on a search server.

    Returns:
        int64 (n,), ascending. None if that is not known: the catalog has changed since they were
        compared.
    """
    stored = db.query("SELECT value FROM settings WHERE key = ?", [CHANGED_FIELDS_KEY])
    state = json.loads(stored[0][0]) if stored else None
    newest = scalar(db, "SELECT coalesce(max(number), 0) FROM generations")
    if state != {"collection": collection, "generation": newest}:
        return None
    rows = db.query("SELECT value FROM settings WHERE key = ?", [CHANGED_IDS_KEY])
    return _parse_ids(rows[0][0]) if rows else None


def changed_fields_settings(collection: str, generation: int, ids: Ids) -> list[dict[str, Any]]:
    """Return the rows of the settings for a generation; see `read_changed_fields`."""
    state = {"collection": collection, "generation": generation}
    return [
        {"key": CHANGED_FIELDS_KEY, "value": state},
        {"key": CHANGED_IDS_KEY, "value": np.unique(ids).tolist()},
    ]


# Every search with filters reads the same row.
@lru_cache(maxsize=4)
def _parse_ids(stored: str) -> Ids:
    return np.array(json.loads(stored), dtype=np.int64)
