"""Picture and texts in one vector of the same width: normalise((1 - a) v + a t).

v is the image vector, t the unit mean of the texts' vectors, weighted by kind, and a the text
weight. Texts are averaged first, so that many of them count no more than one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import FusionSpec, TextVectors, Vectors
from mmsearch.fusions._common import check_weights, interpolate, mean_text_vectors


def build(spec: FusionSpec) -> Fusion:
    """The weighted sum.

    Raises:
        UsageError: A weight out of range.
    """
    return WeightedFusion(check_weights(spec))


class WeightedFusion:
    """See `mmsearch.core.protocols.Fusion`."""

    needs_token_vectors = False

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """(n, dim)."""
        return interpolate(
            images, mean_text_vectors(images, texts, self.spec), self.spec.text_weight
        )

    def fuse_query(self, queries: Vectors) -> Vectors:
        """The query vectors."""
        return queries

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """Never called."""
        raise NotImplementedError
