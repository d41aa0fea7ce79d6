"""What the fusions have in common: one vector for all texts of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import UsageError
from mmsearch.core.types import CROSS_ATTENTION, FusionSpec, TextVectors, Vectors

MIN_NORM = 1e-6
"""Vectors that cancel each other leave less than this: they say nothing."""


def check_weights(spec: FusionSpec) -> FusionSpec:
    """Refuse weights that no picture could be fused with.

    Raises:
        UsageError: A share outside 0..1, or a weight that is negative or not finite.
    """
    if not 0.0 <= spec.text_weight <= 1.0:
        raise UsageError(
            f"A text weight of {spec.text_weight:g} is not between 0 and 1.",
            "It is the share of the texts beside the picture: --text-weight 0.3",
        )
    for kind, weight in spec.kind_weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight {weight:g} of {kind!r} texts is not 0 or more.")
    return spec


def mean_text_vectors(images: Vectors, texts: Sequence[TextVectors], spec: FusionSpec) -> Vectors:
    """One unit vector for the texts of each picture: their weighted mean.

    Args:
        images: (n, dim): stands in for the texts of a picture that has none, or whose texts cancel
            each other or weigh nothing.
        texts: Of each picture.
        spec: Weights of kinds.

    Returns:
        (n, dim).
    """
    means: NDArray[np.float32] = images.copy()
    for row, picture_texts in enumerate(texts):
        weights = [
            0.0 if k == CROSS_ATTENTION else spec.kind_weights.get(k, 1.0)
            for k in picture_texts.kinds
        ]
        total = sum(weights)
        if total > 0:
            mean = (
                np.asarray(weights, dtype=np.float64)
                @ picture_texts.vectors.astype(np.float64)
                / total
            )
            norm = np.linalg.norm(mean)
            if norm > MIN_NORM:
                means[row] = mean / norm
    return means


def interpolate(images: Vectors, text_vectors: Vectors, text_weight: float) -> Vectors:
    """Unit vectors between two: (1 - share) * image + share * other, scaled; else the image's."""
    blended = (1.0 - text_weight) * images.astype(np.float64) + text_weight * text_vectors.astype(
        np.float64
    )
    norms = np.linalg.norm(blended, axis=1, keepdims=True)
    is_zero = norms <= MIN_NORM
    scaled = np.where(is_zero, images, blended / np.where(is_zero, 1.0, norms))
    # A picture without texts is mixed with itself: it keeps its bits, not just its direction.
    is_same = (images == text_vectors).all(axis=1, keepdims=True)
    return np.ascontiguousarray(np.where(is_same, images, scaled), dtype=np.float32)
