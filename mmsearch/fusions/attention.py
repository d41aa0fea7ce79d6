"""Attention fusion: every token of the texts attends to every patch of the picture.

With token vectors W_i, patch vectors I_j and alpha = softmax over all (i, j) of W_i.I_j / tau,
F = sum of alpha_ij (W_i + I_j) / 2, scaled to norm 1, represents the content that picture and texts
share. F is computed while a picture is encoded, because the patches are not stored. The fused
vector is normalise((1 - a) v + a F), with image vector v and text weight a, so that a change of the
text weight does not need the encoder.

It costs more than the other fusions and finds less: in benchmarks/RESULTS.md ("Texts and fusion")
its mean Success@10 is 0.68, that of `weighted` 0.68 and of `concat` 0.71; its mean Success@1 is
0.46 against 0.52 and 0.51. Patches and tokens take 1.7 times the processor time of the picture and
its text, in addition to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsearch.core.types import CROSS_ATTENTION, TextVectors, Vectors
from mmsearch.fusions._common import MIN_NORM, BaseFusion, interpolate

TEMPERATURE = 0.05
"""Softmax temperature tau. Cosines of tokens and patches differ by a few tenths; this value gives
the best pairs several times the weight of others."""


class AttentionFusion(BaseFusion):
    """Attention fusion; see `mmsearch.core.protocols.Fusion`."""

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the fused vectors, (n, dim)."""
        attended = images.copy()
        for row, picture_texts in enumerate(texts):
            if CROSS_ATTENTION in picture_texts.kinds:
                attended[row] = picture_texts.vectors[picture_texts.kinds.index(CROSS_ATTENTION)]
        return interpolate(images, attended, self.spec.text_weight)

    @staticmethod
    def cross_attend(patches: Vectors, tokens: Vectors) -> Vectors:
        """Return F of the formula above, (1, dim), for (p, dim) patches and (t, dim) tokens."""
        similarities = tokens.astype(np.float64) @ patches.astype(np.float64).T / TEMPERATURE
        weights = np.exp(similarities - similarities.max())
        weights /= weights.sum()
        pooled = (weights.sum(axis=1) @ tokens + weights.sum(axis=0) @ patches) / 2.0
        norm = np.linalg.norm(pooled)
        best_patch = np.unravel_index(int(np.argmax(similarities)), similarities.shape)[1]
        fused = pooled / norm if norm > MIN_NORM else patches[best_patch]
        return np.ascontiguousarray(fused[None, :], dtype=np.float32)


build = AttentionFusion
