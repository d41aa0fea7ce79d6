"""How sure it is that a hit shows what was asked for.

A cosine similarity alone does not tell: 0.3 may be the best that a query ever reaches, and noise
for another. So a hit is compared with two backgrounds: how similar the query is to a sample of the
library (its mean and spread), and how similar the hit is to prompts that describe nothing. A
logistic function of both, fitted for each encoder on queries with and without a relevant picture,
makes a probability of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.queries import Band
from mmsearch.core.types import Calibration

NULL_PROMPTS: tuple[str, ...] = (
    "a photo",
    "a picture of something",
    "an image",
    "a random picture",
    "something else",
    "a thing",
    "an unknown object",
    "untitled",
)
"""Descriptions of nothing in particular."""

LIKELY_THRESHOLD, POSSIBLE_THRESHOLD = 0.3, 0.0436
"""From these probabilities on. On the drawings that the starter's were fitted on, fewer than one in
twenty right first hits fall below the lower one, and one in four of queries without an answer; on
photographs, first hits above the upper one are mostly right. See benchmarks/RESULTS.md."""

TEXT_RELIABILITY = 0.9
"""What a text that holds all words of a query is believed."""


@dataclass(frozen=True)
class ScoreDistribution:
    """The similarity of one query to pictures that mostly have nothing to do with it.

    Attributes:
        mean: Of the sample's cosine similarities.
        std: Their standard deviation.
        median: Their median.
    """

    mean: float
    std: float
    median: float

    @classmethod
    def from_scores(cls, scores: NDArray[np.float32]) -> ScoreDistribution:
        """From the cosine similarities (n,) of a sample; an empty one says nothing."""
        return cls.from_score_rows(scores[None])[0]

    @classmethod
    def from_score_rows(cls, scores: NDArray[np.float32]) -> list[ScoreDistribution]:
        """From those of q queries, (q, n)."""
        if not scores.shape[1]:
            return [cls(0.0, 1.0, 0.0)] * len(scores)
        stds = np.maximum(np.std(scores, axis=1, dtype=np.float64), 1e-3)
        means = np.mean(scores, axis=1, dtype=np.float64)
        medians = np.median(scores, axis=1)
        rows = np.stack([means, stds, medians], axis=1).tolist()
        return [cls(mean, std, median) for mean, std, median in rows]


def visual_confidence(
    scores: NDArray[np.float32],
    null_scores: NDArray[np.float32],
    background: ScoreDistribution,
    calibration: Calibration,
) -> NDArray[np.float64]:
    """Probabilities that pictures show what the query describes.

    Args:
        scores: float32 (n,), cosine similarity of each with the query.
        null_scores: float32 (n,), its mean cosine similarity with `NULL_PROMPTS`.
        background: Of the query.
        calibration: Of the encoder.

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
    visual: NDArray[np.float64], text: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Both kinds of evidence together: it is wrong only if both are.

    Args:
        visual: float64 (n,), from `visual_confidence`.
        text: float32 (n,), the share of the query's words that a picture's texts hold.
    """
    return 1.0 - (1.0 - visual) * (1.0 - TEXT_RELIABILITY * text.astype(np.float64) ** 2)


def to_band(confidence: float) -> Band:
    """A word for a probability."""
    if confidence >= LIKELY_THRESHOLD:
        return Band.LIKELY
    return Band.POSSIBLE if confidence >= POSSIBLE_THRESHOLD else Band.UNLIKELY
