"""Deterministic top-k ranking: best score first, ties broken by lower id.

A matrix product may give one row slightly different scores in calls of different shapes. Scores
that determine an order are therefore computed row by row in one fixed way, so that equal vectors
get equal scores and the top 5 are a prefix of the top 15.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, Ranking
from mmsearch.core.vectors import as_float32

MATMUL_ERROR = 1e-5
"""Upper bound of the error of a float32 matrix product of unit vectors."""

MAX_SPAN_PER_ID = 32
"""Maximum width of an id range per target for which a bitmap is faster than binary search.

Marking this many ids takes as long as looking up one.
"""


def row_scores(rows: NDArray[np.floating], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return inner products that depend only on the row and the query.

    Args:
        rows: (n, dim), any float type.
        query: float32 (dim,), or (q, 1, dim) for several queries.

    Returns:
        float32 (n,), or (q, n) for several queries.
    """
    # Unlike a matrix product, vecdot computes each row independently.
    scores: NDArray[np.float32] = np.vecdot(as_float32(rows), query)
    return scores


def top_k(ids: Ids, scores: NDArray[np.float32], k: int) -> tuple[Ids, NDArray[np.float32]]:
    """Return the k best candidates of one query, padded.

    Args:
        ids: int64 (n,), unique.
        scores: float32 (n,).
        k: Length of the result.

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
    """Return the k best rows of one query by exhaustive search.

    Args:
        ids: int64 (n,).
        rows: (n, dim), any float type.
        query: float32 (dim,).
        k: Length of the result.
        block_rows: Number of rows converted to float32 at a time.

    Returns:
        Ids and scores, as from `top_k`.
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
    """Combine the results of single queries in one `Ranking`."""
    ids = np.array([row for row, _ in rankings], dtype=np.int64).reshape(-1, k)
    scores = np.array([row for _, row in rankings], dtype=np.float32).reshape(-1, k)
    return Ranking(ids, scores)


def merge_rankings(rankings: Sequence[Ranking], k: int) -> Ranking:
    """Merge rankings of the same queries over disjoint sets of vectors.

    Args:
        rankings: At least one ranking, each with the k best of its own set.
        k: Length of the result.
    """
    ids = np.concatenate([ranking.ids for ranking in rankings], axis=1)
    scores = np.concatenate([ranking.scores for ranking in rankings], axis=1)
    rows = []
    for row_ids, values in zip(ids, scores, strict=True):
        is_hit = row_ids >= 0
        rows.append(top_k(row_ids[is_hit], values[is_hit], k))
    return stack(rows, k)


def find_positions(ids: Ids, targets: Ids) -> NDArray[np.int64]:
    """Return the positions in ``ids`` of the members of ``targets``; skip absent ones.

    Args:
        ids: int64 (n,), ascending, unique.
        targets: int64 (m,), in any order, with or without duplicates.

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
