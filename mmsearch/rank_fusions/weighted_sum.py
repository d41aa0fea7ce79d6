"""A convex sum of how much a picture looks like the query and how much its texts say so.

The visual part is the cosine similarity, moved so that an unrelated picture has 0 and the most
similar one has 1. The text part is the share of the query's words that the texts hold. A text that
holds none of them says nothing against a picture, and neither does having no text: both keep the
order of the visual list, and are passed only by what a matching text speaks for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import Blend
from mmsearch.core.text_matches import Evidence

TEXT_SHARE = 0.5
"""An equal voice for both; not tuned. What it is worth is in the fusion study of
benchmarks/RESULTS.md."""


def build() -> Blend:
    """The convex sum."""
    return ScoreBlend()


class ScoreBlend:
    """See `mmsearch.core.protocols.Blend`."""

    name = "weighted_sum"

    def __init__(self, text_share: float = TEXT_SHARE) -> None:
        self._text_share = text_share

    def blend(self, evidence: Evidence) -> NDArray[np.float64]:
        """float64 (c,), in [0, 1]."""
        visual = evidence.visual.astype(np.float64)
        top = visual.max(initial=evidence.visual_floor)
        spread = max(top - evidence.visual_floor, 1e-6)
        likeness = np.clip((visual - evidence.visual_floor) / spread, 0.0, 1.0)
        blended: NDArray[np.float64] = (
            1.0 - self._text_share
        ) * likeness + self._text_share * evidence.text
        return blended
