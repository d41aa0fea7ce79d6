"""Weighted sum in one vector of the same dimension: normalise((1 - a) v + a t).

v is the image vector, t the normalized mean of the text vectors, weighted by kind, and a the text
weight. Texts are averaged first, so that many texts together count as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.types import TextVectors, Vectors
from mmsearch.fusions._common import BaseFusion, interpolate, mean_text_vectors


class WeightedFusion(BaseFusion):
    """Weighted fusion; see `mmsearch.core.protocols.Fusion`."""

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the fused vectors, (n, dim)."""
        return interpolate(
            images, mean_text_vectors(images, texts, self.spec), self.spec.text_weight
        )


build = WeightedFusion
