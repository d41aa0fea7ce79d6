"""Full-text search in the texts of pictures with SQLite's FTS5 (https://www.sqlite.org/fts5.html).

Matching ignores case and diacritics and stems English words. Scripts without spaces between words
are searched by trigrams, and words shorter than three characters as substrings. A picture's score
is the share of the query's words that its texts hold, weighted by inverse document frequency; BM25
breaks ties (Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019).
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.connection import ReadConnection
from mmsearch.core.query import MatchedText, TextMatches, TextTerm
from mmsearch.core.types import Ids, TextSource

MAX_MATCHED_TEXTS = 2000
"""Maximum number of texts considered for one phrase, best BM25 first."""

# Words around the subject of a query. A query of stop words alone still searches for them.
STOP_WORDS = frozenset(
    """
    a an and are as at be by for from has in into is it its of on or over that the their there this
    to under was were which with photo photograph picture image
    """.split()  # noqa: SIM905 - a list of words is read as words
)

# Scripts without spaces between words: Thai to Burmese, Khmer, kana, Han, and their extensions.
UNSEGMENTED_SCRIPTS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f]"
)

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_MARK_START, _MARK_END = "\x02", "\x03"


@dataclass(frozen=True)
class Token:
    """A token to find in the texts.

    Attributes:
        table: Table to search: ``words``, ``trigrams``, or ``texts`` for a substring.
        value: Word, trigram or substring to find.
    """

    table: str
    value: str

    @property
    def fts_query(self) -> str:
        """The value as a quoted FTS5 string, in which nothing is an operator."""
        return '"' + self.value.replace('"', '""') + '"'

    @property
    def pattern(self) -> str:
        """The value as a LIKE pattern that matches it as a substring."""
        escaped = re.sub(r"([\\%_])", r"\\\1", self.value)
        return f"%{escaped}%"


def tokenize(text: str) -> list[Token]:
    """Split a text into distinct tokens, without stop words unless there are no other words."""
    tokens: dict[Token, None] = {}
    stop_words: dict[Token, None] = {}
    for word in _WORD.findall(text):
        unsegmented = _unsegmented_tokens(word)
        if unsegmented:
            tokens.update((token, None) for token in unsegmented)
        elif word.casefold() in STOP_WORDS:
            stop_words[Token("words", word.casefold())] = None
        else:
            tokens[Token("words", word.casefold())] = None
    return list(tokens or stop_words)


def _unsegmented_tokens(word: str) -> list[Token]:
    """Return the trigrams of a word in an unsegmented script.

    A word of fewer than three characters is a token of its own. A word in another script gives an
    empty list.
    """
    if not UNSEGMENTED_SCRIPTS.search(word):
        return []
    if len(word) < 3:
        return [Token("texts", word)]
    return [Token("trigrams", word[start : start + 3]) for start in range(len(word) - 2)]


class FullText:
    """Full-text search in one snapshot.

    Args:
        db: A connection in a transaction.
        sources: Sources of the texts to search.
    """

    def __init__(self, db: ReadConnection, sources: frozenset[TextSource]) -> None:
        self._db = db
        self._sources = json.dumps(sorted(sources))

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the pictures that have a text other than file names."""
        # The unary plus keeps SQLite from scanning all texts of those sources.
        rows = self._query(
            "SELECT DISTINCT image_id FROM texts WHERE source <> 'filename'"
            " AND +source IN (SELECT value FROM json_each(:sources))"
            " AND image_id IN (SELECT value FROM json_each(:ids))",
            ids=json.dumps(ids.tolist()),
        )
        return np.isin(ids, [row[0] for row in rows])

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """Return the pictures whose texts hold most of the words; see `Snapshot.match`."""
        total_weight = sum(term.weight for term in terms if term.weight > 0)
        scores: dict[int, float] = defaultdict(float)
        bm25_scores: dict[int, float] = defaultdict(float)
        for term in terms:
            within = json.dumps(None if allowed is None else allowed.tolist())
            for image_id, (coverage, bm25_score) in self._score_by_image(term.text, within).items():
                scores[image_id] += coverage * term.weight / max(total_weight, 1e-9)
                bm25_scores[image_id] += bm25_score * term.weight
        ranked_ids = [image_id for image_id, score in scores.items() if score > 0]
        ranked_ids.sort(key=lambda image_id: (-scores[image_id], -bm25_scores[image_id], image_id))
        top_ids = ranked_ids[:limit]
        return TextMatches(
            np.array(top_ids, dtype=np.int64),
            np.array([min(scores[image_id], 1.0) for image_id in top_ids], dtype=np.float32),
        )

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """Return, for each picture, the text that holds most of the words; see `Snapshot`."""
        tokens = [t for term in terms if term.weight > 0 for t in tokenize(term.text)]
        within = json.dumps([int(image_id) for image_id in ids])
        text_matches = self._find_tokens(list(dict.fromkeys(tokens)), within)
        weights = self._idf_weights(list(dict.fromkeys(tokens)))
        best: dict[int, tuple[float, int, int]] = {}
        for image_id, text_id, matched_tokens in text_matches:
            coverage = sum(weights[token] for token in matched_tokens)
            best[image_id] = max(best.get(image_id, (0.0, 0, 0)), (coverage, -text_id, text_id))
        best_text_ids = {image_id: text_id for image_id, (_, _, text_id) in best.items()}
        highlighted = self._highlight_texts(sorted(best_text_ids.values()), tokens)
        return [highlighted.get(best_text_ids.get(int(image_id), 0)) for image_id in ids]

    # --- scoring ---

    def _score_by_image(self, text: str, within: str) -> dict[int, tuple[float, float]]:
        """Return, by picture, the share of a phrase's words in its texts and its best BM25."""
        tokens = tokenize(text)
        bm25_scores = self._find_candidates(tokens, within)
        if not bm25_scores:
            return {}
        weights = self._idf_weights(tokens)
        tokens_by_image: dict[int, set[Token]] = defaultdict(set)
        for image_id, _, matched_tokens in self._find_tokens(
            tokens, json.dumps(sorted(bm25_scores))
        ):
            tokens_by_image[image_id] |= matched_tokens
        total_weight = sum(weights.values())
        return {
            image_id: (
                sum(weights[token] for token in matched_tokens) / total_weight,
                bm25_scores[image_id],
            )
            for image_id, matched_tokens in tokens_by_image.items()
        }

    def _find_candidates(self, tokens: Sequence[Token], within: str) -> dict[int, float]:
        """Return, by picture, the BM25 of its best text; higher is better."""
        best: dict[int, float] = {}
        for table in ("words", "trigrams"):
            match_query = " OR ".join(token.fts_query for token in tokens if token.table == table)
            if match_query:
                rows = self._query(
                    f"SELECT texts.image_id, -bm25({table}) FROM {table}"  # noqa: S608 - our names
                    f" JOIN texts ON texts.id = {table}.rowid {_JOIN_LIVE_IMAGES}"
                    f" WHERE {table} MATCH :query AND {_TEXT_FILTER}"
                    f" ORDER BY bm25({table}), texts.image_id LIMIT {MAX_MATCHED_TEXTS}",
                    query=match_query,
                    within=within,
                )
                for image_id, bm25_score in rows:
                    best[image_id] = max(best.get(image_id, 0.0), bm25_score)
        for token in tokens:
            if token.table == "texts":
                rows = self._query(
                    f"SELECT texts.image_id FROM texts {_JOIN_LIVE_IMAGES}"  # noqa: S608
                    f" WHERE {_LIKE_CONDITION} AND {_TEXT_FILTER}"
                    f" ORDER BY texts.image_id LIMIT {MAX_MATCHED_TEXTS}",
                    pattern=token.pattern,
                    within=within,
                )
                for (image_id,) in rows:
                    best.setdefault(image_id, 0.0)
        return best

    def _find_tokens(
        self, tokens: Sequence[Token], within: str
    ) -> Iterator[tuple[int, int, set[Token]]]:
        """Yield the picture id, the text id and the tokens found for each matching text."""
        tokens_by_text: dict[tuple[int, int], set[Token]] = defaultdict(set)
        for token in tokens:
            if token.table == "texts":
                source_table = "texts"
                condition = _LIKE_CONDITION
            else:
                source_table = f"{token.table} JOIN texts ON texts.id = {token.table}.rowid"
                condition = f"{token.table} MATCH :query"
            rows = self._query(
                f"SELECT texts.image_id, texts.id FROM {source_table} {_JOIN_LIVE_IMAGES}"  # noqa: S608 - our names
                f" WHERE {condition} AND {_TEXT_FILTER}",
                query=token.fts_query,
                pattern=token.pattern,
                within=within,
            )
            for image_id, text_id in rows:
                tokens_by_text[image_id, text_id].add(token)
        for (image_id, text_id), matched_tokens in tokens_by_text.items():
            yield image_id, text_id, matched_tokens

    def _idf_weights(self, tokens: Sequence[Token]) -> dict[Token, float]:
        """Return inverse document frequencies: log(1 + (N - n + 0.5) / (n + 0.5)), n of N texts."""
        num_texts = self._query("SELECT count(*) FROM texts")[0][0]
        weights = {}
        for token in tokens:
            if token.table == "texts":
                count_statement = f"SELECT count(*) FROM texts WHERE {_LIKE_CONDITION}"  # noqa: S608 - our names
            else:
                count_statement = (
                    f"SELECT count(*) FROM {token.table} WHERE {token.table} MATCH :query"  # noqa: S608
                )
            rows = self._query(count_statement, query=token.fts_query, pattern=token.pattern)
            document_frequency = min(rows[0][0], num_texts)
            weights[token] = math.log1p(
                (num_texts - document_frequency + 0.5) / (document_frequency + 0.5)
            )
        return weights

    # --- highlighting ---

    def _highlight_texts(
        self, text_ids: Sequence[int], tokens: Sequence[Token]
    ) -> dict[int, MatchedText]:
        """Return texts by id, with the spans of the tokens in them."""
        ids = json.dumps(list(text_ids))
        rows = self._query(
            "SELECT id, kind, language, text FROM texts"
            " WHERE id IN (SELECT value FROM json_each(:ids))",
            ids=ids,
        )
        texts = {text_id: (kind, language, words) for text_id, kind, language, words in rows}
        spans: dict[int, set[tuple[int, int]]] = {text_id: set() for text_id in texts}
        for table in ("words", "trigrams"):
            match_query = " OR ".join(token.fts_query for token in tokens if token.table == table)
            if match_query:
                highlighted_rows = self._query(
                    f"SELECT rowid, highlight({table}, 0, :open, :close) FROM {table}"  # noqa: S608
                    f" WHERE {table} MATCH :query"
                    " AND rowid IN (SELECT value FROM json_each(:ids))",
                    query=match_query,
                    open=_MARK_START,
                    close=_MARK_END,
                    ids=ids,
                )
                for text_id, highlighted in highlighted_rows:
                    spans[text_id].update(_parse_spans(highlighted))
        for token in tokens:
            if token.table == "texts":
                for text_id, (_, _, words) in texts.items():
                    spans[text_id].update(
                        occurrence.span()
                        for occurrence in re.finditer(re.escape(token.value), words)
                    )
        return {
            text_id: MatchedText(kind, language, words, tuple(sorted(spans[text_id])))
            for text_id, (kind, language, words) in texts.items()
        }

    def _query(self, statement: str, **values: object) -> list[Any]:
        parameters = {name: value for name, value in values.items() if f":{name}" in statement}
        if ":sources" in statement:
            parameters["sources"] = self._sources
        return self._db.query(statement, parameters)


_JOIN_LIVE_IMAGES = "JOIN images ON images.id = texts.image_id AND images.file_count > 0"
_TEXT_FILTER = (
    "texts.source IN (SELECT value FROM json_each(:sources))"
    " AND (:within = 'null' OR texts.image_id IN (SELECT value FROM json_each(:within)))"
)
_LIKE_CONDITION = "texts.spaceless AND texts.text LIKE :pattern ESCAPE '\\'"


def _parse_spans(highlighted: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of the marked parts, as offsets into the text without the marks."""
    position = start = 0
    for char in highlighted:
        if char == _MARK_START:
            start = position
        elif char == _MARK_END:
            yield start, position
        else:
            position += 1
