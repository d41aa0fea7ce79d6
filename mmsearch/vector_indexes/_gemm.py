"""Inner products of many queries with float16 rows, computed by matrix products.

A FAISS scan unpacks each row again for each query, and each of its sums waits for the last one.
This module unpacks a block of rows once, into the CPU cache, and compares it with all queries.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors
from mmsearch.core.vectors import as_float32

MIN_QUERIES_FOR_GEMM = 12
"""Minimum number of queries for which a matrix product is faster than a scan."""

BLOCK_BYTES = 4_000_000
"""Size of a block of unpacked rows and their products, in bytes: small enough to stay in the cache,
large enough for BLAS to be efficient."""


def gemm_top_k(
    rows: NDArray[np.float16],
    queries: Vectors,
    count: int,
    allowed: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the best rows for each query, up to rounding, computed in the calling thread.

    Args:
        rows: The rows, float16 (n, dim), finite.
        queries: The queries, float32 (q, dim).
        count: Number of rows per query: at least 1, at most the number of allowed rows.
        allowed: Positions of the rows that may be found, int64 (m,); None allows all.

    Returns:
        Scores, float32 (q, count), and positions, int64 (q, count), best first.
    """
    total = len(rows) if allowed is None else len(allowed)
    block_rows = max(1, BLOCK_BYTES // (4 * (queries.shape[1] + len(queries))))
    unpacked = np.empty((min(block_rows, total), queries.shape[1]), dtype=np.float32)
    transform, heap = (
        _make_product_transform(queries),
        faiss.ResultHeap(len(queries), count, keep_max=True),
    )
    for start in range(0, total, block_rows):
        selection = (
            slice(start, start + block_rows)
            if allowed is None
            else allowed[start : start + block_rows]
        )
        scores = np.ascontiguousarray(transform.apply(as_float32(rows[selection], unpacked)).T)
        heap.heaps.addn(scores.shape[1], faiss.swig_ptr(scores), start)
    heap.finalize()
    return heap.D, heap.I if allowed is None else allowed[heap.I]


def _make_product_transform(queries: Vectors) -> faiss.LinearTransform:
    """Return a FAISS transform that multiplies rows by queries.

    numpy may use more threads than the caller wants.
    """
    count, dim = queries.shape
    transform = faiss.LinearTransform(dim, count, False)
    faiss.copy_array_to_vector(queries.ravel(), transform.A)
    transform.is_trained = True
    return transform
