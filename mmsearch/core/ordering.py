"""The law of ranking: best score first, equal scores by lower id, a short page of a long one.

A matrix product may give one row slightly different scores in differently shaped calls. Scores that
decide an order are therefore computed row by row in one fixed way, so that equal vectors score
equally and the top 5 is a prefix of the top 15.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, Ranking
from mmsearch.core.vectors import as_float32

MATMUL_ERROR = 1e-5
"""More than a float32 matrix product of unit vectors can be off by."""

MAX_SPAN_PER_ID = 32
"""Ids of a range: to mark those that are wanted takes as long for so many as to look up one."""


def row_scores(rows: NDArray[np.floating], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products that depend on the row and the query alone.

    Args:
        rows: (n, dim), any float type.
        query: float32 (dim,); or (q, 1, dim), several.

    Returns:
        float32 (n,); or (q, n).
    """
    # vecdot takes each row by itself, which a matrix product does not.
    scores: NDArray[np.float32] = np.vecdot(as_float32(rows), query)
    return scores


def top_k(ids: Ids, scores: NDArray[np.float32], k: int) -> tuple[Ids, NDArray[np.float32]]:
    """The k best of one query's candidates, padded.

    Args:
        ids: int64 (n,), unique.
        scores: float32 (n,).
        k: Length of the answer.

    Returns:
        int64 (k,) padded with -1, and float32 (k,) padded with -inf.
    """
    order = np.lexsort((ids, -scores))[:k]
    top_ids = np.full(k, -1, dtype=np.int64)
    top_scores = np.full(k, -np.inf, dtype=np.float32)
    top_ids[: len(order)] = ids[order]
    top_scores[: len(order)] = scores[order]
    return top_ids, top_scores


def exact_top_k(
    ids: Ids,
    rows: NDArray[np.floating],
    query: NDArray[np.float32],
    k: int,
    block_rows: int = 65_536,
) -> tuple[Ids, NDArray[np.float32]]:
    """The k best of one query by looking at every row.

    Args:
        ids: int64 (n,).
        rows: (n, dim), any float type.
        query: float32 (dim,).
        k: Length of the answer.
        block_rows: Rows that are held as float32 at a time.

    Returns:
        As `top_k`.
    """
    approximate_scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), block_rows):
        approximate_scores[start : start + block_rows] = (
            as_float32(rows[start : start + block_rows]) @ query
        )
    candidates = np.arange(len(rows))
    if k < len(rows):
        min_score = np.partition(approximate_scores, -k)[-k] - MATMUL_ERROR
        candidates = np.flatnonzero(approximate_scores >= min_score)
    return top_k(ids[candidates], row_scores(rows[candidates], query), k)


def stack(rankings: Sequence[tuple[Ids, NDArray[np.float32]]], k: int) -> Ranking:
    """Rows of single queries as one `Ranking`."""
    ids = np.array([row for row, _ in rankings], dtype=np.int64).reshape(-1, k)
    scores = np.array([row for _, row in rankings], dtype=np.float32).reshape(-1, k)
    return Ranking(ids, scores)


def merge_rankings(rankings: Sequence[Ranking], k: int) -> Ranking:
    """Rankings of disjoint sets of vectors, for the same queries, as one.

    Args:
        rankings: At least one.
        k: Length of the answer; each input holds its own k best.
    """
    ids = np.concatenate([ranking.ids for ranking in rankings], axis=1)
    scores = np.concatenate([ranking.scores for ranking in rankings], axis=1)
    rows = []
    for row_ids, values in zip(ids, scores, strict=True):
        is_hit = row_ids >= 0
        rows.append(top_k(row_ids[is_hit], values[is_hit], k))
    return stack(rows, k)


def find_positions(ids: Ids, targets: Ids) -> NDArray[np.int64]:
    """Where the members of ``wanted`` stand in ``ids``; absent ones are left out.

    Args:
        ids: int64 (n,), ascending, each once.
        targets: int64 (m,), in any order, repeated or not.

    Returns:
        int64 (at most n,), ascending.
    """
    if len(ids) == 0:
        return np.empty(0, dtype=np.int64)
    min_id, max_id = int(ids[0]), int(ids[-1])
    if max_id - min_id < MAX_SPAN_PER_ID * len(targets):
        is_target = np.zeros(max_id - min_id + 1, dtype=bool)
        is_target[targets[(targets >= min_id) & (targets <= max_id)] - min_id] = True
        return np.flatnonzero(is_target[ids - min_id])
    positions = np.minimum(np.searchsorted(ids, targets), len(ids) - 1)
    return np.unique(positions[ids[positions] == targets])
