"""Highlighting: which text of a hit is shown, and which of its words are marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from mmsearch.catalog.query_words import (
    DERIVED,
    EXACT,
    INFLECTED,
    WORD,
    QueryWords,
    Token,
    compare_words,
    find_sequence,
    fold_case,
    shares_stem,
)
from mmsearch.catalog.text_weights import WEIGHED_KIND, text_evidence
from mmsearch.core.boxes import load_boxes, matching_boxes
from mmsearch.core.query import MatchedText

MATCHED_TEXT_COLUMNS = (
    f"texts.id, item_id, {WEIGHED_KIND}, kind, language, text, source, confidence, texts.start_ms,"
    " texts.end_ms, page, boxes"
)
"""Columns of the texts, joined with their items, that `best_matched_texts` reads."""


def best_matched_texts(
    rows: Iterable[Sequence[Any]], phrases: Sequence[QueryWords], exact_words: Collection[str]
) -> dict[int, MatchedText]:
    """Return, by item, the text that holds most of the words; items without any are left out.

    Args:
        rows: The texts, with `MATCHED_TEXT_COLUMNS`.
        phrases: The phrases of the query.
        exact_words: Words that some text has as they are, so that no other forms count.
    """
    tokens = list(dict.fromkeys(token for phrase in phrases for token in phrase.tokens))
    literals = [phrase.literal for phrase in phrases if phrase.literal]
    best: dict[int, tuple[tuple[float, int], MatchedText]] = {}
    for text_id, item_id, weighed_kind, kind, language, text, *others, boxes in rows:
        weight, spans = _find_spans(text, tokens, literals, exact_words)
        if spans:
            _, confidence, *_ = others
            nats = text_evidence("folder" if kind == "filename" else weighed_kind, confidence)
            rank = (weight * nats, -text_id)
            if item_id not in best or rank > best[item_id][0]:
                others.append(matching_boxes(load_boxes(boxes), spans))
                best[item_id] = rank, MatchedText(kind, language, text, spans, *others)
    return {item_id: matched for item_id, (_, matched) in best.items()}


def _find_spans(
    text: str,
    tokens: Sequence[Token],
    literals: Sequence[Sequence[str]],
    exact_words: Collection[str],
) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Return how much the words of a text count together, and the spans of those that count."""
    found = [(word.span(), fold_case(word[0])) for word in WORD.finditer(text)]
    words = [word for _, word in found]
    spans: set[tuple[int, int]] = set()
    weight = 0.0
    for token in tokens:
        if token.table != "words":
            matches = [m.span() for m in re.finditer(re.escape(token.value), text, re.IGNORECASE)]
            weight += EXACT * bool(matches)
            spans.update(matches)
            continue
        best = 0.0
        for span, word in found:
            exactness = compare_words(token.value, word)
            if exactness < INFLECTED and token.value in exact_words:
                continue
            if not exactness and shares_stem(token.value, word):
                exactness = DERIVED
            if exactness:
                spans.add(span)
                best = max(best, exactness)
        weight += best
    for literal in literals:
        for start in find_sequence(words, literal):
            spans.add((found[start][0][0], found[start + len(literal) - 1][0][1]))
            weight += EXACT
    return weight, _merge_spans(spans)


def _merge_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return spans in order; those that overlap are merged."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)
