"""Items whose fields differ from those in a collection on a search server, as triggers log them.

Each collection begins an *epoch* of the log before it reads the fields of items, and its settings
in the catalog have the number of the epoch before. What changes later is in the log with a higher
number. Publishing a collection deletes the rows that it needs no more; publishing a file ends the
log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.catalog.filters import FIELD_EXPRESSIONS, LIST_FIELD_KINDS
from mmsearch.core.query import LIST_FIELDS
from mmsearch.core.server_filters import SEARCH_FIELDS
from mmsearch.core.types import Ids

EPOCH_KEY: Final = "fields_epoch"
"""Setting of a collection: the last epoch whose changes it has."""

DEFINITION_KEY: Final = "fields_definition"
"""Setting of a collection: digest of the definitions of its fields."""

_DEFINITION: Final = hashlib.sha256(
    repr([SEARCH_FIELDS, FIELD_EXPRESSIONS, LIST_FIELD_KINDS, LIST_FIELDS]).encode()
).hexdigest()[:16]

LOG_NEW_ASSET: Final = (
    "INSERT INTO field_changes (epoch, item_id) SELECT epoch, items.id FROM field_log, items"
    " WHERE items.content_id = ? AND items.id <= max_item_id AND NOT EXISTS (SELECT 1 FROM assets"
    " WHERE content_id = items.content_id AND size = ? AND id < ?) ON CONFLICT DO NOTHING"
)
"""Statement for a new asset: its content, its size, and the lowest id of the new assets."""


def begin_epoch(db: Database) -> dict[str, Any]:
    """Log changes of the fields of all present items from now on, in a transaction of the caller.

    Returns:
        Settings of a collection whose fields are read after this transaction.
    """
    db.query("INSERT INTO field_log SELECT 0, 1, 0 WHERE NOT EXISTS (SELECT 1 FROM field_log)")
    ((epoch,),) = db.query("SELECT epoch FROM field_log")
    db.query(
        "UPDATE field_log SET epoch = epoch + 1,"
        " max_item_id = (SELECT coalesce(max(id), 0) FROM items)"
    )
    return {EPOCH_KEY: int(epoch), DEFINITION_KEY: _DEFINITION}


def add_changes(db: Database, ids: Iterable[int]) -> None:
    """Log items as changed."""
    for item_id in ids:
        db.query(
            "INSERT INTO field_changes (epoch, item_id) SELECT epoch, CAST(? AS BIGINT)"
            " FROM field_log WHERE true ON CONFLICT DO NOTHING",
            [item_id],
        )


def forget_changes(db: Database, settings: Mapping[str, Any] | None) -> None:
    """Delete the rows that are not needed once a built index is published.

    Args:
        db: A database in a transaction, which publishes the index.
        settings: Settings of the built index; None for none.
    """
    if settings is None or "collection" not in settings:
        # A collection that is being built, by another run, is not up to date without the log.
        db.query("DELETE FROM field_changes")
        db.query("UPDATE field_log SET max_item_id = 0, kept_after = epoch WHERE max_item_id > 0")
        return
    epoch = settings.get(EPOCH_KEY)
    if db.query("SELECT 1 FROM field_log WHERE epoch > ?", [epoch]):
        db.query("DELETE FROM field_changes WHERE epoch <= ?", [epoch])
        db.query("UPDATE field_log SET kept_after = ? WHERE kept_after < ?", [epoch, epoch])


def read_changes(db: Database, settings: Mapping[str, Any]) -> Ids | None:
    """Return the items whose fields may differ from those in a collection.

    Args:
        db: The database.
        settings: Settings of the collection.

    Returns:
        int64 (n,), ascending; it may contain deleted items. None if that is not known: the
        collection has fields of another version, or was built from another catalog.
    """
    epoch = settings.get(EPOCH_KEY)
    if not isinstance(epoch, int) or settings.get(DEFINITION_KEY) != _DEFINITION:
        return None
    if not db.query("SELECT 1 FROM field_log WHERE kept_after <= ? AND epoch > ?", [epoch, epoch]):
        return None
    rows = db.query("SELECT item_id FROM field_changes WHERE epoch > ?", [epoch])
    return np.unique(np.array(rows, dtype=np.int64).reshape(-1))
