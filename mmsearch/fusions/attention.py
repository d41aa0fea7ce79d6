"""Picture and texts met part by part: every token of the texts looks at every patch.

With token vectors W_i, patch vectors I_j and alpha = softmax over all (i, j) of W_i.I_j / tau,
F = sum of alpha_ij (W_i + I_j) / 2, scaled to norm 1, is what the two agree on. It is made while a
picture is encoded, for the patches are not kept. The fused vector is
normalise((1 - a) v + a F), with a the text weight, so that another weight needs no encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import CROSS_ATTENTION, FusionSpec, TextVectors, Vectors
from mmsearch.fusions._common import MIN_NORM, check_weights, interpolate

TEMPERATURE = 0.05
"""tau: cosines of parts differ by some tenths; this lets the best pairs count a few times more."""


def build(spec: FusionSpec) -> Fusion:
    """The attention.

    Raises:
        UsageError: A weight out of range.
    """
    return AttentionFusion(check_weights(spec))


class AttentionFusion:
    """See `mmsearch.core.protocols.Fusion`."""

    needs_token_vectors = True

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """(n, dim)."""
        attended = images.copy()
        for row, picture_texts in enumerate(texts):
            if CROSS_ATTENTION in picture_texts.kinds:
                attended[row] = picture_texts.vectors[picture_texts.kinds.index(CROSS_ATTENTION)]
        return interpolate(images, attended, self.spec.text_weight)

    def fuse_query(self, queries: Vectors) -> Vectors:
        """The query vectors."""
        return queries

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """(p, dim) patches and (t, dim) tokens -> (1, dim), F of the formula above."""
        similarities = tokens.astype(np.float64) @ patches.astype(np.float64).T / TEMPERATURE
        weights = np.exp(similarities - similarities.max())
        weights /= weights.sum()
        pooled = (weights.sum(axis=1) @ tokens + weights.sum(axis=0) @ patches) / 2.0
        norm = np.linalg.norm(pooled)
        best_patch = np.unravel_index(int(np.argmax(similarities)), similarities.shape)[1]
        fused = pooled / norm if norm > MIN_NORM else patches[best_patch]
        return np.ascontiguousarray(fused[None, :], dtype=np.float32)
