"""Base class of the fusions, text means and interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import Hint, UsageError
from mmsearch.core.types import CROSS_ATTENTION, FusionSpec, TextVectors, Vectors

MIN_NORM = 1e-6
"""Norm at or below which vectors count as having cancelled each other."""


class BaseFusion:
    """Base of the fusions into vectors that are searched with the query vector itself.

    Raises:
        UsageError: The text weight is outside 0..1, or a weight of a kind is negative or not
            finite.
    """

    cross_attend: Callable[[Vectors, Vectors], Vectors] | None = None

    def __init__(self, spec: FusionSpec) -> None:
        if not 0.0 <= spec.text_weight <= 1.0:
            raise UsageError(
                f"The text weight must be between 0 and 1, got {spec.text_weight:g}.",
                Hint(
                    "It is the share of the texts relative to the picture: {}",
                    "text_weight=0.3",
                    "--text-weight 0.3",
                ),
            )
        for kind, weight in spec.kind_weights.items():
            if not (np.isfinite(weight) and weight >= 0):
                raise UsageError(f"The weight of {kind!r} texts must be 0 or more, got {weight:g}.")
        self.spec = spec

    def fuse_query(self, queries: Vectors) -> Vectors:
        """Return the query vectors unchanged."""
        return queries


def mean_text_vectors(images: Vectors, texts: Sequence[TextVectors], spec: FusionSpec) -> Vectors:
    """Return the normalized weighted mean of the text vectors of each picture.

    Args:
        images: (n, dim), image vectors. They replace the mean of a picture without texts, or whose
            texts cancel each other or have weight 0.
        texts: Text vectors of each picture.
        spec: Fusion spec with the weight of each kind of text.

    Returns:
        (n, dim) unit vectors.
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
    """Return (1 - text_weight) * image + text_weight * text, normalized.

    A row whose sum is 0 is replaced by its image vector.
    """
    blended = (1.0 - text_weight) * images.astype(np.float64) + text_weight * text_vectors.astype(
        np.float64
    )
    norms = np.linalg.norm(blended, axis=1, keepdims=True)
    is_zero = norms <= MIN_NORM
    scaled = np.where(is_zero, images, blended / np.where(is_zero, 1.0, norms))
    # The text vector of a picture without texts is its image vector: keep it bit for bit.
    is_same = (images == text_vectors).all(axis=1, keepdims=True)
    return np.ascontiguousarray(np.where(is_same, images, scaled), dtype=np.float32)
