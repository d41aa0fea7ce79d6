"""Hits: the record, the matched text and the confidence of each candidate."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.display import display_path, format_place
from mmsearch.core.query import TEXT_PRIOR, Band, MatchedText, TextTerm
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Duplicate, Hit, Moment
from mmsearch.core.types import Ids, ItemLocator
from mmsearch.search.retrieval import Candidates, SearchScope

LIKELY_THRESHOLD, POSSIBLE_THRESHOLD = 0.6, 0.2
"""Minimum probabilities of the bands: on the sets that percentages are fitted to, at least three of
four likely first hits are right, and one to three of four possible ones (benchmarks/RESULTS.md)."""

MAX_DUPLICATES = 20
"""Maximum number of duplicates that a hit lists; all of them are counted."""

CONTRADICTING_MARGIN = -1.0
"""Standard deviations above the library's mean below which a look contradicts a query."""


def make_hits(
    scope: SearchScope,
    candidates: Candidates,
    records: Mapping[int, PictureRecord],
    text_terms: Sequence[TextTerm],
    look: NDArray[np.float64] | None,
    *,
    explain: bool,
    fold: bool = False,
) -> list[Hit]:
    """Return the hits of a query, best first.

    Args:
        scope: The scope that was searched.
        candidates: The candidates, best first.
        records: Record of each candidate, and possibly of others, by id.
        text_terms: Text terms of the query; empty to leave out the matched texts.
        look: float64 (n,), probability of each candidate that it shows what the query describes,
            see `mmsearch.search.confidence`; NaN for items without pixels, None in text mode.
        explain: False to leave out the confidences.
        fold: True to add the duplicates that hits stand for.
    """
    confidences = [0.0] * len(candidates.ids)
    if explain:
        # A query without words and pictures is all filters, which every hit passes.
        has_terms = len(text_terms) > 0 or look is not None
        confidences = _confidences(candidates, look) if has_terms else [1.0] * len(confidences)
    texts: list[MatchedText | None] = [None] * len(candidates.ids)
    if text_terms and candidates.text.any():
        found_texts = scope.snapshot.matched_texts(candidates.ids.tolist(), text_terms)
        texts = [
            matched if score else None
            for matched, score in zip(found_texts, candidates.text.tolist(), strict=True)
        ]
    # Everything but the hits themselves is computed for all of them together.
    bands = [to_band(confidence) for confidence in confidences]
    found = [records[image_id] for image_id in candidates.ids.tolist()]
    paths = [[Path(os.fsdecode(path)) for path in record.paths] for record in found]
    moments = [_make_moments(listed, records) for listed in candidates.moments]
    moments = moments or [()] * len(found)
    stacks = _find_stacks(scope, candidates.ids) if fold else {}
    locators = [_locate(record, matched) for record, matched in zip(found, texts, strict=True)]
    scores, text_scores = candidates.scores.tolist(), candidates.text.tolist()
    visual = [None] * len(scores) if candidates.visual is None else candidates.visual.tolist()
    visual = [None if score is None or math.isnan(score) else score for score in visual]
    return [
        Hit(
            **vars(record.picture),
            id=record.id,
            rank=row + 1,
            score=scores[row],
            visual=visual[row],
            text=text_scores[row],
            matched=texts[row],
            confidence=confidences[row],
            band=bands[row],
            path=paths[row][0],
            modified_at=record.mtime_ns / 1e9,
            size_bytes=record.size,
            copies=tuple(paths[row][1:]),
            key=display_path(record.key),
            keys=tuple(map(display_path, record.keys)),
            metadata=record.metadata,
            uri=display_path(record.uri),
            kind=record.kind,
            **vars(locators[row]),
            place=format_place(record.picture.texts),
            moments=moments[row],
            **stacks.get(record.id, {}),
        )
        for row, record in enumerate(found)
    ]


def _find_stacks(scope: SearchScope, ids: Ids) -> dict[int, dict[str, Any]]:
    """Return the members of hits that say which duplicates they stand for, by id."""
    stacks = scope.snapshot.stacks(ids.tolist(), scope.allowed, MAX_DUPLICATES)
    return {
        item_id: {
            "folded": stack.count,
            "duplicates": tuple(map(Duplicate.from_record, stack.duplicates)),
        }
        for item_id, stack in stacks.items()
    }


def _locate(record: PictureRecord, matched: MatchedText | None) -> ItemLocator:
    """Return where a hit is: at the line that matches, in a film or a sound."""
    if matched is None or matched.start_ms is None:
        return record.locator
    return replace(record.locator, start_ms=matched.start_ms, end_ms=matched.end_ms)


def _make_moments(
    listed: Sequence[tuple[int, float]], records: Mapping[int, PictureRecord]
) -> tuple[Moment, ...]:
    return tuple(
        Moment(id=item_id, score=score, **vars(records[item_id].locator))
        for item_id, score in listed
    )


def combine_with_text(
    visual: NDArray[np.float64],
    evidence: NDArray[np.float32],
    margins: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the confidence of hits from their look and their texts.

    Evidence multiplies the odds of the look. A text never makes a hit likely whose look contradicts
    the query, and never lowers a confidence.

    Args:
        visual: float64 (n,), in [0, 1], from `look_confidences`, or `TEXT_PRIOR` without a look.
        evidence: float32 (n,), in nats, from `TextMatches.evidence`.
        margins: float64 (n,), standard deviations by which each picture is more similar to the
            query than the library is; None without a look.
    """
    odds = np.clip(visual, 1e-9, 1.0 - 1e-9)
    combined = 1.0 / (1.0 + (1.0 - odds) / odds * np.exp(-evidence.astype(np.float64)))
    if margins is not None:
        below_likely = np.nextafter(LIKELY_THRESHOLD, 0.0)
        combined = np.where(
            margins < CONTRADICTING_MARGIN, np.minimum(combined, below_likely), combined
        )
    return np.maximum(visual, combined)


def to_band(confidence: float) -> Band:
    """Return the band of a probability."""
    if confidence >= LIKELY_THRESHOLD:
        return Band.LIKELY
    return Band.POSSIBLE if confidence >= POSSIBLE_THRESHOLD else Band.UNLIKELY


def _confidences(candidates: Candidates, look: NDArray[np.float64] | None) -> list[float]:
    visual_confidences, margins = np.full(len(candidates.ids), TEXT_PRIOR), None
    if look is not None and candidates.visual is not None and candidates.background is not None:
        visual_confidences = np.where(np.isnan(look), TEXT_PRIOR, look)
        background = candidates.background
        margins = (candidates.visual.astype(np.float64) - background.mean) / background.std
    confidences = combine_with_text(visual_confidences, candidates.evidence, margins)
    return [float(confidence) for confidence in confidences]
