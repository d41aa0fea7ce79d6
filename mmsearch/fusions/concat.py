"""Concatenation: [sqrt(1 - a) v ; sqrt(a) t], searched with the query in both halves.

The score is then (1 - a) q.v + a q.t, the weighted mean of the two cosines, with a the text weight,
v the image vector and t the normalized mean of the text vectors. A picture without texts has v in
both halves, so that its score is q.v.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mmsearch.core.types import TextVectors, Vectors
from mmsearch.fusions._common import BaseFusion, mean_text_vectors


class ConcatFusion(BaseFusion):
    """Concatenating fusion; see `mmsearch.core.protocols.Fusion`."""

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the fused vectors, (n, 2 dim)."""
        return self._concatenate(images, mean_text_vectors(images, texts, self.spec))

    def fuse_query(self, queries: Vectors) -> Vectors:
        """Return the query vectors, scaled and repeated in both halves, (q, 2 dim)."""
        return self._concatenate(queries, queries)

    def _concatenate(self, left: Vectors, right: Vectors) -> Vectors:
        text_weight = self.spec.text_weight
        halves = [math.sqrt(1.0 - text_weight) * left, math.sqrt(text_weight) * right]
        return np.ascontiguousarray(np.concatenate(halves, axis=1), dtype=np.float32)


build = ConcatFusion
