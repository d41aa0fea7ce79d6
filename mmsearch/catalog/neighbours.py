"""Moments before and after others: a line is often said while something else is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from mmsearch.catalog.connection import ReadConnection
from mmsearch.core.types import Ids


def find_neighbours(db: ReadConnection, ids: Iterable[int]) -> Ids:
    """Return the items before and after items of films and sounds.

    Items without a time, such as pages, have no neighbours.

    Args:
        db: A connection in a transaction.
        ids: The items whose neighbours are wanted.

    Returns:
        int64 (pairs, 3): an item, its neighbour, and -1 if that is before it, 1 if it is after it.
    """
    # One row of arrays is much faster than a row for each pair.
    rows = db.query(
        "SELECT json_group_array(items.id), json_group_array(beside.id),"
        " json_group_array(beside.part - items.part)"
        " FROM json_each(?) JOIN items ON items.id = value"
        " JOIN items AS beside ON beside.content_id = items.content_id"
        " AND beside.part IN (items.part - 1, items.part + 1)"
        " WHERE items.start_ms IS NOT NULL",
        [json.dumps([int(item_id) for item_id in ids])],
    )
    pairs: Ids = np.array([json.loads(column) for column in rows[0]], dtype=np.int64).T
    return pairs
