"""Inner products of many queries with float16 rows, by matrix products.

A scan by FAISS unpacks each row anew for each query, in a chain of sums that wait for each other.
Here a block of rows is unpacked once, into the processor's cache, and compared with all queries.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors
from mmsearch.core.vectors import as_float32

MIN_QUERIES_FOR_GEMM = 12
"""From so many queries on, this is faster than a scan."""

BLOCK_BYTES = 4_000_000
"""Of unpacked rows and their products: few enough to stay in the cache, enough for BLAS."""


def gemm_top_k(
    rows: NDArray[np.float16],
    queries: Vectors,
    count: int,
    allowed: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best rows of each query, up to rounding, in the calling thread.

    Args:
        rows: float16 (n, dim), finite.
        queries: float32 (q, dim).
        count: At least 1, and no more than there are rows that may be found.
        allowed: int64 (m,): places of those that may be found; None: all.

    Returns:
        float32 (q, count) scores and int64 (q, count) places, best first.
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
    """Rows times queries, by FAISS: numpy takes more threads than its caller may want."""
    count, dim = queries.shape
    transform = faiss.LinearTransform(dim, count, False)
    faiss.copy_array_to_vector(queries.ravel(), transform.A)
    transform.is_trained = True
    return transform
