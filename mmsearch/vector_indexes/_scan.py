"""Exact search among many float16 rows, in which each thread searches a part of the rows.

FAISS reads the rows in place (IndexScalarQuantizer, QT_fp16, over a view): half the memory traffic
of float32, and no copy. Large batches of queries are compared by matrix products (`_gemm`).
See https://github.com/facebookresearch/faiss/wiki/Faiss-indexes.

The threads are not OpenMP's. Those are split by query, of which there may be only one, and spin for
milliseconds when they have no work left.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.threads import available_cpus, parallel_map
from mmsearch.core.types import Vectors
from mmsearch.vector_indexes._gemm import MIN_QUERIES_FOR_GEMM, gemm_top_k
from mmsearch.vector_indexes._threads import limit_omp_threads

MIN_BYTES_PER_PART = 32_000_000
"""Minimum bytes of rows per thread. A scan of them takes about a millisecond for one query."""

QUERIES_PER_PASS = 4
"""Number of queries in a batch that together take as long as a single query alone."""

ScoredPositions = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores, float32 (q, count), and positions, int64 (q, count), best first."""


class ParallelScan:
    """A full scan of rows that uses at most as many threads as OpenMP may use for the caller.

    Args:
        rows: The rows, float16 (n, dim), C-order; kept alive by this object.
    """

    def __init__(self, rows: NDArray[np.float16]) -> None:
        self._rows = rows
        self._partitions: dict[int, list[_RowRange]] = {}

    def top_k(
        self, queries: Vectors, count: int, allowed: NDArray[np.int64] | None = None
    ) -> ScoredPositions:
        """Return the best rows for each query, up to rounding.

        Args:
            queries: The queries, float32 (q, dim).
            count: Number of rows per query; at most the number of rows that may be found.
            allowed: Ascending positions of the rows that may be found, int64 (m,); None allows all.
        """
        search = partial(_RowRange.top_k, queries=queries, count=count, allowed=allowed)
        return merge_top_k(parallel_map(search, self._partition(len(queries))), count)

    def _partition(self, num_queries: int) -> list[_RowRange]:
        max_threads = min(available_cpus(), faiss.omp_get_max_threads(), len(self._rows))
        useful_threads = (
            max(1, num_queries // QUERIES_PER_PASS) * self._rows.nbytes // MIN_BYTES_PER_PART
        )
        num_parts = max(1, min(max_threads, useful_threads))
        if num_parts not in self._partitions:
            bounds = np.linspace(0, len(self._rows), num_parts + 1).astype(int).tolist()
            self._partitions[num_parts] = [
                _RowRange(self._rows[start:end], start) for start, end in pairwise(bounds)
            ]
        return self._partitions[num_parts]


class _RowRange:
    def __init__(self, rows: NDArray[np.float16], start: int) -> None:
        self._rows = rows
        self._start = start
        self._flat = fp16_view(rows)

    def top_k(
        self, queries: Vectors, count: int, allowed: NDArray[np.int64] | None
    ) -> ScoredPositions:
        local_positions = None if allowed is None else self._to_local_positions(allowed)
        count = min(count, len(self._rows) if local_positions is None else len(local_positions))
        with limit_omp_threads(1):
            if not count:
                scores, positions = (np.empty((len(queries), 0), t) for t in (np.float32, np.int64))
            elif len(queries) >= MIN_QUERIES_FOR_GEMM:
                scores, positions = gemm_top_k(self._rows, queries, count, local_positions)
            else:
                scores, positions = self._flat.search(
                    queries, count, params=self._make_search_params(local_positions)
                )
        return scores, positions + self._start

    def _to_local_positions(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        first, end = np.searchsorted(positions, (self._start, self._start + len(self._rows)))
        return positions[first:end] - self._start

    def _make_search_params(
        self, local_positions: NDArray[np.int64] | None
    ) -> faiss.SearchParameters | None:
        if local_positions is None:
            return None
        is_allowed = np.zeros(len(self._rows), dtype=bool)
        is_allowed[local_positions] = True
        selector = faiss.IDSelectorBitmap(np.packbits(is_allowed, bitorder="little"))
        return faiss.SearchParameters(sel=selector)


def merge_top_k(results: list[ScoredPositions], count: int) -> ScoredPositions:
    """Merge the results of the same queries on different rows."""
    if len(results) == 1:
        return results[0]
    scores, positions = (np.concatenate(parts, axis=1) for parts in zip(*results, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def fp16_view(rows: NDArray[np.float16]) -> Any:
    """Return a FAISS index that reads the rows in place and does not keep them alive."""
    flat = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    if len(rows):
        codes = rows.view(np.uint8).reshape(-1)
        no_owner = faiss.MaybeOwnedVectorUInt8().owner
        flat.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(codes), codes.size, no_owner
        )
        flat.ntotal = len(rows)
    return flat
