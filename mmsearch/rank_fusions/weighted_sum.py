"""Convex combination of the visual score and the text score of a picture.

The visual score is the cosine similarity, scaled so that an unrelated picture has 0 and the most
similar one has 1. The text score is the evidence of the texts: 1 for a rare word in a
caption. A text without any of the words does not lower the score, and neither does a missing text:
such pictures keep the order of the visual list, and only a picture with a matching text can move
ahead of them. The score of an item without pixels is its text score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import RankFusion
from mmsearch.core.query import HybridCandidates

TEXT_WEIGHT = 0.5
"""Weight of the text score: equal to that of the visual score, not tuned. The fusion study in
benchmarks/RESULTS.md has the results."""


def build() -> RankFusion:
    """Return the weighted sum."""
    return WeightedSum()


class WeightedSum:
    """Weighted sum; see `mmsearch.core.protocols.RankFusion`."""

    name = "weighted_sum"

    def __init__(self, text_weight: float = TEXT_WEIGHT) -> None:
        self._text_weight = text_weight

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """Return the scores of the candidates, float64 (c,), in [0, 1]."""
        visual = candidates.visual_scores.astype(np.float64)
        max_visual = visual.max(initial=candidates.visual_baseline)
        visual_range = max(max_visual - candidates.visual_baseline, 1e-6)
        visual_scores = np.clip((visual - candidates.visual_baseline) / visual_range, 0.0, 1.0)
        if candidates.has_look is not None:
            visual_scores = np.where(candidates.has_look, visual_scores, candidates.text_scores)
        scores: NDArray[np.float64] = (
            1.0 - self._text_weight
        ) * visual_scores + self._text_weight * candidates.text_scores
        return scores
