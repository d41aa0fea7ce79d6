"""A linear map to fewer dimensions that keeps what queries can tell apart.

Text queries lie elsewhere than images (the modality gap), so a map that keeps the variance of the
images keeps the wrong dimensions. Wanted are A and B, dim x m, so that (qA).(xB) is near q.x for
the queries q that come and the images x that are there. The mean of the squared difference is least
if A B^T is the truncated singular value decomposition of S C^(1/2), with S^2 the second moment of
the queries and C the covariance of the images. This is the objective of LeanVec-OOD (Tepper et al.,
"LeanVec: Searching vectors faster by making them fit", arXiv 2312.16335) with maps that need not be
orthonormal, which has a closed solution. What all images have in common, their mean, does not
change an order and is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors
from mmsearch.core.vectors import as_float32

IMAGE_SHARE = 0.1
"""How much of the queries' second moment is that of images: pictures are asked for, too."""

FLOOR = 0.02
"""Of the mean eigenvalue, added to all: what no training query asked for may still be asked for."""


@dataclass(frozen=True)
class QueryMap:
    """Maps for queries and for rows.

    Attributes:
        queries: float32 (dim, m).
        rows: float32 (dim, m).
        mean: float32 (dim,), taken from rows first.
    """

    queries: NDArray[np.float32]
    rows: NDArray[np.float32]
    mean: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Columns after the map."""
        return int(self.rows.shape[1])

    def of_queries(self, queries: Vectors) -> NDArray[np.float32]:
        """(q, dim) -> float32 (q, m)."""
        return np.ascontiguousarray(queries @ self.queries)

    def of_rows(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, dim) -> float32 (n, m)."""
        return np.ascontiguousarray((as_float32(rows) - self.mean) @ self.rows)

    def first(self, dims: int) -> QueryMap:
        """The best map to fewer dimensions: they stand in the order of what they tell."""
        return QueryMap(self.queries[:, :dims], self.rows[:, :dims], self.mean)


def learn_map(queries: Vectors, sample: NDArray[np.float32]) -> QueryMap:
    """The map that keeps all dimensions, most telling first; see `QueryMap.first`.

    Args:
        queries: (q, dim), such as will be asked.
        sample: (n, dim) of the rows that will be searched.
    """
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean.astype(np.float32)
    spread = (centred.T @ centred).astype(np.float64) / len(sample)
    asked = (queries.T @ queries).astype(np.float64) / max(len(queries), 1)
    moment = (1 - IMAGE_SHARE) * asked + IMAGE_SHARE * (spread + np.outer(mean, mean))
    values, vectors = np.linalg.eigh(moment)
    values = values + FLOOR * values.mean()
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse = (vectors / np.sqrt(values)) @ vectors.T
    told, basis = np.linalg.eigh(root @ spread @ root)
    basis = basis[:, np.argsort(-told)]
    return QueryMap(
        (inverse @ basis).astype(np.float32),
        (root @ basis).astype(np.float32),
        mean.astype(np.float32),
    )
