"""Words in the texts of pictures, found with SQLite's FTS5 (https://www.sqlite.org/fts5.html).

Words are compared without regard to case and diacritics, English ones by their stem. Scripts that
put no spaces between words are searched by trigrams, and runs shorter than that as substrings.
A picture's score is the share of the query's words that its texts hold, each word counting by its
rarity (inverse document frequency); equal shares are told apart by BM25 (Robertson and Zaragoza
2009, https://doi.org/10.1561/1500000019).
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.connection import Rows
from mmsearch.core.text_matches import MatchedText, Phrase, TextMatches
from mmsearch.core.types import Ids, TextSource

DEPTH = 2000
"""Texts that are looked at for one phrase, those with the best BM25 first."""

# What a person says around a thing, in a query; alone, such words are searched all the same.
COMMON_WORDS = frozenset(
    """
    a an and are as at be by for from has in into is it its of on or over that the their there this
    to under was were which with photo photograph picture image
    """.split()  # noqa: SIM905 - a list of words is read as words
)

# Scripts that put no spaces between words: Thai to Burmese, Khmer, kana, Han, and their extensions.
SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003134f]"
)

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_OPEN, _CLOSE = "\x02", "\x03"


@dataclass(frozen=True)
class Token:
    """One thing to look for in a text.

    Attributes:
        table: ``words``, ``trigrams``, or ``texts`` for a substring.
        value: What is looked for.
    """

    table: str
    value: str

    @property
    def expression(self) -> str:
        """As FTS5 writes it: nothing in the value is an operator."""
        return '"' + self.value.replace('"', '""') + '"'

    @property
    def pattern(self) -> str:
        """As LIKE writes it."""
        escaped = re.sub(r"([\\%_])", r"\\\1", self.value)
        return f"%{escaped}%"


def tokens_of(phrase: str) -> list[Token]:
    """The things to look for, each once; without common words unless there are no others."""
    found: dict[Token, None] = {}
    common: dict[Token, None] = {}
    for word in _WORD.findall(phrase):
        runs = _spaceless_runs(word)
        if runs:
            found.update((token, None) for token in runs)
        elif word.casefold() in COMMON_WORDS:
            common[Token("words", word.casefold())] = None
        else:
            found[Token("words", word.casefold())] = None
    return list(found or common)


def _spaceless_runs(word: str) -> list[Token]:
    """A word of such a script as trigrams, or as itself if it is shorter; else nothing."""
    if not SPACELESS.search(word):
        return []
    if len(word) < 3:
        return [Token("texts", word)]
    return [Token("trigrams", word[at : at + 3]) for at in range(len(word) - 2)]


class FullText:
    """The texts of one snapshot.

    Args:
        rows: In a transaction.
        sources: Whose texts are searched.
    """

    def __init__(self, rows: Rows, sources: frozenset[TextSource]) -> None:
        self._rows = rows
        self._sources = json.dumps(sorted(sources))

    @cached_property
    def has_texts(self) -> bool:
        """Whether there is any text but file names."""
        statement = (
            "SELECT EXISTS (SELECT 1 FROM texts WHERE source <> 'filename'"
            " AND source IN (SELECT value FROM json_each(:sources)))"
        )
        return bool(self._ask(statement)[0][0])

    def with_texts(self, ids: Ids) -> NDArray[np.bool_]:
        """Bool (n,): which pictures have a text other than their files' names."""
        # The plus keeps SQLite from looking through all texts of those sources.
        rows = self._ask(
            "SELECT DISTINCT image_id FROM texts WHERE source <> 'filename'"
            " AND +source IN (SELECT value FROM json_each(:sources))"
            " AND image_id IN (SELECT value FROM json_each(:ids))",
            ids=json.dumps(ids.tolist()),
        )
        return np.isin(ids, [row[0] for row in rows])

    def match(self, phrases: Sequence[Phrase], limit: int, allowed: Ids | None) -> TextMatches:
        """The pictures whose texts hold most of the words; see `Snapshot.match`."""
        total = sum(phrase.weight for phrase in phrases if phrase.weight > 0)
        scores: dict[int, float] = defaultdict(float)
        strengths: dict[int, float] = defaultdict(float)
        for phrase in phrases:
            within = json.dumps(None if allowed is None else allowed.tolist())
            for image_id, (share, strength) in self._shares(phrase.text, within).items():
                scores[image_id] += share * phrase.weight / max(total, 1e-9)
                strengths[image_id] += strength * phrase.weight
        found = [number for number, score in scores.items() if score > 0]
        found.sort(key=lambda number: (-scores[number], -strengths[number], number))
        best = found[:limit]
        return TextMatches(
            np.array(best, dtype=np.int64),
            np.array([min(scores[number], 1.0) for number in best], dtype=np.float32),
        )

    def matched_texts(
        self, ids: Sequence[int], phrases: Sequence[Phrase]
    ) -> list[MatchedText | None]:
        """For each picture, the text that holds most of the words; see `Snapshot`."""
        tokens = [t for phrase in phrases if phrase.weight > 0 for t in tokens_of(phrase.text)]
        within = json.dumps([int(number) for number in ids])
        held = self._held(list(dict.fromkeys(tokens)), within)
        weights = self._weights(list(dict.fromkeys(tokens)))
        best: dict[int, tuple[float, int, int]] = {}
        for image_id, text_id, own in held:
            share = sum(weights[token] for token in own)
            best[image_id] = max(best.get(image_id, (0.0, 0, 0)), (share, -text_id, text_id))
        chosen = {image_id: text_id for image_id, (_, _, text_id) in best.items()}
        marked = self._marked(sorted(chosen.values()), tokens)
        return [marked.get(chosen.get(int(number), 0)) for number in ids]

    # --- the parts of a score ---

    def _shares(self, phrase: str, within: str) -> dict[int, tuple[float, float]]:
        """By picture: the share of a phrase's words that its texts hold, and its best BM25."""
        tokens = tokens_of(phrase)
        strengths = self._candidates(tokens, within)
        if not strengths:
            return {}
        weights = self._weights(tokens)
        held: dict[int, set[Token]] = defaultdict(set)
        for image_id, _, own in self._held(tokens, json.dumps(sorted(strengths))):
            held[image_id] |= own
        total = sum(weights.values())
        return {
            number: (sum(weights[token] for token in own) / total, strengths[number])
            for number, own in held.items()
        }

    def _candidates(self, tokens: Sequence[Token], within: str) -> dict[int, float]:
        """By picture: the BM25 of its best text, higher is better."""
        best: dict[int, float] = {}
        for table in ("words", "trigrams"):
            any_of = " OR ".join(token.expression for token in tokens if token.table == table)
            if any_of:
                rows = self._ask(
                    f"SELECT texts.image_id, -bm25({table}) FROM {table}"  # noqa: S608 - our names
                    f" JOIN texts ON texts.id = {table}.rowid {_LIVING}"
                    f" WHERE {table} MATCH :query AND {_WANTED}"
                    f" ORDER BY bm25({table}), texts.image_id LIMIT {DEPTH}",
                    query=any_of,
                    within=within,
                )
                for image_id, strength in rows:
                    best[image_id] = max(best.get(image_id, 0.0), strength)
        for token in tokens:
            if token.table == "texts":
                rows = self._ask(
                    f"SELECT texts.image_id FROM texts {_LIVING} WHERE {_LIKE} AND {_WANTED}"  # noqa: S608
                    f" ORDER BY texts.image_id LIMIT {DEPTH}",
                    pattern=token.pattern,
                    within=within,
                )
                for (image_id,) in rows:
                    best.setdefault(image_id, 0.0)
        return best

    def _held(self, tokens: Sequence[Token], within: str) -> Iterator[tuple[int, int, set[Token]]]:
        """Of each text of some pictures: picture, text, and which tokens it holds."""
        held: dict[tuple[int, int], set[Token]] = defaultdict(set)
        for token in tokens:
            if token.table == "texts":
                found = "texts"
                condition = _LIKE
            else:
                found = f"{token.table} JOIN texts ON texts.id = {token.table}.rowid"
                condition = f"{token.table} MATCH :query"
            rows = self._ask(
                f"SELECT texts.image_id, texts.id FROM {found} {_LIVING}"  # noqa: S608 - our names
                f" WHERE {condition} AND {_WANTED}",
                query=token.expression,
                pattern=token.pattern,
                within=within,
            )
            for image_id, text_id in rows:
                held[image_id, text_id].add(token)
        for (image_id, text_id), own in held.items():
            yield image_id, text_id, own

    def _weights(self, tokens: Sequence[Token]) -> dict[Token, float]:
        """Inverse document frequency: log(1 + (N - n + 0.5) / (n + 0.5)) for n of N texts."""
        total = self._ask("SELECT count(*) FROM texts")[0][0]
        weights = {}
        for token in tokens:
            if token.table == "texts":
                counted = f"SELECT count(*) FROM texts WHERE {_LIKE}"  # noqa: S608 - our names
            else:
                counted = f"SELECT count(*) FROM {token.table} WHERE {token.table} MATCH :query"  # noqa: S608
            rows = self._ask(counted, query=token.expression, pattern=token.pattern)
            holding = min(rows[0][0], total)
            weights[token] = math.log1p((total - holding + 0.5) / (holding + 0.5))
        return weights

    # --- marks ---

    def _marked(self, text_ids: Sequence[int], tokens: Sequence[Token]) -> dict[int, MatchedText]:
        """Texts with the places of the words in them."""
        ids = json.dumps(list(text_ids))
        rows = self._ask(
            "SELECT id, kind, language, text FROM texts"
            " WHERE id IN (SELECT value FROM json_each(:ids))",
            ids=ids,
        )
        texts = {number: (kind, language, words) for number, kind, language, words in rows}
        spans: dict[int, set[tuple[int, int]]] = {number: set() for number in texts}
        for table in ("words", "trigrams"):
            any_of = " OR ".join(token.expression for token in tokens if token.table == table)
            if any_of:
                marked = self._ask(
                    f"SELECT rowid, highlight({table}, 0, :open, :close) FROM {table}"  # noqa: S608
                    f" WHERE {table} MATCH :query"
                    " AND rowid IN (SELECT value FROM json_each(:ids))",
                    query=any_of,
                    open=_OPEN,
                    close=_CLOSE,
                    ids=ids,
                )
                for number, highlighted in marked:
                    spans[number].update(_spans(highlighted))
        for token in tokens:
            if token.table == "texts":
                for number, (_, _, words) in texts.items():
                    spans[number].update(
                        found.span() for found in re.finditer(re.escape(token.value), words)
                    )
        return {
            number: MatchedText(kind, language, words, tuple(sorted(spans[number])))
            for number, (kind, language, words) in texts.items()
        }

    def _ask(self, statement: str, **values: object) -> list[Any]:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        if ":sources" in statement:
            used["sources"] = self._sources
        return self._rows.ask(statement, used)


_LIVING = "JOIN images ON images.id = texts.image_id AND images.file_count > 0"
_WANTED = (
    "texts.source IN (SELECT value FROM json_each(:sources))"
    " AND (:within = 'null' OR texts.image_id IN (SELECT value FROM json_each(:within)))"
)
_LIKE = "texts.spaceless AND texts.text LIKE :pattern ESCAPE '\\'"


def _spans(highlighted: str) -> Iterator[tuple[int, int]]:
    """Where the marked parts of a text stand once the marks are taken away."""
    at = begin = 0
    for char in highlighted:
        if char == _OPEN:
            begin = at
        elif char == _CLOSE:
            yield begin, at
        else:
            at += 1
