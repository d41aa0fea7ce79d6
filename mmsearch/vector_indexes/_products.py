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

FEWEST = 12
"""From so many queries on, this is faster than a scan."""

BLOCK_BYTES = 4_000_000
"""Of unpacked rows and their products: few enough to stay in the cache, enough for BLAS."""


def best_by_products(
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
    block = max(1, BLOCK_BYTES // (4 * (queries.shape[1] + len(queries))))
    unpacked = np.empty((min(block, total), queries.shape[1]), dtype=np.float32)
    products, best = _products_with(queries), faiss.ResultHeap(len(queries), count, keep_max=True)
    for start in range(0, total, block):
        part = slice(start, start + block) if allowed is None else allowed[start : start + block]
        scores = np.ascontiguousarray(products.apply(as_float32(rows[part], unpacked)).T)
        best.heaps.addn(scores.shape[1], faiss.swig_ptr(scores), start)
    best.finalize()
    return best.D, best.I if allowed is None else allowed[best.I]


def _products_with(queries: Vectors) -> faiss.LinearTransform:
    """Rows times queries, by FAISS: numpy takes more threads than its caller may want."""
    count, dim = queries.shape
    transform = faiss.LinearTransform(dim, count, False)
    faiss.copy_array_to_vector(queries.ravel(), transform.A)
    transform.is_trained = True
    return transform
