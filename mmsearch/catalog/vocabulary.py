"""The words of all texts of an index, to tell and correct misspelt words of a query.

The full-text index knows stems, which SQLite lists without reading the texts. The whole word is
then read from one of the texts that hold the stem.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

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

    def similar_stems(self, word: str, first: str) -> list[tuple[int, str, int]]:
        """Return stems that a misspelt word may be of, which begin with a letter.

        Returns:
            Their distances, the stems, and the numbers of texts that hold them.
        """
        limit = max_distance(word)
        sql = self._db.dialect
        for statement in sql.stem_tables:
            self._db.query(statement)
        rows = self._db.query(
            f"SELECT term, doc FROM {sql.stems} WHERE term >= ? AND term < ?"  # noqa: S608
            " AND length(term) BETWEEN ? AND ?",
            [first, chr(ord(first) + 1), len(word) - limit - MAX_SUFFIX, len(word) + limit],
        )
        # Each edit adds at most one letter that the word lacks.
        likely = [row for row in rows if len(set(row[0]).difference(word)) <= limit + 1]
        found = [(edit_distance(word, stem, prefixes=True), stem, texts) for stem, texts in likely]
        return [each for each in found if each[0] <= limit + 1]

    def words_with(self, stem: str) -> set[str]:
        """Return the words of a text that holds a stem; empty if no text does."""
        sql = self._db.dialect
        rows = self._db.query(
            f"SELECT text FROM texts WHERE id = ({sql.first_text_with(':stem')})"  # noqa: S608
            f" AND source {sql.texts(':sources')}",
            {"stem": stem, "sources": self._sources},
        )
        return {word.lower() for (text,) in rows for word in _WORD.findall(text)}


def closest_word(word: str, vocabularies: Sequence[Vocabulary]) -> str | None:
    """Return the word of a text that a misspelt word is closest to; None without any.

    Args:
        word: The misspelt word.
        vocabularies: The words of each index that is searched.
    """
    if not max_distance(word):
        return None
    distances: dict[str, int] = {}
    texts: Counter[str] = Counter()
    for first in may_start(word):
        if distances:
            break
        for vocabulary in vocabularies:
            for distance, stem, num_texts in vocabulary.similar_stems(word, first):
                distances[stem] = distance
                texts[stem] += num_texts
    nearest = sorted((distance, -texts[stem], stem) for stem, distance in distances.items())
    candidates = [
        (*apart, negative_texts, other)
        for _, negative_texts, stem in nearest[:MAX_STEMS]
        for other in next(filter(None, (each.words_with(stem) for each in vocabularies)), ())
        if (apart := difference(word, other)) is not None
    ]
    return min(candidates)[-1] if candidates else None
