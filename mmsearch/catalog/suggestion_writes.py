"""Writing of the words that suggestions are chosen from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, delete

from mmsearch.catalog.database import Connections
from mmsearch.catalog.row_writes import insert_rows, save_setting
from mmsearch.catalog.rows import storable
from mmsearch.catalog.snapshot import SqlSnapshot
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.catalog.suggestion_words import collect_words
from mmsearch.catalog.suggestions import fold
from mmsearch.catalog.tables import SUGGESTIONS
from mmsearch.core.suggestions import SuggestedWord, SuggestionState
from mmsearch.core.types import full_text_sources

STATE_KEY = "suggestions"
"""Key of the setting with what the suggestions were made from."""


class SqlSuggestionWriter:
    """Implementation of `mmsearch.core.suggestions.SuggestionWriter`.

    Args:
        connections: Connections to a database with the newest schema.
        engine: Its engine.
    """

    def __init__(self, connections: Connections, engine: Engine) -> None:
        self._connections = connections
        self._engine = engine

    def saved_state(self) -> SuggestionState | None:
        """Return the state of the last update; None before it."""
        with self._connections.read_transaction() as db:
            rows = db.query("SELECT value FROM settings WHERE key = ?", [STATE_KEY])
        try:
            return SuggestionState(**json.loads(rows[0][0])) if rows else None
        except (TypeError, ValueError):
            # A damaged value is made again.
            return None

    def current_state(self, encoder: str, vocabulary: str) -> SuggestionState:
        """Return the state that an update would have now."""
        with self._connections.read_transaction() as db:
            snapshot = SqlSnapshot(db)
            ((last_text,),) = db.query("SELECT coalesce(max(id), 0) FROM texts")
            return SuggestionState(
                encoder, vocabulary, snapshot.pictures, last_text, snapshot.generation
            )

    def collect(self) -> list[SuggestedWord]:
        """Return the tags, the names and the other words of the texts."""
        with self._connections.read_transaction() as db:
            identity = SqlSnapshot(db).identity
            return list(collect_words(db, full_text_sources(identity.texts if identity else ())))

    def save(self, words: Sequence[SuggestedWord], state: SuggestionState) -> None:
        """Replace all words, the most useful ones first; see `SuggestionWriter`."""
        rows: dict[str, dict[str, Any]] = {}
        for word in words:
            text = storable(word.word)
            row = {"word": text, "pictures": word.count, "confidence": word.confidence}
            rows.setdefault(fold(text), {**row, "folded": fold(text), "item_id": word.item_id})
        with write_transaction(self._engine) as connection:
            connection.execute(delete(SUGGESTIONS))
            # Their order is that of the row ids.
            insert_rows(connection, SUGGESTIONS, list(rows.values()))
            save_setting(connection, STATE_KEY, asdict(state))
