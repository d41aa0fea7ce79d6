"""Full-text search in the texts of pictures with SQLite's FTS5 (https://www.sqlite.org/fts5.html).

FTS5 finds texts by stem and without accents; `query_words` then decides how well each of them
matches. Scripts without spaces between words are searched by trigrams, and words shorter than three
characters as substrings.

Words of different items of a content, such as two pages of a document, are never added up, except
those of a moment and the moments before and after it, which count less.

The score of a picture is the share of the query's words that its texts hold. A rare word counts
more than a common one, by inverse document frequency, an exact match more than an inflection, and a
caption more than the name of a folder. Its evidence is the logarithm of how much more likely such a
match is in a relevant picture than in another: 0 for a word that half of the library has.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.catalog.database import Database
from mmsearch.catalog.highlights import MATCHED_TEXT_COLUMNS, best_matched_texts
from mmsearch.catalog.neighbours import find_neighbours
from mmsearch.catalog.query_words import (
    DERIVED,
    EXACT,
    FOLDED,
    INFLECTED,
    WORD,
    Token,
    accented_spellings,
    compare_words,
    differs_by_accents,
    find_sequence,
    fold_case,
    parse_words,
)
from mmsearch.catalog.text_weights import (
    CODE_EVIDENCE,
    KIND_CODE,
    KIND_EVIDENCE,
    NUM_CODES,
    WEIGHED_KIND,
    text_evidence,
)
from mmsearch.catalog.word_matches import WordMatches
from mmsearch.core.query import MatchedText, TextMatches, TextTerm
from mmsearch.core.types import Ids, TextSource
from mmsearch.core.vectors import ranks_in_groups

MAX_MATCHED_PICTURES = 1500
"""Maximum number of pictures whose texts are read for one phrase, the most promising ones first."""

MAX_CONTENT_ITEMS = 100
"""Maximum number of items of one content whose texts are read for one phrase, so that a film with
thousands of them leaves room for others."""

MAX_MOMENTS = 20
"""Maximum number of items of one content among the matches."""

NEIGHBOUR_WEIGHT = 0.8
"""Weight of a word in the texts of the moment before or after, relative to the moment's own."""

UNSEEN_PICTURES = 10
"""Pictures without the word that are added to each library: in a small one, shares say little."""


@dataclass(frozen=True)
class _Postings:
    """The texts that FTS5 finds for one token.

    Attributes:
        text_ids: int64 (n,).
        item_ids: int64 (n,), the picture of each text.
        contents: int64 (n,), a number that is equal for items of one content; ``item_ids`` if each
            content is one item.
        bounds: float64 (n,), the most that each match can count.
        lengths: int64 (n,), number of characters of each text.
        levels: int64 (n,), 2 if the text may hold the word itself, 1 if it may hold an inflection
            of it, else 0.
    """

    text_ids: Ids
    item_ids: Ids
    contents: Ids
    bounds: NDArray[np.float64]
    lengths: NDArray[np.int64]
    levels: NDArray[np.int64]

    @property
    def frequency(self) -> int:
        """Number of contents with the word, or else with its inflections, or its stem."""
        is_best = self.levels == self.levels.max(initial=0)
        return len(np.unique(self.contents[is_best]))


@dataclass(frozen=True)
class _PhraseMatches:
    """The pictures that match one phrase.

    Attributes:
        ids: int64 (n,), ascending.
        scores: float64 (n,), in [0, 1].
        evidence: float64 (n,), in nats.
        lengths: float64 (n,), characters of the shortest matching text.
        reached: float64 (n,), the scores if the words in names of folders were in those of files.
        next_bound: The most that any other picture can reach; 0 without one.
        vague: Tokens of which most of these pictures only have the stem, bool (tokens,).
    """

    ids: Ids
    scores: NDArray[np.float64]
    evidence: NDArray[np.float64]
    lengths: NDArray[np.float64]
    reached: NDArray[np.float64]
    next_bound: float
    vague: Sequence[bool] = ()


class FullText:
    """Full-text search in one snapshot.

    Args:
        db: A connection in a transaction.
        sources: Sources of the texts to search.
        num_pictures: Number of contents that have files.
        deleted_ids: Ids of the pictures without files, ascending.
        find_contents: Returns a number for each item that is equal for items of one content; None
            if every content is one item.
        count_contents: Returns the number of contents of different items.
    """

    def __init__(
        self,
        db: Database,
        sources: frozenset[TextSource],
        num_pictures: int,
        deleted_ids: Ids,
        find_contents: Callable[[Ids], Ids] | None,
        count_contents: Callable[[Ids], int],
    ) -> None:
        self._db = db
        self._sources = json.dumps(sorted(sources))
        self._num_pictures = num_pictures
        self._deleted_ids = deleted_ids
        self._find_contents = find_contents
        self._count_contents = count_contents
        # By phrase: its words that some text has as they are, so that no other forms count.
        self._exact_words: dict[str, set[str]] = {}

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the pictures that have a text by a person.

        Names of files do not count, and neither does what a model has made.
        """
        sql = self._db.dialect
        # SQLite must not scan all texts of those sources.
        rows = self._query(
            "SELECT DISTINCT item_id FROM texts WHERE source <> 'filename' AND made_by IS NULL"  # noqa: S608
            f" AND {sql.unindexed}source {sql.texts(':sources')}"
            f" AND item_id {sql.ids(':ids')}",
            ids=json.dumps(ids.tolist()),
        )
        return np.isin(ids, [row[0] for row in rows])

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """Return the pictures whose texts hold most of the words; see `Snapshot.match`."""
        total_weight = max(sum(term.weight for term in terms if term.weight > 0), 1e-9)
        phrases = [(self._match_phrase(t.text, limit, allowed), t.weight) for t in terms]
        ids = np.unique(
            np.concatenate([np.empty(0, np.int64), *(found.ids for found, _ in phrases)])
        )
        scores, evidence, lengths = np.zeros((3, len(ids)))
        for found, weight in phrases:
            positions = np.searchsorted(ids, found.ids)
            scores[positions] += found.scores * weight / total_weight
            evidence[positions] += found.evidence * weight / total_weight
            lengths[positions] += found.lengths
        order = np.lexsort((ids, lengths, -scores))
        top = order[scores[order] > 0]
        if self._find_contents is not None:
            top = top[ranks_in_groups(self._find_contents(ids[top])) < MAX_MOMENTS]
        top = top[:limit]
        return TextMatches(
            ids[top],
            np.minimum(scores[top], 1.0).astype(np.float32),
            np.maximum(evidence[top], 0.0).astype(np.float32),
        )

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """Return, for each picture, the text that holds most of the words; see `Snapshot`."""
        texts = [term.text for term in terms if term.weight > 0]
        phrases = [parse_words(text) for text in texts]
        exact_words = set[str]().union(*(self._exact_words.get(text, ()) for text in texts))
        best = best_matched_texts(self._read_matched(ids), phrases, exact_words)
        if self._find_contents is not None and len(best) < len(ids):
            pairs = self._find_neighbours([i for i in ids if int(i) not in best]).tolist()
            rows = self._read_matched({beside for _, beside, _ in pairs})
            near = best_matched_texts(rows, phrases, exact_words)
            best |= {item_id: near[beside] for item_id, beside, _ in pairs if beside in near}
        return [best.get(int(item_id)) for item_id in ids]

    # --- scores ---

    def _match_phrase(self, text: str, limit: int, allowed: Ids | None) -> _PhraseMatches:
        """Return the pictures with the words of a phrase, or with the phrase itself."""
        words = parse_words(text)
        tokens = words.tokens
        exact_words = self._exact_words[text] = set()
        if not tokens:
            return self._match_literal(words.literal, limit, allowed)
        found_postings = [self._find_postings(token, allowed) for token in tokens]
        postings = self._with_contents(found_postings)
        depth = max(limit, MAX_MATCHED_PICTURES)
        found = self._score_best(tokens, postings, allowed, depth, exact_words)
        if found.next_bound > 0 and (
            len(found.ids) < limit or np.sort(found.reached)[-limit] < INFLECTED * found.next_bound
        ):
            # Texts that only share stems may hide better ones.
            postings = [
                self._with_levels(token, posting) if is_vague else posting
                for token, posting, is_vague in zip(tokens, postings, found.vague, strict=True)
            ]
            found = self._score_best(tokens, postings, allowed, depth, exact_words)
        return found

    def _score_best(
        self,
        tokens: Sequence[Token],
        postings: Sequence[_Postings],
        allowed: Ids | None,
        depth: int,
        exact_words: set[str],
    ) -> _PhraseMatches:
        """Return the scores of the ``depth`` pictures that may match best."""
        num_pictures = self._num_pictures if allowed is None else self._count_contents(allowed)
        frequencies = [found.frequency for found in postings]
        weights = [_idf(count, num_pictures) for count in frequencies]
        ids, contents, lengths, next_bound = _best_pictures(postings, weights, depth)
        matches = self._classify(tokens, postings, ids, exact_words)
        if not next_bound:
            # All matches are known.
            frequencies = matches.count(contents, frequencies)
            weights = [_idf(count, num_pictures) for count in frequencies]
        bits = [-math.log2(max(n, 1) / (num_pictures + UNSEEN_PICTURES)) for n in frequencies]
        means = matches.mean_exactness()
        vague = [t.table == "words" and m < 0.5 for t, m in zip(tokens, means, strict=True)]
        if self._find_contents is not None:
            matches, lengths = self._add_neighbours(matches, lengths, allowed)
        scores, evidence, reached = matches.score(weights, bits)
        return _PhraseMatches(matches.ids, scores, evidence, lengths, reached, next_bound, vague)

    def _match_literal(
        self, words: Sequence[str], limit: int, allowed: Ids | None
    ) -> _PhraseMatches:
        """Return the pictures with a text that holds stop words next to each other, in order.

        They are no evidence: such words say nothing about what a picture shows.
        """
        if not words:
            nothing = np.empty(0)
            no_ids = np.empty(0, np.int64)
            return _PhraseMatches(no_ids, nothing, nothing, nothing, nothing, 0.0)
        phrase = Token("words", " ".join(words))
        found = self._run_postings(phrase, [phrase.value], allowed)
        (found,) = self._with_contents([found])
        ids, _, lengths, _ = _best_pictures([found], [1.0], max(limit, MAX_MATCHED_PICTURES))
        texts = self._read_texts(found.text_ids[np.isin(found.item_ids, ids)])
        exact = {
            item_id
            for item_id, _, text, *_ in texts.values()
            if find_sequence([fold_case(word) for word in WORD.findall(text)], words)
        }
        is_exact = np.isin(ids, list(exact))
        ids, lengths = ids[is_exact], lengths[is_exact]
        ones = np.ones(len(ids))
        return _PhraseMatches(ids, ones, 0.0 * ones, lengths, ones, 0.0)

    def _find_postings(self, token: Token, allowed: Ids | None) -> _Postings:
        """Return the texts with a token, or else with another spelling of it."""
        found = self._run_postings(token, token.spellings, allowed)
        if token.table != "words" or token.has_accents or len(found.text_ids):
            return found
        spellings = accented_spellings(token.value)
        if not spellings:
            return found
        return self._run_postings(token, [*token.spellings, *spellings], allowed)

    def _with_levels(self, token: Token, found: _Postings) -> _Postings:
        """Return the texts with a word, and find out which of them may hold it as it is."""
        sql = self._db.dialect
        is_exact_sql = sql.matches_glob("' ' || lower(texts.text) || ' '", ":glob")
        rows = self._query(
            f"SELECT texts.id, {is_exact_sql} FROM {sql.words_from}"  # noqa: S608
            f" WHERE {sql.match_words(':query')} AND texts.text {sql.like} :pattern ESCAPE '\\'",
            query=sql.word_query(token.spellings),
            pattern=token.pattern,
            glob=token.glob,
        )
        ids, is_exact = np.array(rows, dtype=np.int64).reshape(-1, 2).T
        is_near = np.isin(found.text_ids, ids)
        levels = is_near.astype(np.int64) + np.isin(found.text_ids, ids[is_exact == 1])
        return replace(found, bounds=found.bounds * _LEVEL_BOUNDS[levels], levels=levels)

    def _run_postings(self, token: Token, phrases: Sequence[str], allowed: Ids | None) -> _Postings:
        """Return the texts with one of several spellings of a token."""
        sql = self._db.dialect
        if token.table == "words":
            table, condition = sql.words_from, sql.match_words(":query")
        elif token.table == "trigrams":
            table, condition = sql.has_trigram(":pattern", ":query")
        else:
            table, condition = "texts", sql.has_substring(":pattern")
        # One row of arrays is much faster than a row for each text.
        length_and_kind = f"length(texts.text) * {NUM_CODES} + {KIND_CODE}"
        lists = ", ".join(map(sql.list_of, ("texts.id", "texts.item_id", length_and_kind)))
        rows = self._query(
            f"SELECT {lists} FROM {table} WHERE {condition}"  # noqa: S608
            f" AND {sql.unindexed}texts.source {sql.texts(':sources')}",
            query=sql.word_query(phrases),
            pattern=sql.spaceless_pattern(token.pattern),
        )
        columns = np.array([json.loads(column) for column in rows[0]], dtype=np.int64)
        if len(self._deleted_ids):
            columns = columns[:, ~np.isin(columns[1], self._deleted_ids)]
        if allowed is not None:
            columns = columns[:, np.isin(columns[1], allowed)]
        text_ids, item_ids, codes = columns
        bounds = CODE_EVIDENCE[codes % NUM_CODES]
        lengths, levels = codes // NUM_CODES, np.full(len(codes), 2)
        return _Postings(text_ids, item_ids, item_ids, bounds, lengths, levels)

    def _with_contents(self, postings: Sequence[_Postings]) -> list[_Postings]:
        """Return texts with the contents of their items, which are read together."""
        if self._find_contents is None:
            return list(postings)
        ids = np.unique(np.concatenate([found.item_ids for found in postings]))
        contents = self._find_contents(ids)
        return [
            replace(found, contents=contents[np.searchsorted(ids, found.item_ids)])
            for found in postings
        ]

    def _classify(
        self,
        tokens: Sequence[Token],
        postings: Sequence[_Postings],
        ids: Ids,
        exact_words: set[str],
    ) -> WordMatches:
        """Return the best match of each token in the texts of each item.

        Tokens that some text has as they are, or inflected, are added to ``exact_words``.
        """
        tokens_by_text: dict[int, list[int]] = {}
        for number, found in enumerate(postings):
            for text_id in found.text_ids[np.isin(found.item_ids, ids)].tolist():
                tokens_by_text.setdefault(text_id, []).append(number)
        texts = self._read_texts(tokens_by_text)
        known: list[dict[str, float]] = [{} for _ in tokens]
        results: list[tuple[int, int, float, float, float]] = []
        for text_id, numbers in tokens_by_text.items():
            item_id, kind, text, path, confidence = texts[text_id]
            words = WORD.findall(text.casefold())
            name = _stem(path) if kind == "filename" else ""
            for number in numbers:
                token = tokens[number]
                exactness, word = _match_text(token, words, known[number])
                is_folder = kind == "filename" and word not in name
                nats = text_evidence("folder" if is_folder else kind, confidence)
                # What it would be worth is known before the name of the file is read.
                most_nats = KIND_EVIDENCE["filename"] if is_folder else nats
                results.append((item_id, number, exactness, nats, most_nats))
                if exactness >= INFLECTED and token.table == "words":
                    exact_words.add(token.value)
        kept = [
            result
            for result in results
            if result[2] >= INFLECTED or tokens[result[1]].value not in exact_words
        ]
        return WordMatches.from_results(ids, len(tokens), kept)

    def _read_texts(
        self, text_ids: Iterable[int]
    ) -> dict[int, tuple[int, str, str, bytes | None, float | None]]:
        """Return the item, weighed kind, text, path of the file and confidence of texts, by id."""
        rows = self._query(
            f"SELECT texts.id, texts.item_id, {WEIGHED_KIND}, texts.text, assets.key,"  # noqa: S608
            " texts.confidence FROM texts"
            " LEFT JOIN assets ON texts.kind = 'filename' AND assets.id = texts.asset_id"
            f" WHERE texts.id {self._db.dialect.ids(':ids')}",
            ids=json.dumps([int(text_id) for text_id in text_ids]),
        )
        return {text_id: tuple(columns) for text_id, *columns in rows}

    def _read_matched(self, item_ids: Iterable[int]) -> list[Any]:
        """Return rows of the texts of items, the item first; see `MATCHED_TEXT_COLUMNS`."""
        sql = self._db.dialect
        return self._query(
            f"SELECT {MATCHED_TEXT_COLUMNS} FROM texts JOIN items ON items.id = item_id"  # noqa: S608
            f" WHERE item_id {sql.ids(':ids')} AND {sql.unindexed}source {sql.texts(':sources')}",
            ids=json.dumps([int(item_id) for item_id in item_ids]),
        )

    # --- contents of several items ---

    def _find_neighbours(self, item_ids: Iterable[int]) -> Ids:
        """Return the items before and after items; see `find_neighbours`."""
        return find_neighbours(self._db, item_ids)

    def _add_neighbours(
        self, matches: WordMatches, lengths: NDArray[np.float64], allowed: Ids | None
    ) -> tuple[WordMatches, NDArray[np.float64]]:
        """Add to the matches of moments those of the moments before and after them.

        Args:
            matches: The matches of n items.
            lengths: float64 (n,), characters of the shortest matching text of each item.
            allowed: Items that may be found; None for all.

        Returns:
            The matches, also of moments without any of their own, and their lengths.
        """
        pairs = self._find_neighbours(matches.ids[matches.is_match].tolist())
        if allowed is not None:
            pairs = pairs[np.isin(pairs[:, 1], allowed)]
        if not len(pairs):
            return matches, lengths
        added = matches.add_neighbours(pairs, NEIGHBOUR_WEIGHT)
        shortest = np.full(len(added.ids), np.inf)
        near_lengths = lengths[np.searchsorted(matches.ids, pairs[:, 0])]
        np.minimum.at(shortest, np.searchsorted(added.ids, pairs[:, 1]), near_lengths)
        shortest[np.searchsorted(added.ids, matches.ids)] = lengths
        return added, shortest

    def _query(self, statement: str, **values: object) -> list[Any]:
        parameters = {name: value for name, value in values.items() if f":{name}" in statement}
        if ":sources" in statement:
            parameters["sources"] = self._sources
        return self._db.query(statement, parameters)


_LEVEL_BOUNDS = np.array([FOLDED, INFLECTED, EXACT])


def _best_pictures(
    postings: Sequence[_Postings], weights: Sequence[float], limit: int
) -> tuple[Ids, Ids, NDArray[np.float64], float]:
    """Return the pictures that may match best, and what is left.

    Returns:
        Their ids, ascending; their contents; the characters of their shortest text with a word; and
        the most that the other pictures can score: 0 without others.
    """
    item_ids = np.concatenate([found.item_ids for found in postings])
    ids, first_rows, rows = np.unique(item_ids, return_index=True, return_inverse=True)
    contents = np.concatenate([found.contents for found in postings])[first_rows]
    bounds = np.zeros(len(ids))
    lengths = np.full(len(ids), np.inf)
    start = 0
    for found, weight in zip(postings, weights, strict=True):
        own_rows = rows[start : start + len(found.item_ids)]
        start += len(own_rows)
        token_bounds = np.zeros(len(ids))
        np.maximum.at(token_bounds, own_rows, found.bounds)
        np.minimum.at(lengths, own_rows, found.lengths)
        bounds += weight * token_bounds
    order = np.lexsort((ids, lengths, -bounds))
    if postings[0].contents is not postings[0].item_ids:
        order = order[ranks_in_groups(contents[order]) < MAX_CONTENT_ITEMS]
    top = np.sort(order[:limit])
    next_bound = float(bounds[order[limit]]) if len(order) > limit else 0.0
    return ids[top], contents[top], lengths[top], next_bound


def _idf(num_matches: int, num_pictures: int) -> float:
    """Return log(1 + (N - n + 0.5) / (n + 0.5)), for n of N pictures."""
    matches = min(num_matches, num_pictures)
    return math.log1p((num_pictures - matches + 0.5) / (matches + 0.5))


def _match_text(token: Token, words: Sequence[str], known: dict[str, float]) -> tuple[float, str]:
    """Return how well a text that FTS5 found matches a token, and the word that matches best.

    Args:
        token: The token.
        words: The casefolded words of the text.
        known: Results of `compare_words` for this token, by word; filled.
    """
    if token.table != "words":
        return EXACT, ""
    if token.value in words:
        return EXACT, token.value
    best, best_word = 0.0, ""
    for word in words:
        exactness = known.get(word)
        if exactness is None:
            exactness = known[word] = compare_words(token.value, word)
        if exactness > best:
            best, best_word = exactness, word
    if best or any(differs_by_accents(token.value, word) for word in words):
        return best, best_word
    return DERIVED, ""


def _stem(path: bytes | None) -> str:
    """Return the casefolded name of a file without its folders."""
    name = os.fsdecode(path or b"").rpartition("/")[2]
    return fold_case(name.encode("utf-8", "replace").decode())


class TextSearch:
    """The part of a snapshot that searches texts."""

    @cached_property
    def full_text(self) -> FullText:
        """Full-text search in the texts of this generation."""
        raise NotImplementedError

    def has_text_mask(self, ids: Ids) -> NDArray[np.bool_]:
        """Return a bool mask (n,) of the pictures with a searchable text other than file names."""
        return self.full_text.has_text_mask(ids)

    def match(self, terms: Sequence[TextTerm], limit: int, allowed: Ids | None) -> TextMatches:
        """Return at most ``limit`` pictures whose texts hold most of the words."""
        return self.full_text.match(terms, limit, allowed)

    def matched_texts(
        self, ids: Sequence[int], terms: Sequence[TextTerm]
    ) -> list[MatchedText | None]:
        """Return, for each picture, the text that holds most of the words; None if none match."""
        return self.full_text.matched_texts(ids, terms)
