"""Reciprocal rank fusion: what stands high in either list stands high.

A picture's score is the sum of 1 / (60 + rank) over the lists it stands in (Cormack, Clarke and
Büttcher 2009, https://doi.org/10.1145/1571941.1572114, whose constant 60 is). All pictures stand in
the visual list. The text list holds those whose texts match: a picture without texts stands in the
order in which the visual list has it, and is passed only by what a matching text speaks for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import Blend
from mmsearch.core.text_matches import Evidence

CONSTANT = 60


def build() -> Blend:
    """Reciprocal rank fusion."""
    return ReciprocalRank()


class ReciprocalRank:
    """See `mmsearch.core.protocols.Blend`."""

    name = "reciprocal_rank"

    def blend(self, evidence: Evidence) -> NDArray[np.float64]:
        """float64 (c,)."""
        by_text = np.where(evidence.text_ranks > 0, 1.0 / (CONSTANT + evidence.text_ranks), 0.0)
        return 1.0 / (CONSTANT + evidence.visual_ranks) + by_text
