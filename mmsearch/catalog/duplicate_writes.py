"""Writing of groups of duplicates: each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Engine, delete, func, select

from mmsearch.catalog.database import Connections
from mmsearch.catalog.duplicates import STATE_KEY, SqlDuplicateReader
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.row_writes import save_setting, update_rows, upsert_rows
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.catalog.tables import DUPLICATES, ITEMS, SETTINGS
from mmsearch.core.duplicates import DuplicateRow, DuplicateState


class SqlDuplicateWriter(SqlDuplicateReader):
    """Implementation of `mmsearch.core.duplicates.DuplicateWriter`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
        engine: Its engine.
    """

    def __init__(self, connections: Connections, engine: Engine) -> None:
        super().__init__(connections)
        self._engine = engine

    def save(self, changed: list[DuplicateRow], state: DuplicateState, *, replace: bool) -> None:
        """Save groups and their state, in one transaction."""
        with write_transaction(self._engine) as connection:
            had_rows = bool(
                connection.execute(select(func.count()).select_from(DUPLICATES)).scalar()
            )
            if replace:
                connection.execute(delete(DUPLICATES))
            rows = [asdict(row) for row in changed]
            upsert_rows(connection, DUPLICATES, rows, ["content_id"])
            save_setting(connection, STATE_KEY, state.to_dict())
            if changed or (replace and had_rows):
                add_generation(connection)

    def save_hashes(self, hashes: Mapping[int, int], *, regroup: bool) -> None:
        """Save perceptual hashes by item, in one transaction."""
        rows = [{"id": item, "perceptual_hash": look} for item, look in hashes.items()]
        with write_transaction(self._engine) as connection:
            update_rows(connection, ITEMS, rows, ["id"])
            if regroup:
                connection.execute(delete(SETTINGS).where(SETTINGS.c.key == STATE_KEY))
