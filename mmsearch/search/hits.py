"""Hits: the record, the matched text and the confidence of each candidate.

The confidence of a hit is the probability that it shows what the query describes. A cosine
similarity is not a confidence: 0.3 may be the highest score of one query and noise for another. A
hit is therefore compared with two baselines: the similarity of the query to a sample of the library
(mean and standard deviation), and the similarity of the hit to prompts that describe nothing. A
logistic function of both gives the probability. It is fitted for each encoder on queries with and
without a relevant picture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.query import Band, MatchedText, TextTerm
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Hit
from mmsearch.core.types import Calibration, Ids
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.retrieval import Candidates, ScoreDistribution, SearchScope

LIKELY_THRESHOLD, POSSIBLE_THRESHOLD = 0.3, 0.0436
"""Minimum probabilities of the bands. The starter encoder's calibration was fitted on drawings:
there, fewer than one in twenty correct first hits fall below the lower threshold, and one in four
first hits of queries without an answer. On photographs, most first hits above the upper threshold
are correct. See benchmarks/RESULTS.md."""

TEXT_PRIOR = 0.02
"""Probability that a picture is relevant if nothing is known about its look."""

CONTRADICTING_MARGIN = -1.0
"""Standard deviations above the library's mean below which a look contradicts a query."""


@dataclass(frozen=True)
class HitContext:
    """Data shared by the hits of several queries.

    Attributes:
        ids: int64 (n,), ascending: ids of all candidates.
        records: Record of each picture, by id.
        null_scores: float32 (n,): mean cosine similarity of each picture with `NULL_PROMPTS`; None
            if no query asks for confidences.
    """

    ids: Ids
    records: Mapping[int, PictureRecord]
    null_scores: NDArray[np.float32] | None

    @classmethod
    def load(
        cls,
        scope: SearchScope,
        candidate_ids: Sequence[Ids],
        null_vector: NDArray[np.float32] | None,
    ) -> HitContext:
        """Load the records and the null scores of all candidates.

        Args:
            scope: Scope that holds the candidates.
            candidate_ids: Candidates of each query, int64 (n,).
            null_vector: float32 (dim,), mean vector of `NULL_PROMPTS`; None if no query asks for
                confidences.
        """
        ids = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *candidate_ids]))
        records = {record.id: record for record in scope.snapshot.records(ids.tolist())}
        if null_vector is None:
            return cls(ids, records, None)
        null_query = scope.reader.fusion.fuse_query(as_unit_vectors(null_vector[None, :]))
        norm = np.float32(np.linalg.norm(null_vector))
        return cls(ids, records, norm * scope.reader.scores(null_query, ids))


def make_hits(
    scope: SearchScope,
    candidates: Candidates,
    context: HitContext,
    text_terms: Sequence[TextTerm],
    calibration: Calibration | None,
) -> list[Hit]:
    """Return the hits of a query, best first.

    Args:
        scope: The scope that was searched.
        candidates: The candidates, best first.
        context: Records and null scores of these candidates, and possibly of others.
        text_terms: Text terms of the query; empty to leave out the matched texts.
        calibration: Calibration of the encoder; None to leave out the confidence.
    """
    confidences = _confidences(candidates, context, calibration)
    texts: list[MatchedText | None] = [None] * len(candidates.ids)
    if text_terms and candidates.text.any():
        texts = scope.snapshot.matched_texts(candidates.ids.tolist(), text_terms)
    # Everything but the hits themselves is computed for all of them together.
    bands = [to_band(confidence) for confidence in confidences]
    records = [context.records[image_id] for image_id in candidates.ids.tolist()]
    paths = [[Path(os.fsdecode(path)) for path in record.paths] for record in records]
    scores, text_scores = candidates.scores.tolist(), candidates.text.tolist()
    visual = [None] * len(scores) if candidates.visual is None else candidates.visual.tolist()
    return [
        Hit(
            **vars(record.picture),
            id=record.id,
            rank=row + 1,
            score=scores[row],
            visual=visual[row],
            text=text_scores[row],
            matched=texts[row] if text_scores[row] else None,
            confidence=confidences[row],
            band=bands[row],
            path=paths[row][0],
            modified_at=record.mtime_ns / 1e9,
            size_bytes=record.size,
            copies=tuple(paths[row][1:]),
        )
        for row, record in enumerate(records)
    ]


def visual_confidence(
    scores: NDArray[np.float32],
    null_scores: NDArray[np.float32],
    background: ScoreDistribution,
    calibration: Calibration,
) -> NDArray[np.float64]:
    """Return the probability of each picture that it shows what the query describes.

    Args:
        scores: float32 (n,), cosine similarity of each picture with the query.
        null_scores: float32 (n,), mean cosine similarity of each picture with `NULL_PROMPTS`.
        background: Similarity of the query to a sample of the library.
        calibration: Calibration of the encoder.

    Returns:
        float64 (n,), in (0, 1).
    """
    above_mean = scores.astype(np.float64) - background.mean
    above_null = scores.astype(np.float64) - null_scores
    logit = (
        calibration.bias
        + calibration.library * above_mean / background.std
        + calibration.margin * above_mean
        + calibration.null * above_null
    )
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))


def combine_with_text(
    visual: NDArray[np.float64],
    evidence: NDArray[np.float32],
    margins: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the confidence of hits from their look and their texts.

    Evidence multiplies the odds of the look. A text never makes a hit likely whose look contradicts
    the query, and never lowers a confidence.

    Args:
        visual: float64 (n,), in [0, 1], from `visual_confidence`, or `TEXT_PRIOR` without a look.
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


def _confidences(
    candidates: Candidates, context: HitContext, calibration: Calibration | None
) -> list[float]:
    if calibration is None:
        return [0.0] * len(candidates.ids)
    visual_confidences = np.full(len(candidates.ids), TEXT_PRIOR)
    margins = None
    visual, background, all_null_scores = (
        candidates.visual,
        candidates.background,
        context.null_scores,
    )
    if not (visual is None or background is None or all_null_scores is None):
        null_scores = all_null_scores[np.searchsorted(context.ids, candidates.ids)]
        visual_confidences = visual_confidence(visual, null_scores, background, calibration)
        margins = (visual.astype(np.float64) - background.mean) / background.std
    confidences = combine_with_text(visual_confidences, candidates.evidence, margins)
    return [float(confidence) for confidence in confidences]
