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

PRODUCT_ERROR = 1e-5
"""More than a float32 matrix product of unit vectors can be off by."""

DENSE = 32
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


def best(ids: Ids, scores: NDArray[np.float32], k: int) -> tuple[Ids, NDArray[np.float32]]:
    """The k best of one query's candidates, padded.

    Args:
        ids: int64 (n,), unique.
        scores: float32 (n,).
        k: Length of the answer.

    Returns:
        int64 (k,) padded with -1, and float32 (k,) padded with -inf.
    """
    order = np.lexsort((ids, -scores))[:k]
    found_ids = np.full(k, -1, dtype=np.int64)
    found_scores = np.full(k, -np.inf, dtype=np.float32)
    found_ids[: len(order)] = ids[order]
    found_scores[: len(order)] = scores[order]
    return found_ids, found_scores


def exhaustive(
    ids: Ids, rows: NDArray[np.floating], query: NDArray[np.float32], k: int, block: int = 65_536
) -> tuple[Ids, NDArray[np.float32]]:
    """The k best of one query by looking at every row.

    Args:
        ids: int64 (n,).
        rows: (n, dim), any float type.
        query: float32 (dim,).
        k: Length of the answer.
        block: Rows that are held as float32 at a time.

    Returns:
        As `best`.
    """
    raw = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), block):
        raw[start : start + block] = as_float32(rows[start : start + block]) @ query
    candidates = np.arange(len(rows))
    if k < len(rows):
        floor = np.partition(raw, -k)[-k] - PRODUCT_ERROR
        candidates = np.flatnonzero(raw >= floor)
    return best(ids[candidates], row_scores(rows[candidates], query), k)


def stack(rankings: Sequence[tuple[Ids, NDArray[np.float32]]], k: int) -> Ranking:
    """Rows of single queries as one `Ranking`."""
    ids = np.array([row for row, _ in rankings], dtype=np.int64).reshape(-1, k)
    scores = np.array([row for _, row in rankings], dtype=np.float32).reshape(-1, k)
    return Ranking(ids, scores)


def merge(rankings: Sequence[Ranking], k: int) -> Ranking:
    """Rankings of disjoint sets of vectors, for the same queries, as one.

    Args:
        rankings: At least one.
        k: Length of the answer; each input holds its own k best.
    """
    ids = np.concatenate([ranking.ids for ranking in rankings], axis=1)
    scores = np.concatenate([ranking.scores for ranking in rankings], axis=1)
    rows = []
    for row_ids, values in zip(ids, scores, strict=True):
        real = row_ids >= 0
        rows.append(best(row_ids[real], values[real], k))
    return stack(rows, k)


def positions_of(ids: Ids, wanted: Ids) -> NDArray[np.int64]:
    """Where the members of ``wanted`` stand in ``ids``; absent ones are left out.

    Args:
        ids: int64 (n,), ascending, each once.
        wanted: int64 (m,), in any order, repeated or not.

    Returns:
        int64 (at most n,), ascending.
    """
    if len(ids) == 0:
        return np.empty(0, dtype=np.int64)
    first, last = int(ids[0]), int(ids[-1])
    if last - first < DENSE * len(wanted):
        is_wanted = np.zeros(last - first + 1, dtype=bool)
        is_wanted[wanted[(wanted >= first) & (wanted <= last)] - first] = True
        return np.flatnonzero(is_wanted[ids - first])
    places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.unique(places[ids[places] == wanted])
