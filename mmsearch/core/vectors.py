"""Unit vectors (`Vectors`): conversion, validation, scores in exact row order, top-k selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmsearch.core.errors import DimensionError, VectorError
from mmsearch.core.types import Ids, InputKind, ModelInput, Ranking, Vectors

if TYPE_CHECKING:
    from mmsearch.core.protocols import Encoder

NORM_TOLERANCE = 1e-3

TEXT_BATCH = 64

_SHIFT_MASK = np.int32(-0x70000001)
"""Mask that clears the sign extension of a float16 whose bits are shifted left by 13."""

_EXPONENT_SCALE = np.float32(2.0**112)
"""Factor that corrects the exponent bias, which is 127 in float32 and 15 in float16."""


def as_float32(rows: NDArray[np.floating], out: NDArray[np.float32] | None = None) -> Vectors:
    """Convert finite numbers of any float type to float32.

    Float16 is converted with bit operations that use SIMD, while numpy converts one number at a
    time. This is five times as fast.

    Args:
        rows: (n, dim).
        out: float32 (m, dim), C-order, m at least n: buffer for the first n rows; None allocates a
            new array. Only float16 rows are written to it.
    """
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    result = np.empty(rows.shape, np.float32) if out is None else out[: len(rows)]
    bits = result.view(np.int32)
    np.copyto(bits, rows.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _SHIFT_MASK, out=bits)
    return np.multiply(result, _EXPONENT_SCALE, out=result)


def as_unit_vectors(array: ArrayLike, dim: int | None = None) -> Vectors:
    """Scale rows to unit length.

    Args:
        array: (n, d), any float type; n = 0 is allowed.
        dim: Expected d; None accepts any.

    Returns:
        float32, C-order (n, d), every row of norm 1.

    Raises:
        DimensionError: d is not ``dim``, or the array is not two-dimensional.
        VectorError: A row is zero or not finite.
    """
    rows = np.asarray(array, dtype=np.float32)
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        expected = "(n, d)" if dim is None else f"(n, {dim})"
        raise DimensionError(f"Expected vectors of shape {expected}, got {rows.shape}.")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    is_bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if is_bad.any():
        raise VectorError(
            f"Row {int(np.argmax(is_bad))} of {len(rows)} vectors is zero or not finite.",
            "This is a bug in the encoder that computed it.",
        )
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def check_unit_vectors(array: NDArray[np.float32], dim: int) -> Vectors:
    """Check that the rows of an array are unit vectors.

    Args:
        array: float32 (n, dim).
        dim: Expected number of columns.

    Returns:
        The same array, C-order.

    Raises:
        DimensionError: The array has another shape.
        VectorError: The norm of a row is not finite or not 1 within `NORM_TOLERANCE`.
    """
    if array.ndim != 2 or array.shape[1] != dim:
        raise DimensionError(
            f"Expected vectors of shape (n, {dim}), got {array.shape}.",
            expected=dim,
            got=array.shape,
        )
    norms = np.linalg.norm(array, axis=1)
    is_bad = ~(np.abs(norms - 1.0) <= NORM_TOLERANCE)
    if is_bad.any():
        row = int(np.argmax(is_bad))
        raise VectorError(f"Row {row} has norm {norms[row]:.4f}, not 1.")
    return np.ascontiguousarray(array, dtype=np.float32)


def encode_model_inputs(encoder: Encoder, tokens: Sequence[ModelInput]) -> Vectors:
    """Encode any number of prepared texts in batches and return their vectors, (n, dim)."""
    blocks = [
        encoder.encode(InputKind.TEXT, tokens[start : start + TEXT_BATCH])
        for start in range(0, len(tokens), TEXT_BATCH)
    ]
    return np.concatenate([np.empty((0, encoder.spec.dim), np.float32), *blocks])


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
    # Unlike a matrix product, vecdot computes each row independently, and in this thread: BLAS's
    # threads spin, so that on busy CPUs 2,000 rows take 60 ms instead of 0.7 ms.
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
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), block_rows):
        scores[start : start + block_rows] = row_scores(rows[start : start + block_rows], query)
    candidates = np.arange(len(rows))
    if k < len(rows):
        candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return top_k(ids[candidates], scores[candidates], k)


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


def ranks_in_groups(groups: Ids) -> Ids:
    """Return, for each row of a ranking, how many rows of its group precede it, int64 (n,).

    Args:
        groups: int64 (n,), the group of each row, best row first.
    """
    order = np.argsort(groups, kind="stable")
    by_group = groups[order]
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.searchsorted(by_group, by_group)
    return ranks
