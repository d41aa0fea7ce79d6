"""Writing of groups of duplicates: each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from sqlalchemy import Engine, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.connection import PinnedConnection, ReadPool
from mmsearch.catalog.duplicates import STATE_KEY, SqliteDuplicateReader
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.catalog.tables import DUPLICATES, ITEMS, SETTINGS
from mmsearch.core.duplicates import DuplicateRow, DuplicateState


class SqliteDuplicateWriter(SqliteDuplicateReader):
    """Implementation of `mmsearch.core.duplicates.DuplicateWriter`; thread-safe.

    Args:
        connections: Connections to a database with the newest schema.
        engine: Its engine.
    """

    def __init__(self, connections: ReadPool | PinnedConnection, engine: Engine) -> None:
        super().__init__(connections)
        self._engine = engine

    def save(self, changed: list[DuplicateRow], state: DuplicateState, *, replace: bool) -> None:
        """Save groups and their state, in one transaction."""
        upsert = insert(DUPLICATES)
        new_values = {name: upsert.excluded[name] for name in ("stack_id", "near_id")}
        setting = insert(SETTINGS).prefix_with("OR REPLACE")
        with write_transaction(self._engine) as connection:
            had_rows = bool(
                connection.execute(select(func.count()).select_from(DUPLICATES)).scalar()
            )
            if replace:
                connection.execute(delete(DUPLICATES))
            if changed:
                connection.execute(
                    upsert.on_conflict_do_update(index_elements=["content_id"], set_=new_values),
                    [asdict(row) for row in changed],
                )
            connection.execute(setting, {"key": STATE_KEY, "value": state.to_dict()})
            if changed or (replace and had_rows):
                add_generation(connection)

    def save_hashes(self, hashes: Mapping[int, int], *, regroup: bool) -> None:
        """Save perceptual hashes by item, in one transaction."""
        statement = (
            update(ITEMS)
            .where(ITEMS.c.id == bindparam("item"))
            .values(perceptual_hash=bindparam("look"))
        )
        with write_transaction(self._engine) as connection:
            if hashes:
                rows = [{"item": item, "look": look} for item, look in hashes.items()]
                connection.execute(statement, rows)
            if regroup:
                connection.execute(delete(SETTINGS).where(SETTINGS.c.key == STATE_KEY))
