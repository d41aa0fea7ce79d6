"""Groups of duplicates, read without SQLAlchemy, as all reading."""

from __future__ import annotations

import json

import numpy as np

from mmsearch.catalog.connection import PinnedConnection, ReadConnection, ReadPool
from mmsearch.core.duplicates import NO_TIME, DuplicateRow, DuplicateState, PictureLooks

STATE_KEY = "duplicates"
"""Key of the setting with the state of the groups."""

_PAGE_ROWS = 100_000

# A date without a time of day is stored as midnight.
_LOOKS = (
    "SELECT content_id, items.id, coalesce(perceptual_hash, 0),"
    " CASE WHEN strftime('%H:%M:%S', taken_at) <> '00:00:00'"
    " THEN CAST(strftime('%s', taken_at) AS INTEGER) END, camera"
    " FROM items JOIN contents ON contents.id = content_id"
    " WHERE content_id > ? AND part = 0 AND has_pixels = 1 AND kind = 'image'"
    " ORDER BY content_id LIMIT ?"
)


class SqliteDuplicateReader:
    """Implementation of `mmsearch.core.duplicates.DuplicateReader`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
    """

    def __init__(self, connections: ReadPool | PinnedConnection) -> None:
        self._connections = connections

    def state(self) -> DuplicateState | None:
        """Return what the groups are made of; None if they were never made, or were lost."""
        with self._connections.read_transaction() as db:
            return read_state(db)

    def last_content(self) -> int:
        """Return the highest id of a content; 0 without any."""
        with self._connections.read_transaction() as db:
            ((last,),) = db.query("SELECT coalesce(max(id), 0) FROM contents")
        return int(last)

    def load_looks(self) -> PictureLooks:
        """Return the looks of all contents that are one still picture."""
        cameras: dict[str | None, int] = {None: -1}
        pages = [np.empty((5, 0), dtype=np.int64)]
        last = 0
        with self._connections.read_transaction() as db:
            while rows := db.query(_LOOKS, [last, _PAGE_ROWS]):
                pages.append(
                    np.array(
                        [
                            (
                                content,
                                item,
                                look,
                                NO_TIME if taken is None else taken,
                                cameras.setdefault(camera, len(cameras) - 1),
                            )
                            for content, item, look, taken, camera in rows
                        ],
                        dtype=np.int64,
                    ).T
                )
                last = rows[-1][0]
        contents, items, hashes, taken_s, camera_numbers = np.concatenate(pages, axis=1)
        return PictureLooks(contents, items, hashes, taken_s, camera_numbers.astype(np.int32))

    def rows(self) -> list[DuplicateRow]:
        """Return the groups of all contents that are not alone, by content."""
        statement = "SELECT content_id, stack_id, near_id FROM duplicates ORDER BY content_id"
        with self._connections.read_transaction() as db:
            return [DuplicateRow(*row) for row in db.query(statement)]


def read_state(db: ReadConnection) -> DuplicateState | None:
    """Return the state of the groups; None without one, or if the groups are lost."""
    found = db.query("SELECT value FROM settings WHERE key = ?", [STATE_KEY])
    try:
        state = DuplicateState.from_dict(json.loads(found[0][0])) if found else None
    except (TypeError, ValueError):
        return None
    if state is not None and state.grouped and not db.query("SELECT 1 FROM duplicates LIMIT 1"):
        return None
    return state
