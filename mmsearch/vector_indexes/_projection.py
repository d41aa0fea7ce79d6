"""Query-aware linear dimensionality reduction.

Text embeddings lie in another region than image embeddings (the modality gap), so a projection that
preserves the variance of the images keeps the wrong dimensions. This module finds A and B, dim x m,
such that (qA).(xB) is close to q.x for the expected queries q and the stored images x. The mean
squared difference is minimal if A B^T follows from the truncated singular value decomposition of
S C^(1/2), with S^2 the second moment of the queries and C the covariance of the images. This is the
objective of LeanVec-OOD (Tepper et al., "LeanVec: Searching vectors faster by making them fit",
arXiv 2312.16335) with matrices that need not be orthonormal, which has a closed-form solution. The
mean of the images does not affect the order of the results and is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors
from mmsearch.core.vectors import as_float32

IMAGE_MOMENT_WEIGHT = 0.1
"""Weight of the images in the second moment of the queries, because images are queries, too."""

EIGENVALUE_FLOOR = 0.02
"""Share of the mean eigenvalue added to every eigenvalue, so that directions that no training query
uses are not lost."""


@dataclass(frozen=True)
class QueryAwareProjection:
    """A pair of linear projections, one for queries and one for rows.

    Attributes:
        query_matrix: Projection of queries, float32 (dim, m).
        row_matrix: Projection of rows, float32 (dim, m).
        mean: Mean of the rows, float32 (dim,), subtracted from a row before it is projected.
    """

    query_matrix: NDArray[np.float32]
    row_matrix: NDArray[np.float32]
    mean: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Number of dimensions after the projection."""
        return int(self.row_matrix.shape[1])

    def project_queries(self, queries: Vectors) -> NDArray[np.float32]:
        """Project queries, (q, dim), to float32 (q, m)."""
        return np.ascontiguousarray(queries @ self.query_matrix)

    def project_rows(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Project rows, (n, dim), to float32 (n, m)."""
        return np.ascontiguousarray((as_float32(rows) - self.mean) @ self.row_matrix)

    def truncate(self, dims: int) -> QueryAwareProjection:
        """Return the best projection to ``dims`` dimensions; dimensions are sorted by strength."""
        return QueryAwareProjection(
            self.query_matrix[:, :dims], self.row_matrix[:, :dims], self.mean
        )


def fit_projection(queries: Vectors, sample: NDArray[np.float32]) -> QueryAwareProjection:
    """Fit a projection that keeps all dimensions, strongest first.

    `QueryAwareProjection.truncate` reduces it to fewer dimensions.

    Args:
        queries: Queries like those to expect, (q, dim).
        sample: Sample of the rows to search, (n, dim).
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
