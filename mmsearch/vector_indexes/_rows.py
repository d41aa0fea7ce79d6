"""Float16 rows in memory or mapped from a file, and exact search among them.

A scan proposes, and the order is settled by `core.ordering` on the same rows: a scan knows scores
up to rounding only, and breaks ties as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.ordering import (
    MATMUL_ERROR,
    exact_top_k,
    find_positions,
    row_scores,
    stack,
    top_k,
)
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vectors import as_float32
from mmsearch.vector_indexes._scan import ParallelScan, ScoredPositions, fp16_view
from mmsearch.vector_indexes._threads import limit_omp_threads

RowPositions = NDArray[np.int64]
"""int64 (n,): positions of rows, in the order in which they are stored."""

CandidateFn = Callable[[RowPositions, int], ScoredPositions]
"""Numbers of queries and a count -> float32 (q, count) scores and int64 (q, count) places of the
best rows, padded with -1."""

MAX_GATHER_FRACTION = 0.03
"""Below this share of allowed rows, gathering them beats a scan that skips the others."""

OVERFETCH = 32
"""Neighbours fetched beyond k, so that those whose scores differ by rounding can be settled."""

MAX_QUERIES_PER_BATCH = 1000
"""Queries that are looked for at once: what is found for them must fit into memory. No power of
two: columns of products would share few lines of the cache, and take long to be turned."""


class StoredRows:
    """Rows and their ids, in any order.

    Args:
        ids: int64 (n,), each once.
        rows: float16 (n, dim), C-order; must outlive this object.
        check: Called with the places of rows before they are used; with None for all.

    Attributes:
        ids: Ascending.
        row_ids: As given.
        rows: As given.
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
        """How many rows there are."""
        return len(self.ids)

    def find_positions(self, allowed: Ids | None) -> RowPositions | None:
        """Where the allowed rows lie; None if all are allowed."""
        if allowed is None:
            return None
        matches = find_positions(self.ids, allowed)
        if len(matches) == len(self.ids):
            return None
        return matches if self._order is None else np.sort(self._order[matches])

    def vectors(self, ids: Ids) -> Vectors:
        """float32 (n, dim): the rows of ids, each of which it holds, in their order."""
        positions = np.searchsorted(self.ids, ids)
        if self._order is not None:
            positions = self._order[positions]
        self.check(positions)
        return as_float32(self.rows[positions])

    def search(self, queries: Vectors, k: int, positions: RowPositions | None) -> Ranking:
        """The k best rows for each query, exactly; all rows must have been checked.

        Args:
            queries: (q, dim).
            k: Length of the answer.
            positions: Only these rows; None: all.
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
        """The k best of a few rows for each query, exactly."""
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
        """The k best of what is proposed, in the one order that `core.ordering` knows.

        Args:
            queries: (q, dim).
            k: Length of the answer.
            propose: Called again, for a larger count, where equal scores could be cut off.
            num_available: Rows that can be proposed.
            max_fetch: The largest count that ``propose`` takes.
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
        """The best ``count`` of each query's candidates by their rows.

        Args:
            queries: (q, dim).
            candidates: int64 (q, c), places of rows, padded with -1.
            count: At most c.

        Returns:
            float32 (q, count) scores and int64 (q, count) places, padded with -inf and -1.
        """
        self.check(np.unique(candidates[candidates >= 0]))
        scores = np.full((len(queries), count), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), count), -1, dtype=np.int64)
        with limit_omp_threads(1):
            for number, query in enumerate(queries):
                valid_candidates = candidates[number][candidates[number] >= 0]
                # FAISS scores float16 rows several times as fast as they are unpacked.
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
    """Proposals of a search that takes only so many queries in one call."""

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
    """How to get more rows for one query than were proposed first."""

    propose: CandidateFn
    query_numbers: RowPositions
    num_available: int
    max_candidates: int

    def fetch_more(self, count: int) -> tuple[NDArray[np.float32], RowPositions]:
        scores, positions = self.propose(self.query_numbers, min(count, self.max_candidates))
        return scores[0], positions[0]


def _is_complete(scores: NDArray[np.float32], k: int, num_available: int) -> bool:
    """Whether no row that was not proposed can be among the k best."""
    count = len(scores)
    return count >= num_available or (count > k and bool(scores[-1] < scores[k - 1] - MATMUL_ERROR))
