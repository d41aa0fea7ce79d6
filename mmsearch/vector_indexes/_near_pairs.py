"""Pairs of rows that are near each other: hashes by FAISS's multi-index hashing, vectors in cells.

Multi-index hashing (Norouzi et al., https://arxiv.org/abs/1307.2982) finds pairs of hashes up to a
distance. For pairs of vectors, k-means parts the rows into cells, and each row is compared
with those of its nearest cells, which hold nearly all rows of a high cosine with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Positions of the rows of pairs, int64 (n,) each."""

HASH_BITS = 64

MAX_FLAT_COMPARISONS = 2**31
"""Number of comparisons up to which comparing all costs less than tables of hashes."""

_TABLE_BITS = 16
_FLIPS = 1
"""Bits of each table's part of a hash that may differ: all hashes up to a distance of 7 bits are
found in four tables of 16 bits, and most up to 10. With two, tables take eight times as long."""

_BLOCK_QUERIES = 8192

MAX_CELL_ROWS = 4096
"""Maximum number of rows that are compared with each other at once."""

_CELL_ROWS = 512
_PROBES = 2
_TRAINING_ROWS_PER_CELL = 48
_KMEANS_ITERATIONS = 8


def hash_pairs(
    queries: NDArray[np.int64], hashes: NDArray[np.int64], distance: int
) -> Iterator[Pairs]:
    """Yield the pairs of a query and a hash that differ in at most ``distance`` bits.

    Of more than `MAX_FLAT_COMPARISONS` pairs, some that differ in more than 7 bits are missing.

    Args:
        queries: Hashes, int64 (q,).
        hashes: Other hashes, or the same, int64 (n,).
        distance: Maximum Hamming distance, in bits.

    Yields:
        Positions in ``queries``, and in ``hashes``, block by block.
    """
    if len(queries) * len(hashes) <= MAX_FLAT_COMPARISONS:
        index: faiss.IndexBinary = faiss.IndexBinaryFlat(HASH_BITS)
    else:
        index = faiss.IndexBinaryMultiHash(HASH_BITS, HASH_BITS // _TABLE_BITS, _TABLE_BITS)
        index.nflip = _FLIPS
    codes = _as_codes(hashes)
    index.add(codes)
    query_codes = _as_codes(queries)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = query_codes[start : start + _BLOCK_QUERIES]
        # FAISS's radius is exclusive.
        limits, _, found = index.range_search(block, distance + 1)
        counts = np.diff(limits.astype(np.int64))
        yield np.repeat(np.arange(start, start + len(block)), counts), found.astype(np.int64)


def _as_codes(hashes: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, HASH_BITS // 8)


def cell_pairs(
    count: int, read: Callable[[NDArray[np.int64]], Vectors], min_cosine: float
) -> Iterator[Pairs]:
    """Yield the pairs of rows of a cell that are near each other; one may occur more than once.

    Args:
        count: Number of rows.
        read: Returns the unit vectors of rows, float32 (n, dim), by their positions, int64 (n,).
        min_cosine: Least cosine of a pair.
    """
    for cell in _cells(count, read):
        for start in range(0, len(cell), MAX_CELL_ROWS):
            rows = cell[start : start + MAX_CELL_ROWS]
            vectors = read(rows)
            left, right = np.nonzero(vectors @ vectors.T >= min_cosine)
            once = left < right
            yield rows[left[once]], rows[right[once]]


def _cells(count: int, read: Callable[[NDArray[np.int64]], Vectors]) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of the rows of each cell, ascending; each row is in `_PROBES` of them."""
    num_cells = count // _CELL_ROWS
    if num_cells <= _PROBES:
        yield np.arange(count)
        return
    sample = np.linspace(0, count - 1, min(count, num_cells * _TRAINING_ROWS_PER_CELL))
    training = read(sample.astype(np.int64))
    kmeans = faiss.Kmeans(
        training.shape[1], num_cells, niter=_KMEANS_ITERATIONS, spherical=True, seed=1
    )
    kmeans.train(training)
    nearest = np.empty((count, _PROBES), dtype=np.int32)
    for start in range(0, count, _BLOCK_QUERIES):
        block = np.arange(start, min(start + _BLOCK_QUERIES, count))
        nearest[block] = kmeans.index.search(read(block), _PROBES)[1]
    order = np.argsort(nearest.reshape(-1), kind="stable")
    bounds = np.searchsorted(nearest.reshape(-1)[order], np.arange(num_cells + 1))
    for cell in range(num_cells):
        yield order[bounds[cell] : bounds[cell + 1]] // _PROBES
