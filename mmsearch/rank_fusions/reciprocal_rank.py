"""Reciprocal rank fusion: what stands high in either list stands high.

A picture's score is the sum of 1 / (60 + rank) over the lists it stands in (Cormack, Clarke and
Büttcher 2009, https://doi.org/10.1145/1571941.1572114, whose constant 60 is). All pictures stand in
the visual list. The text list holds those whose texts match: a picture without texts stands in the
order in which the visual list has it, and is passed only by what a matching text speaks for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import RankFusion
from mmsearch.core.text_matches import HybridCandidates

RRF_K = 60


def build() -> RankFusion:
    """Reciprocal rank fusion."""
    return ReciprocalRankFusion()


class ReciprocalRankFusion:
    """See `mmsearch.core.protocols.RankFusion`."""

    name = "reciprocal_rank"

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """float64 (c,)."""
        text_scores = np.where(
            candidates.text_ranks > 0, 1.0 / (RRF_K + candidates.text_ranks), 0.0
        )
        return 1.0 / (RRF_K + candidates.visual_ranks) + text_scores
