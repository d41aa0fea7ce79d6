"""Weighted sum in one vector of the same dimension: normalise((1 - a) v + a t).

v is the image vector, t the normalized mean of the text vectors, weighted by kind, and a the text
weight. Texts are averaged first, so that many texts together count as much as one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import FusionSpec, TextVectors, Vectors
from mmsearch.fusions._common import check_weights, interpolate, mean_text_vectors


def build(spec: FusionSpec) -> Fusion:
    """Return the weighted fusion.

    Raises:
        UsageError: A weight is out of range.
    """
    return WeightedFusion(check_weights(spec))


class WeightedFusion:
    """Weighted fusion; see `mmsearch.core.protocols.Fusion`."""

    needs_token_vectors = False

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the fused vectors, (n, dim)."""
        return interpolate(
            images, mean_text_vectors(images, texts, self.spec), self.spec.text_weight
        )

    def fuse_query(self, queries: Vectors) -> Vectors:
        """Return the query vectors unchanged."""
        return queries

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """Raise NotImplementedError: this fusion does not need token vectors."""
        raise NotImplementedError
