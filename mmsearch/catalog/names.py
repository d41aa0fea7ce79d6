"""Names of people and places in the texts of pictures, and the order of pictures by dates."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.core.query import fold_text
from mmsearch.core.types import Ids


def list_names(db: Database, kind: str) -> list[str]:
    """Return the different values of the texts of a kind, as they are written, of live pictures.

    Args:
        db: A connection in a transaction.
        kind: A kind of texts with several values, such as ``people``.
    """
    rows = db.query(
        "SELECT names.tag, texts.text FROM (SELECT DISTINCT tag FROM tags WHERE kind = :kind)"
        " AS names JOIN texts ON texts.id = (SELECT tags.text_id FROM tags JOIN items"
        " ON items.id = tags.item_id WHERE tags.kind = :kind AND tags.tag = names.tag"
        " AND items.is_live = 1 ORDER BY tags.item_id, tags.id LIMIT 1)",
        {"kind": kind},
    )
    names = []
    for tag, text in rows:
        written = (name.strip() for name in text.split(";"))
        names.append(next((name for name in written if fold_text(name) == tag), tag))
    return sorted(names)


def has_names(db: Database, kind: str, names: Sequence[str] | None) -> bool:
    """Return True if a live picture has a text of a kind.

    Args:
        db: A connection in a transaction.
        kind: A kind of texts with several values, such as ``place``.
        names: Values, one of which it has; None for any.
    """
    among = "" if names is None else f" AND tags.tag {db.dialect.texts(':names')}"
    values = {"kind": kind}
    if names is not None:
        values["names"] = json.dumps([fold_text(name) for name in names])
    rows = db.query(
        "SELECT EXISTS (SELECT 1 FROM tags JOIN items ON items.id = tags.item_id"  # noqa: S608
        f" WHERE tags.kind = :kind{among} AND items.is_live = 1)",
        values,
    )
    return bool(rows[0][0])


def newest_ids(db: Database, limit: int, allowed: Ids | None) -> Ids:
    """Return the ids of the newest live items, int64 (n,); those without a date come last.

    Args:
        db: A connection in a transaction.
        limit: Maximum number of ids.
        allowed: Ids among which they are; None for all.
    """
    among = "" if allowed is None else f" AND id {db.dialect.ids(':allowed')}"
    rows = db.query(
        f"SELECT id FROM items WHERE is_live = 1{among}"  # noqa: S608
        " ORDER BY taken_at IS NULL, taken_at DESC, id LIMIT :limit",
        {"limit": limit}
        if allowed is None
        else {"limit": limit, "allowed": json.dumps(allowed.tolist())},
    )
    return np.array([row[0] for row in rows], dtype=np.int64)


def load_dates(db: Database, ids: Ids) -> dict[int, str | None]:
    """Return when items were taken, by their ids; None for an unknown date."""
    statement = f"SELECT id, taken_at FROM items WHERE id {db.dialect.in_ids}"  # noqa: S608 - our text
    return dict(db.query(statement, [json.dumps(ids.tolist())]))
