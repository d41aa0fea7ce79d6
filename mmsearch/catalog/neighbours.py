"""Moments before and after others: a line is often said while something else is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.core.types import Ids


def find_neighbours(db: Database, ids: Iterable[int]) -> Ids:
    """Return the items before and after items of films and sounds.

    Items without a time, such as pages, have no neighbours.

    Args:
        db: A connection in a transaction.
        ids: The items whose neighbours are wanted.

    Returns:
        int64 (pairs, 3): an item, its neighbour, and -1 if that is before it, 1 if it is after it;
        by item, the neighbour before it first.
    """
    # One row of arrays is much faster than a row for each pair.
    columns = ", ".join(
        map(db.dialect.list_of, ("items.id", "beside.id", "beside.part - items.part"))
    )
    rows = db.query(
        f"SELECT {columns} FROM {db.dialect.id_rows('?')} JOIN items ON items.id = value"  # noqa: S608
        " JOIN items AS beside ON beside.content_id = items.content_id"
        " AND beside.part IN (items.part - 1, items.part + 1)"
        " WHERE items.start_ms IS NOT NULL",
        [json.dumps([int(item_id) for item_id in ids])],
    )
    pairs: Ids = np.array([json.loads(column) for column in rows[0]], dtype=np.int64).T
    # Databases list them in another order.
    return pairs[np.lexsort((pairs[:, 2], pairs[:, 0]))]
