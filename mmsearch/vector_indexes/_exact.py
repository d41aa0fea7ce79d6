"""Exact search among float16 rows, in memory or mapped from a file.

A scan finds candidates, and `core.vectors` then ranks them by the same rows. The scores of a scan
are exact only up to rounding, and it breaks ties arbitrarily.

FAISS reads the rows in place (IndexScalarQuantizer, QT_fp16, over a view): half the memory traffic
of float32, and no copy. Among 200,000 rows of 512 columns, a query takes 6.5 ms of processor time,
and with FAISS's IndexFlatIP 14.5 ms (benchmarks/RESULTS.md). Large batches of queries are compared
by matrix products. See https://github.com/facebookresearch/faiss/wiki/Faiss-indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.threads import available_cpus, parallel_map
from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vectors import (
    MATMUL_ERROR,
    as_float32,
    check_unit_vectors,
    exact_top_k,
    find_positions,
    row_scores,
    stack,
    top_k,
)
from mmsearch.storage.arrays import ChecksummedArrays, ChecksummedArraysWriter

RowPositions = NDArray[np.int64]
"""Positions of rows in storage order, int64 (n,)."""

ScoredPositions = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores, float32 (q, count), and positions, int64 (q, count), best first, padded with -1."""

CandidateFn = Callable[[RowPositions, int], ScoredPositions]
"""Function of query numbers and a count that returns the best rows of these queries."""

MAX_GATHER_FRACTION = 0.03
"""Maximum share of allowed rows for which gathering them is faster than a scan that skips the
others."""

OVERFETCH = 32
"""Neighbours fetched beyond k, so that scores that differ by rounding can be ranked exactly."""

MAX_QUERIES_PER_BATCH = 1000
"""Maximum number of queries searched at once, because their results must fit into memory. With a
power of two, the columns of products would map to few cache lines and the transpose would be
slow."""

MIN_BYTES_PER_PART = 32_000_000
"""Minimum bytes of rows per thread. A scan of them takes about a millisecond for one query."""

QUERIES_PER_PASS = 4
"""Number of queries in a batch that together take as long as a single query alone."""

MIN_QUERIES_FOR_GEMM = 12
"""Minimum number of queries for which a matrix product is faster than a scan. It takes 0.7 times
the processor time for 12 queries, and 0.27 times for 256."""

BLOCK_BYTES = 4_000_000
"""Size of a block of unpacked rows and their products, in bytes: small enough to stay in the cache,
large enough for BLAS to be efficient."""


class StoredRows:
    """Rows and their ids, in any order.

    Args:
        ids: Unique ids of the rows, int64 (n,).
        rows: The rows, float16 (n, dim), C-order.
        check: Called with the positions of rows before they are used, or with None for all rows.

    Attributes:
        ids: The ids in ascending order.
        row_ids: The ids in the order of ``rows``.
        rows: The rows as given.
    """

    def __init__(
        self,
        ids: Ids,
        rows: NDArray[np.float16],
        check: Callable[[RowPositions | None], None] = lambda positions: None,
    ) -> None:
        self.rows = rows
        self.check = check
        self.row_ids = ids
        self._order: RowPositions | None = None
        self.ids = ids
        if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
            self._order = np.argsort(ids, kind="stable")
            self.ids = ids[self._order]
        self._partitions: dict[int, list[_RowRange]] = {}

    @classmethod
    def collect(cls, dim: int, blocks: Iterable[tuple[Ids, Vectors]]) -> StoredRows:
        """Collect blocks of vectors in memory."""
        ids, rows = [np.empty(0, dtype=np.int64)], [np.empty((0, dim), dtype=np.float16)]
        for block_ids, vectors in blocks:
            ids.append(np.asarray(block_ids, dtype=np.int64))
            rows.append(check_unit_vectors(vectors, dim).astype(np.float16))
        return cls(np.concatenate(ids), np.concatenate(rows))

    @classmethod
    def read(
        cls, file: ChecksummedArrays, spec: IndexSpec, path: Path, *, verify_all: bool
    ) -> StoredRows:
        """Return the rows and ids of a file, mapped.

        Args:
            file: The open file.
            spec: Index specification that the file must match.
            path: Path of the file, for error messages.
            verify_all: Verify the checksums of all rows now instead of each when it is read.

        Raises:
            DamagedFileError: The file is damaged or belongs to another index.
        """
        if file.metadata.get("plugin") != spec.name or file.metadata.get("dim") != spec.dim:
            raise DamagedFileError(f"{path} is not a {spec.name} index of {spec.dim} columns.")
        ids = file.array("ids")
        if verify_all:
            return cls(ids, file.array("rows"))

        def check(positions: RowPositions | None) -> None:
            if positions is None:
                file.array("rows")
            else:
                file.verify_rows("rows", positions)

        return cls(ids, file.array_unverified("rows"), check)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def find_positions(self, allowed: Ids | None) -> RowPositions | None:
        """Return the positions of the allowed rows, or None if all rows are allowed."""
        if allowed is None:
            return None
        matches = find_positions(self.ids, allowed)
        if len(matches) == len(self.ids):
            return None
        return matches if self._order is None else np.sort(self._order[matches])

    def vectors(self, ids: Ids) -> Vectors:
        """Return the rows of ``ids``, float32 (n, dim), in the same order; every id must exist."""
        positions = np.searchsorted(self.ids, ids)
        if self._order is not None:
            positions = self._order[positions]
        self.check(positions)
        return as_float32(self.rows[positions])

    def search(self, queries: Vectors, k: int, positions: RowPositions | None) -> Ranking:
        """Return the exact k best rows for each query; all rows must have been checked.

        Args:
            queries: The queries, (q, dim).
            k: Number of results per query.
            positions: Positions of the rows to search; None searches all rows.
        """
        if positions is not None and len(positions) < MAX_GATHER_FRACTION * len(self):
            return self.search_subset(queries, k, positions)
        return self.top_k_from_candidates(
            queries,
            k,
            lambda numbers, count: self.scan(queries[numbers], count, positions),
            len(self) if positions is None else len(positions),
        )

    def search_subset(self, queries: Vectors, k: int, positions: RowPositions) -> Ranking:
        """Return the exact k best of a few rows for each query."""
        self.check(positions)
        subset = StoredRows(self.row_ids[positions], self.rows[positions])
        return subset.search(queries, k, None)

    def top_k_from_candidates(
        self,
        queries: Vectors,
        k: int,
        propose: CandidateFn,
        num_available: int,
        max_fetch: int | None = None,
        batch_size: int = MAX_QUERIES_PER_BATCH,
    ) -> Ranking:
        """Return the k best candidates for each query, in the order that `core.vectors` defines.

        Args:
            queries: The queries, (q, dim).
            k: Number of results per query.
            propose: Returns candidates. It is called again with a larger count where equal scores
                could be cut off.
            num_available: Number of rows that ``propose`` can return.
            max_fetch: Largest count that ``propose`` accepts; None if there is no limit.
            batch_size: Largest number of queries that ``propose`` accepts.
        """
        max_candidates = num_available if max_fetch is None else min(num_available, max_fetch)
        count = min(max_candidates, k + OVERFETCH)
        if not count:
            return stack([top_k(self.ids[:0], np.empty(0, np.float32), k)] * len(queries), k)
        rankings: list[tuple[Ids, NDArray[np.float32]]] = []
        for start in range(0, len(queries), batch_size):
            numbers = np.arange(start, min(start + batch_size, len(queries)))
            all_scores, all_positions = propose(numbers, count)
            for number in numbers.tolist():
                query = queries[number]
                scores, positions = all_scores[number - start], all_positions[number - start]
                while not _is_complete(scores, k, num_available) and len(scores) < max_candidates:
                    more = min(4 * len(scores), max_candidates)
                    (scores,), (positions,) = propose(np.array([number]), more)
                if not _is_complete(scores, k, num_available):
                    rankings.append(exact_top_k(self.row_ids, self.rows, query, k))
                    continue
                is_valid = positions >= 0
                positions, scores = positions[is_valid], scores[is_valid]
                if len(scores) > k:
                    positions = positions[scores >= scores[k - 1] - MATMUL_ERROR]
                exact_scores = row_scores(self.rows[positions], query)
                rankings.append(top_k(self.row_ids[positions], exact_scores, k))
        return stack(rankings, k)

    def refine(
        self, queries: Vectors, candidates: NDArray[np.int64], count: int
    ) -> ScoredPositions:
        """Return the best ``count`` candidates of each query, scored by the stored rows.

        Args:
            queries: The queries, (q, dim).
            candidates: Positions of rows, int64 (q, c), padded with -1.
            count: Number of rows per query, at most c.

        Returns:
            Scores, padded with -inf, and positions.
        """
        self.check(np.unique(candidates[candidates >= 0]))
        scores = np.full((len(queries), count), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), count), -1, dtype=np.int64)
        with limit_omp_threads(1):
            for number, query in enumerate(queries):
                valid = candidates[number][candidates[number] >= 0]
                found = min(count, len(valid))
                # FAISS scores float16 rows several times faster than numpy can unpack them.
                gathered = self.rows[valid]
                best_scores, order = _fp16_view(gathered).search(query[None], found)
                scores[number, :found], positions[number, :found] = best_scores[0], valid[order[0]]
        return scores, positions

    def scan(self, queries: Vectors, count: int, allowed: RowPositions | None) -> ScoredPositions:
        """Compare queries with all rows and return the best, up to rounding.

        At most as many threads work as OpenMP may use for the caller. They are not OpenMP's, which
        are split by query, of which there may be only one.

        Args:
            queries: The queries, float32 (q, dim).
            count: Number of rows per query; at most the number of rows that may be found.
            allowed: Ascending positions of the rows that may be found; None allows all.
        """
        parts = self._partition(len(queries))
        if len(parts) == 1:
            return parts[0].top_k(queries, count, allowed)
        found = parallel_map(lambda part: part.top_k(queries, count, allowed), parts)
        scores, positions = (np.concatenate(values, axis=1) for values in zip(*found, strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return (
            np.take_along_axis(scores, order, axis=1),
            np.take_along_axis(positions, order, axis=1),
        )

    def _partition(self, num_queries: int) -> list[_RowRange]:
        """Return the parts of the rows, one for each thread that has enough work."""
        passes = max(1, num_queries // QUERIES_PER_PASS)
        num_parts = min(passes * self.rows.nbytes // MIN_BYTES_PER_PART, len(self))
        if num_parts > 1:
            num_parts = min(num_parts, available_cpus(), faiss.omp_get_max_threads())
        num_parts = max(1, num_parts)
        if num_parts not in self._partitions:
            bounds = np.linspace(0, len(self), num_parts + 1).astype(int).tolist()
            self._partitions[num_parts] = [
                _RowRange(self.rows[start:end], start) for start, end in pairwise(bounds)
            ]
        return self._partitions[num_parts]


class _RowRange:
    """A part of the rows, which one thread scans."""

    def __init__(self, rows: NDArray[np.float16], start: int) -> None:
        self._rows = rows
        self._start = start
        self._flat = _fp16_view(rows)

    def top_k(self, queries: Vectors, count: int, allowed: RowPositions | None) -> ScoredPositions:
        if allowed is not None:
            first, end = np.searchsorted(allowed, (self._start, self._start + len(self._rows)))
            allowed = allowed[first:end] - self._start
        count = min(count, len(self._rows) if allowed is None else len(allowed))
        if not count:
            shape = (len(queries), 0)
            return np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int64)
        with limit_omp_threads(1):
            if len(queries) >= MIN_QUERIES_FOR_GEMM:
                scores, positions = gemm_top_k(self._rows, queries, count, allowed)
            else:
                parameters = None
                if allowed is not None:
                    is_allowed = np.zeros(len(self._rows), dtype=bool)
                    is_allowed[allowed] = True
                    selector = faiss.IDSelectorBitmap(np.packbits(is_allowed, bitorder="little"))
                    parameters = faiss.SearchParameters(sel=selector)
                scores, positions = self._flat.search(queries, count, params=parameters)
        return scores, positions + self._start


def gemm_top_k(
    rows: NDArray[np.float16], queries: Vectors, count: int, allowed: RowPositions | None = None
) -> ScoredPositions:
    """Return the best rows for each query, up to rounding, computed in the calling thread.

    A scan unpacks each row again for each query, and each of its sums waits for the last one. Here
    a block of rows is unpacked once, into the CPU cache, and multiplied by all queries.

    Args:
        rows: The rows, float16 (n, dim), finite.
        queries: The queries, float32 (q, dim).
        count: Number of rows per query: at least 1, at most the number of allowed rows.
        allowed: Positions of the rows that may be found, int64 (m,); None allows all.
    """
    num_queries, dim = queries.shape
    total = len(rows) if allowed is None else len(allowed)
    block_rows = max(1, BLOCK_BYTES // (4 * (dim + num_queries)))
    unpacked = np.empty((min(block_rows, total), dim), dtype=np.float32)
    # FAISS multiplies in the calling thread; numpy may use more threads than the caller wants.
    product = faiss.LinearTransform(dim, num_queries, False)
    faiss.copy_array_to_vector(queries.ravel(), product.A)
    product.is_trained = True
    heap = faiss.ResultHeap(num_queries, count, keep_max=True)
    for start in range(0, total, block_rows):
        block = slice(start, start + block_rows)
        selected = rows[block if allowed is None else allowed[block]]
        scores = np.ascontiguousarray(product.apply(as_float32(selected, unpacked)).T)
        heap.heaps.addn(scores.shape[1], faiss.swig_ptr(scores), start)
    heap.finalize()
    return heap.D, heap.I if allowed is None else allowed[heap.I]


def append_rows(
    arrays: ChecksummedArraysWriter, dim: int, blocks: Iterable[tuple[Ids, Vectors]]
) -> Ids:
    """Write blocks of vectors as they arrive and return their ids.

    The caller must write the ids to the same file, because `StoredRows.read` needs them.
    """
    ids = [np.empty(0, dtype=np.int64)]
    arrays.append("rows", np.empty((0, dim), dtype=np.float16))
    for block_ids, vectors in blocks:
        arrays.append("rows", check_unit_vectors(vectors, dim).astype(np.float16))
        ids.append(np.asarray(block_ids, dtype=np.int64))
    return np.concatenate(ids)


@contextmanager
def limit_omp_threads(threads: int) -> Iterator[None]:
    """Limit FAISS to at most ``threads`` threads, without raising the current limit.

    OpenMP's idle threads spin for milliseconds. On busy CPUs, a query among 2,000 rows takes 0.5 ms
    with one thread and 30 ms with two, and 0.6 instead of 11 ms of processor time. With
    OMP_WAIT_POLICY=PASSIVE or GOMP_SPINCOUNT=0, eight queries take 8 ms instead of 2.5 ms, and
    these settings count only if they are set before any library loads OpenMP.
    """
    # OpenMP stores this limit per calling thread.
    previous = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(threads, previous))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(previous)


def _is_complete(scores: NDArray[np.float32], k: int, num_available: int) -> bool:
    """Return True if the k best rows are certain to be among the candidates."""
    count = len(scores)
    return count >= num_available or (count > k and bool(scores[-1] < scores[k - 1] - MATMUL_ERROR))


def _fp16_view(rows: NDArray[np.float16]) -> Any:
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
