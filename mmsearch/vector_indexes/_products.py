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
"""Of unpacked rows: few enough to stay in the cache, and many enough for a matrix product."""


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
    block = max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    unpacked = np.empty((min(block, total), queries.shape[1]), dtype=np.float32)
    products, found = _products_with(queries), _Best(len(queries), count)
    for start in range(0, total, block):
        part = slice(start, start + block) if allowed is None else allowed[start : start + block]
        found.add(products.apply(as_float32(rows[part], unpacked)), start)
    scores, places = found.ranked()
    return scores, places if allowed is None else allowed[places]


def _products_with(queries: Vectors) -> faiss.LinearTransform:
    """Rows times queries, by FAISS: numpy takes more threads than its caller may want."""
    count, dim = queries.shape
    transform = faiss.LinearTransform(dim, count, False)
    faiss.copy_array_to_vector(queries.ravel(), transform.A)
    transform.is_trained = True
    return transform


class _Best:
    """The best rows of each query among those that were seen."""

    def __init__(self, queries: int, count: int) -> None:
        self._count = count
        self._floor = np.full(queries, -np.inf, dtype=np.float32)
        self._query = np.empty(0, dtype=np.int64)
        self._score = np.empty(0, dtype=np.float32)
        self._place = np.empty(0, dtype=np.int64)
        self._news: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []

    def add(self, scores: NDArray[np.float32], start: int) -> None:
        """Look at a block of rows.

        Args:
            scores: (n, q).
            start: Place of its first row.
        """
        if not start and self._count < len(scores):
            cut = len(scores) - self._count
            self._floor = np.partition(scores.T.copy(), cut)[:, cut]
        # Several times as fast as nonzero() of a matrix.
        found = np.flatnonzero(scores >= self._floor)
        row, query = np.divmod(found, len(self._floor))
        self._news.append((query, scores.ravel()[found], row + start))
        if sum(len(new[0]) for new in self._news) > 2 * self._count * len(self._floor):
            self._settle()

    def ranked(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(q, count) scores and places, best first."""
        self._settle()
        shape = (len(self._floor), self._count)
        return self._score.reshape(shape), self._place.reshape(shape)

    def _settle(self) -> None:
        kept = (self._query, self._score, self._place)
        query, score, place = (
            np.concatenate(parts) for parts in zip(kept, *self._news, strict=True)
        )
        self._news.clear()
        order = np.lexsort((-score, query))
        query = query[order]
        begins = np.searchsorted(query, np.arange(len(self._floor)))
        best = np.arange(len(query)) - begins[query] < self._count
        kept_rows = order[best]
        self._query, self._score, self._place = query[best], score[kept_rows], place[kept_rows]
        if len(self._query) == self._count * len(self._floor):
            self._floor = self._score.reshape(-1, self._count)[:, -1].copy()
