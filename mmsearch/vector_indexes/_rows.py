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

from mmsearch.core.ordering import PRODUCT_ERROR, best, exhaustive, positions_of, row_scores, stack
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vectors import as_float32
from mmsearch.vector_indexes._scan import Found, Scan, over
from mmsearch.vector_indexes._threads import at_most

Places = NDArray[np.int64]
"""int64 (n,): positions of rows, in the order in which they are stored."""

Propose = Callable[[Places, int], Found]
"""Numbers of queries and a count -> float32 (q, count) scores and int64 (q, count) places of the
best rows, padded with -1."""

SUBSET_SHARE = 0.03
"""Below this share of allowed rows, gathering them beats a scan that skips the others."""

SPARE = 32
"""Neighbours fetched beyond k, so that those whose scores differ by rounding can be settled."""

QUERIES = 1000
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
        check: Callable[[Places | None], None] = lambda places: None,
    ) -> None:
        self.rows = rows
        self.check = check
        self.row_ids = ids
        self._order: Places | None = None
        self.ids = ids
        if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
            self._order = np.argsort(ids, kind="stable")
            self.ids = ids[self._order]
        self._scan = Scan(rows)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.ids)

    def places_of(self, allowed: Ids | None) -> Places | None:
        """Where the allowed rows lie; None if all are allowed."""
        if allowed is None:
            return None
        found = positions_of(self.ids, allowed)
        if len(found) == len(self.ids):
            return None
        return found if self._order is None else np.sort(self._order[found])

    def vectors(self, ids: Ids) -> Vectors:
        """float32 (n, dim): the rows of ids, each of which it holds, in their order."""
        places = np.searchsorted(self.ids, ids)
        if self._order is not None:
            places = self._order[places]
        self.check(places)
        return as_float32(self.rows[places])

    def search(self, queries: Vectors, k: int, places: Places | None) -> Ranking:
        """The k best rows for each query, exactly; all rows must have been checked.

        Args:
            queries: (q, dim).
            k: Length of the answer.
            places: Only these rows; None: all.
        """
        if places is not None and len(places) < SUBSET_SHARE * len(self):
            return self.among(queries, k, places)
        propose = in_blocks(partial(self._scan.best, allowed=places), queries, QUERIES)
        return self.settled(queries, k, propose, len(self) if places is None else len(places))

    def among(self, queries: Vectors, k: int, places: Places) -> Ranking:
        """The k best of a few rows for each query, exactly."""
        self.check(places)
        scan = Scan(self.rows[places])

        def propose(which: Places, count: int) -> Found:
            scores, found = scan.best(queries[which], count)
            return scores, places[found]

        return self.settled(queries, k, propose, len(places))

    def settled(
        self,
        queries: Vectors,
        k: int,
        propose: Propose,
        available: int,
        limit: int | None = None,
    ) -> Ranking:
        """The k best of what is proposed, in the one order that `core.ordering` knows.

        Args:
            queries: (q, dim).
            k: Length of the answer.
            propose: Called again, for a larger count, where equal scores could be cut off.
            available: Rows that can be proposed.
            limit: The largest count that ``propose`` takes.
        """
        most = available if limit is None else min(available, limit)
        count = min(most, k + SPARE)
        everyone = np.arange(len(queries))
        if not len(queries) or not count:
            return stack([best(self.ids[:0], np.empty(0, np.float32), k)] * len(queries), k)
        scores, places = propose(everyone, count)
        return stack(
            [
                self._settle(
                    queries[number],
                    k,
                    _Proposal(propose, everyone[number : number + 1], available, most),
                    scores[number],
                    places[number],
                )
                for number in everyone
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
        places = np.full((len(queries), count), -1, dtype=np.int64)
        with at_most(1):
            for number, query in enumerate(queries):
                own = candidates[number][candidates[number] >= 0]
                # FAISS scores float16 rows several times as fast as they are unpacked.
                found = min(count, len(own))
                gathered = self.rows[own]
                raw, order = over(gathered).search(query[None], found)
                scores[number, :found], places[number, :found] = raw[0], own[order[0]]
        return scores, places

    def _settle(
        self,
        query: NDArray[np.float32],
        k: int,
        proposal: _Proposal,
        scores: NDArray[np.float32],
        places: Places,
    ) -> tuple[Ids, NDArray[np.float32]]:
        while not _complete(scores, k, proposal.available):
            if len(scores) >= proposal.most:
                return exhaustive(self.row_ids, self.rows, query, k)
            scores, places = proposal.more(len(scores) * 4)
        real = places >= 0
        places, scores = places[real], scores[real]
        if len(scores) > k:
            places = places[scores >= scores[k - 1] - PRODUCT_ERROR]
        return best(self.row_ids[places], row_scores(self.rows[places], query), k)


def in_blocks(
    search: Callable[[Vectors, int], tuple[Any, Any]], queries: Vectors, size: int
) -> Propose:
    """Proposals of a search that takes only so many queries in one call."""

    def propose(which: Places, count: int) -> tuple[Any, Any]:
        starts = range(0, len(which), size)
        found = [search(queries[which[start : start + size]], count) for start in starts]
        scores, places = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(places)

    return propose


@dataclass(frozen=True)
class _Proposal:
    """How to get more rows for one query than were proposed first."""

    propose: Propose
    which: Places
    available: int
    most: int

    def more(self, count: int) -> tuple[NDArray[np.float32], Places]:
        scores, places = self.propose(self.which, min(count, self.most))
        return scores[0], places[0]


def _complete(scores: NDArray[np.float32], k: int, available: int) -> bool:
    """Whether no row that was not proposed can be among the k best."""
    count = len(scores)
    return count >= available or (count > k and bool(scores[-1] < scores[k - 1] - PRODUCT_ERROR))
