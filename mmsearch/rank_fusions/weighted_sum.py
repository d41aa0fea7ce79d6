"""A convex sum of how much a picture looks like the query and how much its texts say so.

The visual part is the cosine similarity, moved so that an unrelated picture has 0 and the most
similar one has 1. The text part is the share of the query's words that the texts hold. A text that
holds none of them says nothing against a picture, and neither does having no text: both keep the
order of the visual list, and are passed only by what a matching text speaks for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import RankFusion
from mmsearch.core.text_matches import HybridCandidates

TEXT_WEIGHT = 0.5
"""An equal voice for both; not tuned. What it is worth is in the fusion study of
benchmarks/RESULTS.md."""


def build() -> RankFusion:
    """The convex sum."""
    return WeightedSum()


class WeightedSum:
    """See `mmsearch.core.protocols.RankFusion`."""

    name = "weighted_sum"

    def __init__(self, text_weight: float = TEXT_WEIGHT) -> None:
        self._text_weight = text_weight

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """float64 (c,), in [0, 1]."""
        visual = candidates.visual_scores.astype(np.float64)
        max_visual = visual.max(initial=candidates.visual_baseline)
        visual_range = max(max_visual - candidates.visual_baseline, 1e-6)
        visual_scores = np.clip((visual - candidates.visual_baseline) / visual_range, 0.0, 1.0)
        scores: NDArray[np.float64] = (
            1.0 - self._text_weight
        ) * visual_scores + self._text_weight * candidates.text_scores
        return scores
