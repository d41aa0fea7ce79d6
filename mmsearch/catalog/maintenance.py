"""Maintenance of a catalog: repairs, recovery of a damaged one, and compaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import delete, insert, select

from mmsearch.catalog.commits import add_segment, delete_items, mark_failed
from mmsearch.catalog.database import Database
from mmsearch.catalog.field_changes import forget_changes
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.reader import UNFINISHED_REPAIR_KEY
from mmsearch.catalog.row_writes import save_setting
from mmsearch.catalog.rows import (
    BUILDING,
    chunks,
    find_items,
    read_segment_item_ids,
)
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, write_transaction
from mmsearch.catalog.tables import (
    EMBEDDINGS,
    ITEMS,
    SEGMENTS,
    SETTINGS,
    STALE_ROWS,
)
from mmsearch.catalog.writer import SqlWriter
from mmsearch.core.records import EncodedPicture, Segment
from mmsearch.core.types import TextSource


class SqlMaintenance(SqlWriter):
    """Maintenance that is the same in all databases; thread-safe."""

    def _recount(self, db: Database) -> None:
        """Count the assets of all contents again."""
        for statement in (
            "UPDATE contents SET asset_count ="
            " (SELECT count(*) FROM assets WHERE assets.content_id = contents.id)",
            "UPDATE items SET is_live = (SELECT CAST(asset_count > 0 AS INTEGER)"
            " FROM contents WHERE contents.id = content_id)",
        ):
            db.query(statement)

    # --- segments ---

    def restore_segment(
        self, segment: Segment, pictures: Sequence[EncodedPicture], *, building: bool = False
    ) -> None:
        """Add a segment of a lost catalog.

        Its pictures supersede those of equal content. A segment of the space being built adds no
        pictures; rows of others are stale.
        """
        with write_transaction(self._engine) as connection:
            former_ids = find_items(
                as_read_connection(connection), (item.digest for item in pictures)
            )
            if building:
                known = [
                    replace(item, keep_texts=True)
                    for item in pictures
                    if former_ids.get((item.digest, item.locator.part)) == item.id
                ]
                other_ids = {item.id for item in pictures} - {item.id for item in known}
                add_segment(connection, segment, known, BUILDING, stale_ids=sorted(other_ids))
                return
            # Format 1 gave a picture another id when its texts changed.
            replaced = sorted(set(former_ids.values()) - {item.id for item in pictures})
            for chunk in chunks(replaced):
                connection.execute(
                    insert(STALE_ROWS).from_select(
                        ["segment", "item_id"],
                        select(EMBEDDINGS.c.segment, EMBEDDINGS.c.item_id).where(
                            EMBEDDINGS.c.item_id.in_(chunk)
                        ),
                    )
                )
                connection.execute(delete(ITEMS).where(ITEMS.c.id.in_(chunk)))
            add_segment(connection, segment, pictures)
            add_generation(connection)

    def drop_segment(self, segment_number: int) -> None:
        """Delete a segment and its pictures; the next run retries their files, marked as failed."""
        with write_transaction(self._engine) as connection:
            ids = read_segment_item_ids(as_read_connection(connection), segment_number)
            for chunk in chunks(ids):
                mark_failed(connection, chunk, "its vector was lost")
                delete_items(connection, chunk)
            connection.execute(delete(SEGMENTS).where(SEGMENTS.c.number == segment_number))
            add_generation(connection, None)

    def drop_built_index(self) -> None:
        """Add a generation without a built index; readers then search the segments."""
        with write_transaction(self._engine) as connection:
            forget_changes(as_read_connection(connection), None)
            add_generation(connection, None)

    # --- repairs ---

    def save_unfinished_roots(self, ids: Sequence[int]) -> None:
        """Store the ids of the roots that a repair has yet to scan."""
        with write_transaction(self._engine) as connection:
            connection.execute(delete(SETTINGS).where(SETTINGS.c.key == UNFINISHED_REPAIR_KEY))
            if ids:
                save_setting(connection, UNFINISHED_REPAIR_KEY, list(ids))

    def reattach_texts(self) -> None:
        """Attach caption-table texts whose files were lost to a file of the same picture."""
        statement = (
            "UPDATE texts SET asset_id = (SELECT min(assets.id) FROM assets JOIN items"
            " USING (content_id) WHERE items.id = texts.item_id)"
            " WHERE asset_id IS NULL AND source = :table"
        )
        with write_transaction(self._engine) as connection:
            as_read_connection(connection).query(statement, {"table": TextSource.TABLE.value})
