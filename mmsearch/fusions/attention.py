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
from mmsearch.core.types import ATTENDED, FusionSpec, TextVectors, Vectors
from mmsearch.fusions._texts import NO_DIRECTION, check_weights, mix

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

    needs_parts = True

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """(n, dim)."""
        others = images.copy()
        for row, own in enumerate(texts):
            if ATTENDED in own.kinds:
                others[row] = own.vectors[own.kinds.index(ATTENDED)]
        return mix(images, others, self.spec.text_weight)

    def fuse_query(self, queries: Vectors) -> Vectors:
        """The query vectors."""
        return queries

    def attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """(p, dim) patches and (t, dim) tokens -> (1, dim), F of the formula above."""
        agreement = tokens.astype(np.float64) @ patches.astype(np.float64).T / TEMPERATURE
        weights = np.exp(agreement - agreement.max())
        weights /= weights.sum()
        joint = (weights.sum(axis=1) @ tokens + weights.sum(axis=0) @ patches) / 2.0
        norm = np.linalg.norm(joint)
        best = np.unravel_index(int(np.argmax(agreement)), agreement.shape)[1]
        chosen = joint / norm if norm > NO_DIRECTION else patches[best]
        return np.ascontiguousarray(chosen[None, :], dtype=np.float32)
