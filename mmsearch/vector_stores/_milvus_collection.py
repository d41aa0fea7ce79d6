"""One build of vectors on Milvus: searches, scores and vectors of a collection.

Every search has the same effort, so that a short result is a prefix of a long one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import ServerError
from mmsearch.core.query import Condition
from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vector_servers import MAX_EXACT_IDS, MIN_CANDIDATES
from mmsearch.core.vectors import merge_rankings, row_scores, stack
from mmsearch.vector_stores._milvus_connection import MilvusConnection
from mmsearch.vector_stores._milvus_filter import (
    DIGEST_FIELD,
    ID_FIELD,
    SPREAD_FIELD,
    VECTOR_FIELD,
    compile_condition,
    compile_ids,
    join_expressions,
)

MAX_LIMIT: Final = 16384
"""Maximum number of rows in an answer of Milvus."""

_MIN_EF: Final = 2000
_RESCORED: Final = 200
"""Number of rows of an inverted file whose scores are computed from their vectors: those of its
8-bit codes are rounded, which loses three in a hundred of the ten nearest."""

_MAX_IDS: Final = 50_000
"""Maximum number of ids in one expression."""

_MAX_QUERIES: Final = 16
"""Maximum number of queries in a request: for 20 and more, FAISS computes blocks of scores at once,
so that equal vectors no longer score equally."""

_MAX_EXCLUDED: Final = 1000
"""Maximum number of excluded ids for which a search asks for more rows first."""

_REQUEST_BYTES: Final = 8 << 20
_SPREAD_BITS: Final = 31

_Answer: TypeAlias = tuple[Ids, NDArray[np.float32]]
"""Ids and scores of rows, best first."""


@dataclass(frozen=True)
class MilvusCollection:
    """One build; see `VectorCollection`.

    Attributes:
        connection: Connection to the server.
        name: Name of the collection on the server.
        dim: Number of dimensions.
        rows: Number of rows that were written.
        index_type: ``FLAT``, ``HNSW`` or ``IVF_SQ8``.
    """

    connection: MilvusConnection
    name: str
    dim: int
    rows: int
    index_type: str

    def count(self) -> int:
        """Return the number of rows that can be found now."""
        return self._count("Bounded")

    def search(
        self,
        queries: Vectors,
        count: int,
        *,
        condition: Condition | None = None,
        only: Ids | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the nearest rows of each query; see `VectorCollection.search`.

        Raises:
            ServerError: The server fails, or cannot evaluate the condition; see `evaluates`.
        """
        expression = None
        if condition is not None:
            expression = compile_condition(condition)
            if expression is None:
                raise ServerError("Milvus cannot evaluate this filter.")
        excluded = np.empty(0, np.int64) if excluded is None else excluded
        if only is None:
            return self._search(queries, count, expression, excluded)
        only = np.setdiff1d(only, excluded)
        rankings = [_empty_ranking(len(queries), count)]
        for ids in self._split_ids(only):
            given = join_expressions(compile_ids(ids), expression)
            rankings.append(self._search(queries, count, given, excluded[:0], most=len(ids)))
        return merge_rankings(rankings, count)

    def evaluates(self, condition: Condition) -> bool:
        """Return True if `search` can evaluate a condition."""
        return compile_condition(condition) is not None

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of (q, dim) queries and n rows, float32 (q, n)."""
        scores = np.full((len(queries), len(ids)), -np.inf, dtype=np.float32)
        order = np.argsort(ids, kind="stable")
        for rows in _split(order, MAX_LIMIT):
            wanted = ids[rows]
            expression = compile_ids(np.unique(wanted))
            for number, (found, found_scores) in enumerate(
                self._request(queries, len(rows), expression)
            ):
                by_id = dict(zip(found.tolist(), found_scores.tolist(), strict=True))
                scores[number, rows] = [by_id.get(i, -np.inf) for i in wanted.tolist()]
        # A graph may miss rows, which have vectors nevertheless.
        if (lost := np.isneginf(scores).any(axis=0)).any():
            exact = np.vecdot(self.vectors(ids[lost]), queries[:, None, :])
            missed = np.isneginf(scores[:, lost]) & ~np.isnan(exact)
            scores[:, lost] = np.where(missed, exact, scores[:, lost])
        return scores

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids in their order, float32 (n, dim); NaN for an id it lacks."""
        unique_ids, positions = np.unique(ids, return_inverse=True)
        found = np.full((len(unique_ids), self.dim), np.nan, dtype=np.float32)
        for part in _split(unique_ids, max(1, _REQUEST_BYTES // (4 * self.dim))):
            for row in self._query(compile_ids(part), ID_FIELD, VECTOR_FIELD):
                found[np.searchsorted(unique_ids, row[ID_FIELD])] = row[VECTOR_FIELD]
        return found[positions]

    def sample_ids(self, count: int) -> Ids:
        """Return at most ``count`` ids spread over the collection, ascending; always the same."""
        if not self.rows or count <= 0:
            return np.empty(0, np.int64)
        # A tenth more than on average, and 100, makes fewer than `count` very unlikely.
        share = min(1.0, (1.1 * count + 100) / self.rows)
        expression = f"{SPREAD_FIELD} < {int(share * (1 << _SPREAD_BITS))}"
        drawn = [
            (int(row[SPREAD_FIELD]), int(row[ID_FIELD]))
            for rows in self._iterate(expression, ID_FIELD, SPREAD_FIELD)
            for row in rows
        ]
        return np.array(sorted(row_id for _, row_id in sorted(drawn)[:count]), dtype=np.int64)

    def field_digests(self) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
        """Yield blocks of ids and `VectorBlock.digests`."""
        for rows in self._iterate("", ID_FIELD, DIGEST_FIELD):
            yield (
                np.array([row[ID_FIELD] for row in rows], dtype=np.int64),
                np.array([row[DIGEST_FIELD] for row in rows], dtype=np.int64),
            )

    def check_written(self) -> None:
        """Raise a `ServerError` if the server does not hold all rows that were written."""
        counted = self._count("Strong")
        if counted != self.rows:
            raise ServerError(
                f"The Milvus server holds {counted:,} of {self.rows:,} vectors that were written.",
                "Try again; look at the server's messages if it happens again.",
            )

    def _count(self, consistency: str) -> int:
        answer = self._query("", "count(*)", consistency=consistency)
        return int(answer[0]["count(*)"])

    def _search(
        self,
        queries: Vectors,
        count: int,
        expression: str | None,
        excluded: Ids,
        most: int | None = None,
    ) -> Ranking:
        """Return the nearest rows that pass an expression and are not excluded.

        Args:
            queries: (q, dim).
            count: Number of rows for each query.
            expression: Expression that rows must pass.
            excluded: Ids that must not be returned, ascending.
            most: Maximum number of rows that can pass; None if that is not known.
        """
        wanted = max(count, MIN_CANDIDATES)
        limit = wanted + min(len(excluded), _MAX_EXCLUDED)
        limit = min(limit, MAX_LIMIT, most or MAX_LIMIT)
        rows = []
        answers = self._request(queries, limit, expression)
        for query, answer in zip(queries, answers, strict=True):
            ids, scores, is_all = self._widen(query[None, :], answer, limit, expression)
            is_live = ~np.isin(ids, excluded)
            ids, scores = ids[is_live], scores[is_live]
            while not is_all and len(ids) < min(wanted, most or wanted):
                # Too many neighbours are excluded, or more are wanted than an answer may have.
                more = min(wanted - len(ids), MAX_LIMIT)
                others = compile_ids(np.union1d(excluded, ids), negate=True)
                given = join_expressions(expression, others)
                ((more_ids, more_scores),) = self._request(query[None, :], more, given)
                is_all = len(more_ids) < more
                ids = np.concatenate([ids, more_ids])
                scores = np.concatenate([scores, more_scores])
            if self.index_type == "IVF_SQ8":
                scores = self._rescore(query, ids, scores)
            rows.append(_first(ids, scores, count))
        return stack(rows, count)

    def _rescore(
        self, query: Vectors, ids: Ids, scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return scores of which the best are computed from vectors; equal ones stay equal."""
        if not len(ids):
            return scores
        is_best = scores >= np.sort(scores)[-min(_RESCORED, len(scores))]
        exact = row_scores(self.vectors(ids[is_best]), query)
        # The server may lack rows at the moment.
        scores[is_best] = np.where(np.isnan(exact), scores[is_best], exact)
        return scores

    def _widen(
        self, query: Vectors, answer: _Answer, limit: int, expression: str | None
    ) -> tuple[Ids, NDArray[np.float32], bool]:
        """Return an answer that does not end among equal scores, and if it has all rows.

        Which of equal rows Milvus leaves out does not depend on their ids.
        """
        ids, scores = answer
        while len(ids) == limit < MAX_LIMIT and limit > 1 and scores[-1] == scores[-2]:
            limit = min(4 * limit, MAX_LIMIT)
            ((ids, scores),) = self._request(query, limit, expression)
        return ids, scores, len(ids) < limit

    def _request(self, queries: Vectors, limit: int, expression: str | None) -> Iterator[_Answer]:
        """Yield the ids and scores of the rows that Milvus finds for each query."""
        for start in range(0, len(queries), _MAX_QUERIES):
            answers = self.connection.read(
                "search",
                self.name,
                data=list(np.asarray(queries[start : start + _MAX_QUERIES], dtype=np.float32)),
                limit=limit,
                filter=expression or "",
                anns_field=VECTOR_FIELD,
                search_params={"metric_type": "IP", "params": self._effort(limit)},
                consistency_level="Bounded",
            )
            for hits in answers:
                yield np.array(hits.ids, np.int64), np.array(hits.distances, np.float32)

    def _effort(self, limit: int) -> dict[str, int]:
        if self.index_type == "HNSW":
            return {"ef": max(_MIN_EF, 2 * limit)}
        if self.index_type == "IVF_SQ8":
            # Texts are far from all pictures, and their neighbours are in many lists: a quarter of
            # the lists has 0.77 of the ten nearest, and three quarters 0.97 of the 1,000 nearest.
            return {"nprobe": num_lists(self.rows)}
        return {}

    def _query(
        self, expression: str, *fields: str, consistency: str = "Bounded"
    ) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = self.connection.read(
            "query",
            self.name,
            filter=expression,
            output_fields=list(fields),
            consistency_level=consistency,
        )
        return answer

    def _split_ids(self, ids: Ids) -> list[Ids]:
        """Split ids so that Milvus compares all of a part, instead of searching a graph.

        It does so if less than a fifteenth of the rows can be found.
        """
        size = _MAX_IDS
        if self.index_type == "HNSW" and len(ids) <= MAX_EXACT_IDS:
            size = max(MIN_CANDIDATES, self.rows // 20)
        num_parts = -(-len(ids) // size)
        return [ids[start::num_parts] for start in range(num_parts)]

    def _iterate(self, expression: str, *fields: str) -> Iterator[list[dict[str, Any]]]:
        """Yield blocks of the rows that pass an expression, by id."""
        last = -1
        while True:
            beyond = join_expressions(f"{ID_FIELD} > {last}", expression)
            rows = self.connection.read(
                "query",
                self.name,
                filter=beyond,
                output_fields=list(fields),
                limit=MAX_LIMIT,
                consistency_level="Bounded",
            )
            rows = sorted(rows, key=lambda row: row[ID_FIELD])
            yield rows
            if len(rows) < MAX_LIMIT:
                return
            last = rows[-1][ID_FIELD]


def num_lists(rows: int) -> int:
    return int(min(65536, max(1, 4 * rows**0.5)))


def spread(row_id: int) -> int:
    """Return a number that is spread evenly for any run of ids (Fibonacci hashing)."""
    return (row_id * 0x9E3779B97F4A7C15 % (1 << 64)) >> (64 - _SPREAD_BITS)


def _empty_ranking(num_queries: int, count: int) -> Ranking:
    empty = np.empty(0, np.int64), np.empty(0, np.float32)
    return stack([_first(*empty, count)] * num_queries, count)


def _first(ids: Ids, scores: NDArray[np.float32], count: int) -> tuple[Ids, NDArray[np.float32]]:
    """Return the best rows, ordered by (-score, id), padded with the id -1."""
    order = np.lexsort((ids, -scores))[:count]
    padding = count - len(order)
    return (
        np.pad(ids[order], (0, padding), constant_values=-1),
        np.pad(scores[order], (0, padding), constant_values=-np.inf),
    )


def _split(values: Ids, size: int) -> Iterator[Ids]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
