"""Values of the fields of items that filters compare, for search servers that filter by themselves.

They are those of `mmsearch.catalog.filters`, by the same SQL, folded as filters fold them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

from mmsearch.catalog.database import Database
from mmsearch.catalog.filters import FIELD_EXPRESSIONS, LIST_FIELD_KINDS
from mmsearch.core.query import LIST_FIELDS, fold_text
from mmsearch.core.server_filters import ItemFields

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
