"""The words of all texts of an index, to tell and correct misspelt words of a query.

The full-text index knows stems, which SQLite lists without reading the texts. The whole word is
then read from one of the texts that hold the stem.
"""

from __future__ import annotations

import json
import re

from mmsearch.catalog.database import Database
from mmsearch.core.spelling import difference, edit_distance, max_distance, may_start
from mmsearch.core.types import TextSource

MAX_STEMS = 8
"""Number of the most similar stems whose words are compared."""

MAX_SUFFIX = 4
"""Number of letters by which a stem may be shorter than its word, besides the edits."""

_WORD = re.compile(r"[^\W\d_]+")


class Vocabulary:
    """The words of the texts in one snapshot.

    Args:
        db: A connection in a transaction.
        sources: Sources of the texts.
    """

    def __init__(self, db: Database, sources: frozenset[TextSource]) -> None:
        self._db = db
        self._sources = json.dumps(sorted(sources))

    def has_word(self, word: str) -> bool:
        """Return True if a text holds the word or a form of it with the same stem."""
        sql = self._db.dialect
        rows = self._db.query(
            f"SELECT EXISTS (SELECT 1 FROM {sql.words_from} WHERE {sql.match_words(':query')}"  # noqa: S608
            f" AND {sql.unindexed}source {sql.texts(':sources')})",
            {"query": sql.word_query([word]), "sources": self._sources},
        )
        return bool(rows[0][0])

    def closest_word(self, word: str) -> str | None:
        """Return the word of a text that a misspelt word is closest to; None without any."""
        limit = max_distance(word)
        if not limit:
            return None
        sql = self._db.dialect
        for statement in sql.stem_tables:
            self._db.query(statement)
        stems: list[tuple[int, int, str]] = []
        for first in may_start(word):
            if stems:
                break
            rows = self._db.query(
                f"SELECT term, doc FROM {sql.stems} WHERE term >= ? AND term < ?"  # noqa: S608
                " AND length(term) BETWEEN ? AND ?",
                [first, chr(ord(first) + 1), len(word) - limit - MAX_SUFFIX, len(word) + limit],
            )
            for stem, texts in rows:
                # Each edit adds at most one letter that the word lacks.
                if len(set(stem).difference(word)) <= limit + 1:
                    distance = edit_distance(word, stem, prefixes=True)
                    if distance <= limit + 1:
                        stems.append((distance, -texts, stem))
        candidates = [
            (*apart, negative_texts, other)
            for _, negative_texts, stem in sorted(stems)[:MAX_STEMS]
            for other in self._words_with(stem)
            if (apart := difference(word, other)) is not None
        ]
        return min(candidates)[-1] if candidates else None

    def _words_with(self, stem: str) -> set[str]:
        """Return the words of a text that holds a stem."""
        sql = self._db.dialect
        rows = self._db.query(
            f"SELECT text FROM texts WHERE id = ({sql.first_text_with(':stem')})"  # noqa: S608
            f" AND source {sql.texts(':sources')}",
            {"stem": stem, "sources": self._sources},
        )
        return {word.lower() for (text,) in rows for word in _WORD.findall(text)}
