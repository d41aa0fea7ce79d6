"""Writing of groups of duplicates: each method is one transaction."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from mmsearch.catalog.connection import PinnedConnection, ReadPool
from mmsearch.catalog.duplicates import STATE_KEY, SqliteDuplicateReader
from mmsearch.catalog.generations import add_generation
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.catalog.tables import DUPLICATES, SETTINGS
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
