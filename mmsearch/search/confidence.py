"""Confidence of a hit: the probability that it shows what the query describes.

A cosine similarity is not a confidence: 0.3 may be the highest score of one query and noise for
another. A hit is therefore compared with two baselines: the similarity of the query to a sample of
the library (mean and standard deviation), and the similarity of the hit to prompts that describe
nothing. A logistic function of both gives the probability. It is fitted for each encoder on queries
with and without a relevant picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.query import Band
from mmsearch.core.types import Calibration, Ids, Vectors
from mmsearch.search.index_reader import IndexReader

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
"""Prompts that describe nothing in particular."""

LIKELY_THRESHOLD, POSSIBLE_THRESHOLD = 0.3, 0.0436
"""Minimum probabilities of the bands. The starter encoder's calibration was fitted on drawings:
there, fewer than one in twenty correct first hits fall below the lower threshold, and one in four
first hits of queries without an answer. On photographs, most first hits above the upper threshold
are correct. See benchmarks/RESULTS.md."""

TEXT_RELIABILITY = 0.9
"""Probability that a hit is relevant if its texts contain all words of the query."""


@dataclass(frozen=True)
class ScoreDistribution:
    """Similarity of one query to a sample of the library, most of which is unrelated to it.

    Attributes:
        mean: Mean of the cosine similarities.
        std: Standard deviation of the cosine similarities.
        median: Median of the cosine similarities.
    """

    mean: float
    std: float
    median: float

    @classmethod
    def from_scores(cls, scores: NDArray[np.float32]) -> ScoreDistribution:
        """Return the distribution of cosine similarities (n,); a neutral one if n is 0."""
        return cls.from_score_rows(scores[None])[0]

    @classmethod
    def from_score_rows(cls, scores: NDArray[np.float32]) -> list[ScoreDistribution]:
        """Return the distribution of each row of (q, n): one row for each query."""
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
    visual: NDArray[np.float64], text: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Combine visual and text confidence: a hit is wrong only if both are wrong.

    Args:
        visual: float64 (n,), from `visual_confidence`.
        text: float32 (n,), share of the query's words that the texts of each picture contain.
    """
    return 1.0 - (1.0 - visual) * (1.0 - TEXT_RELIABILITY * text.astype(np.float64) ** 2)


def to_band(confidence: float) -> Band:
    """Return the band of a probability."""
    if confidence >= LIKELY_THRESHOLD:
        return Band.LIKELY
    return Band.POSSIBLE if confidence >= POSSIBLE_THRESHOLD else Band.UNLIKELY


SAMPLE_SIZE = 1000
"""Maximum number of pictures in the sample."""


class BackgroundSample:
    """Draws the sample of a generation and caches it for later queries."""

    def __init__(self) -> None:
        self._cached: tuple[tuple[object, ...], Vectors] | None = None

    def vectors(self, reader: IndexReader, snapshot: Snapshot) -> Vectors:
        """Return the vectors of the sample, float32 (n, dim), without deleted pictures.

        The pictures are spread evenly over the index.

        Args:
            reader: Reader of the generation.
            snapshot: Snapshot of the same generation.
        """
        key = (reader.key, snapshot.generation)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, reader.vectors(_sample_ids(reader, snapshot))
        return self._cached[1]


def _sample_ids(reader: IndexReader, snapshot: Snapshot) -> Ids:
    count = SAMPLE_SIZE * reader.size // max(snapshot.pictures, 1)
    live_ids = np.setdiff1d(reader.sample_ids(count), snapshot.deleted_ids, assume_unique=True)
    return live_ids[:: max(1, len(live_ids) // SAMPLE_SIZE)]
