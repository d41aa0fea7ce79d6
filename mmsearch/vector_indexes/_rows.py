"""Float16 rows in memory or mapped from a file, and exact search among them.

A scan finds candidates, and `core.vectors` then ranks them by the same rows. The scores of a scan
are exact only up to rounding, and it breaks ties arbitrarily.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vectors import (
    MATMUL_ERROR,
    as_float32,
    exact_top_k,
    find_positions,
    row_scores,
    stack,
    top_k,
)
from mmsearch.vector_indexes._scan import ParallelScan, ScoredPositions, fp16_view
from mmsearch.vector_indexes._threads import limit_omp_threads

RowPositions = NDArray[np.int64]
"""Positions of rows in storage order, int64 (n,)."""

CandidateFn = Callable[[RowPositions, int], ScoredPositions]
"""Function of query numbers and a count that returns the scores, float32 (q, count), and the
positions, int64 (q, count), of the best rows, padded with -1."""

MAX_GATHER_FRACTION = 0.03
"""Maximum share of allowed rows for which gathering them is faster than a scan that skips the
others."""

OVERFETCH = 32
"""Neighbours fetched beyond k, so that scores that differ by rounding can be ranked exactly."""

MAX_QUERIES_PER_BATCH = 1000
"""Maximum number of queries searched at once, because their results must fit into memory. With a
power of two, the columns of products would map to few cache lines and the transpose would be
slow."""


class StoredRows:
    """Rows and their ids, in any order.

    Args:
        ids: Unique ids of the rows, int64 (n,).
        rows: The rows, float16 (n, dim), C-order; must outlive this object.
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
        self._scan = ParallelScan(rows)

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
        propose = batched_search(
            partial(self._scan.top_k, allowed=positions), queries, MAX_QUERIES_PER_BATCH
        )
        return self.top_k_from_candidates(
            queries, k, propose, len(self) if positions is None else len(positions)
        )

    def search_subset(self, queries: Vectors, k: int, positions: RowPositions) -> Ranking:
        """Return the exact k best of a few rows for each query."""
        self.check(positions)
        scan = ParallelScan(self.rows[positions])

        def propose(query_numbers: RowPositions, count: int) -> ScoredPositions:
            scores, subset_positions = scan.top_k(queries[query_numbers], count)
            return scores, positions[subset_positions]

        return self.top_k_from_candidates(queries, k, propose, len(positions))

    def top_k_from_candidates(
        self,
        queries: Vectors,
        k: int,
        propose: CandidateFn,
        num_available: int,
        max_fetch: int | None = None,
    ) -> Ranking:
        """Return the k best candidates for each query, in the order that `core.vectors` defines.

        Args:
            queries: The queries, (q, dim).
            k: Number of results per query.
            propose: Returns candidates. It is called again with a larger count where equal scores
                could be cut off.
            num_available: Number of rows that ``propose`` can return.
            max_fetch: Largest count that ``propose`` accepts; None if there is no limit.
        """
        max_candidates = num_available if max_fetch is None else min(num_available, max_fetch)
        count = min(max_candidates, k + OVERFETCH)
        query_numbers = np.arange(len(queries))
        if not len(queries) or not count:
            return stack([top_k(self.ids[:0], np.empty(0, np.float32), k)] * len(queries), k)
        scores, positions = propose(query_numbers, count)
        return stack(
            [
                self._rank_one(
                    queries[number],
                    k,
                    _CandidateSource(
                        propose, query_numbers[number : number + 1], num_available, max_candidates
                    ),
                    scores[number],
                    positions[number],
                )
                for number in query_numbers
            ],
            k,
        )

    def refine(
        self, queries: Vectors, candidates: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the best ``count`` candidates of each query, scored by the stored rows.

        Args:
            queries: The queries, (q, dim).
            candidates: Positions of rows, int64 (q, c), padded with -1.
            count: Number of rows per query, at most c.

        Returns:
            Scores, float32 (q, count), padded with -inf, and positions, int64 (q, count), padded
            with -1.
        """
        self.check(np.unique(candidates[candidates >= 0]))
        scores = np.full((len(queries), count), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), count), -1, dtype=np.int64)
        with limit_omp_threads(1):
            for number, query in enumerate(queries):
                valid_candidates = candidates[number][candidates[number] >= 0]
                # FAISS scores float16 rows several times faster than numpy can unpack them.
                num_found = min(count, len(valid_candidates))
                gathered = self.rows[valid_candidates]
                best_scores, order = fp16_view(gathered).search(query[None], num_found)
                scores[number, :num_found], positions[number, :num_found] = (
                    best_scores[0],
                    valid_candidates[order[0]],
                )
        return scores, positions

    def _rank_one(
        self,
        query: NDArray[np.float32],
        k: int,
        source: _CandidateSource,
        scores: NDArray[np.float32],
        positions: RowPositions,
    ) -> tuple[Ids, NDArray[np.float32]]:
        while not _is_complete(scores, k, source.num_available):
            if len(scores) >= source.max_candidates:
                return exact_top_k(self.row_ids, self.rows, query, k)
            scores, positions = source.fetch_more(len(scores) * 4)
        is_valid = positions >= 0
        positions, scores = positions[is_valid], scores[is_valid]
        if len(scores) > k:
            positions = positions[scores >= scores[k - 1] - MATMUL_ERROR]
        return top_k(self.row_ids[positions], row_scores(self.rows[positions], query), k)


def batched_search(
    search: Callable[[Vectors, int], tuple[Any, Any]], queries: Vectors, batch_size: int
) -> CandidateFn:
    """Return a candidate function that calls ``search`` with at most ``batch_size`` queries."""

    def propose(query_numbers: RowPositions, count: int) -> tuple[Any, Any]:
        starts = range(0, len(query_numbers), batch_size)
        results = [
            search(queries[query_numbers[start : start + batch_size]], count) for start in starts
        ]
        scores, positions = zip(*results, strict=True)
        return np.concatenate(scores), np.concatenate(positions)

    return propose


@dataclass(frozen=True)
class _CandidateSource:
    """A source of more candidates for one query than the first call returned."""

    propose: CandidateFn
    query_numbers: RowPositions
    num_available: int
    max_candidates: int

    def fetch_more(self, count: int) -> tuple[NDArray[np.float32], RowPositions]:
        scores, positions = self.propose(self.query_numbers, min(count, self.max_candidates))
        return scores[0], positions[0]


def _is_complete(scores: NDArray[np.float32], k: int, num_available: int) -> bool:
    """Return True if the k best rows are certain to be among the candidates."""
    count = len(scores)
    return count >= num_available or (count > k and bool(scores[-1] < scores[k - 1] - MATMUL_ERROR))
