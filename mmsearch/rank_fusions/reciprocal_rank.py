"""Reciprocal rank fusion: a picture that ranks high in either list ranks high.

The score of a picture is the sum of 1 / (60 + rank) over the lists that contain it (Cormack, Clarke
and Büttcher 2009, https://doi.org/10.1145/1571941.1572114, who also chose the constant 60). The
visual list contains all pictures, the text list only those whose texts match. Pictures without
texts therefore keep the order of the visual list, and only a picture with a matching text can move
ahead of them. An item without pixels has its text rank in both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import RankFusion
from mmsearch.core.query import HybridCandidates

RRF_K = 60


def build() -> RankFusion:
    """Return the reciprocal rank fusion."""
    return ReciprocalRankFusion()


class ReciprocalRankFusion:
    """Reciprocal rank fusion; see `mmsearch.core.protocols.RankFusion`."""

    name = "reciprocal_rank"

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """Return the scores of the candidates, float64 (c,)."""
        text_scores = np.where(
            candidates.text_ranks > 0, 1.0 / (RRF_K + candidates.text_ranks), 0.0
        )
        visual_scores = 1.0 / (RRF_K + candidates.visual_ranks)
        if candidates.has_look is not None:
            visual_scores = np.where(candidates.has_look, visual_scores, text_scores)
        return visual_scores + text_scores
