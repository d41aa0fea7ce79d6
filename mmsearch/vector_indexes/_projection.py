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

IMAGE_MOMENT_WEIGHT = 0.1
"""How much of the queries' second moment is that of images: pictures are asked for, too."""

EIGENVALUE_FLOOR = 0.02
"""Of the mean eigenvalue, added to all: what no training query asked for may still be asked for."""


@dataclass(frozen=True)
class QueryAwareProjection:
    """Maps for queries and for rows.

    Attributes:
        query_matrix: float32 (dim, m).
        row_matrix: float32 (dim, m).
        mean: float32 (dim,), taken from rows first.
    """

    query_matrix: NDArray[np.float32]
    row_matrix: NDArray[np.float32]
    mean: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Columns after the map."""
        return int(self.row_matrix.shape[1])

    def project_queries(self, queries: Vectors) -> NDArray[np.float32]:
        """(q, dim) -> float32 (q, m)."""
        return np.ascontiguousarray(queries @ self.query_matrix)

    def project_rows(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """(n, dim) -> float32 (n, m)."""
        return np.ascontiguousarray((as_float32(rows) - self.mean) @ self.row_matrix)

    def truncate(self, dims: int) -> QueryAwareProjection:
        """The best map to fewer dimensions: they stand in the order of what they tell."""
        return QueryAwareProjection(
            self.query_matrix[:, :dims], self.row_matrix[:, :dims], self.mean
        )


def fit_projection(queries: Vectors, sample: NDArray[np.float32]) -> QueryAwareProjection:
    """The map that keeps all dimensions, most telling first; see `QueryAwareProjection.truncate`.

    Args:
        queries: (q, dim), such as will be asked.
        sample: (n, dim) of the rows that will be searched.
    """
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(sample)
    query_moment = (queries.T @ queries).astype(np.float64) / max(len(queries), 1)
    second_moment = (1 - IMAGE_MOMENT_WEIGHT) * query_moment + IMAGE_MOMENT_WEIGHT * (
        covariance + np.outer(mean, mean)
    )
    values, vectors = np.linalg.eigh(second_moment)
    values = values + EIGENVALUE_FLOOR * values.mean()
    root = (vectors * np.sqrt(values)) @ vectors.T
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    strengths, basis = np.linalg.eigh(root @ covariance @ root)
    basis = basis[:, np.argsort(-strengths)]
    return QueryAwareProjection(
        (inverse_root @ basis).astype(np.float32),
        (root @ basis).astype(np.float32),
        mean.astype(np.float32),
    )
