"""The only door by which an array becomes `Vectors`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmsearch.core.errors import DimensionError, VectorError
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import InputKind, ModelInput, Vectors

NORM_TOLERANCE = 1e-3

TEXT_BATCH = 64

_SHIFT_MASK = np.int32(-0x70000001)
"""A float16, moved 13 bits to the left, without the copies of its sign."""

_EXPONENT_SCALE = np.float32(2.0**112)
"""A float32's exponent is counted from -127, a float16's from -15."""


def as_float32(rows: NDArray[np.floating], out: NDArray[np.float32] | None = None) -> Vectors:
    """Finite numbers of any float type as float32.

    Float16 is unpacked by its bits, in vectors of whatever length the processor has, where numpy
    takes one number after the other: five times as fast.

    Args:
        rows: (n, dim).
        out: float32 (m, dim), C-order, m at least n, in whose first rows they are put; None: in an
            array of their own. Rows that are float32 already are not copied there.
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
        array: (n, d) numbers of any float type; n = 0 is allowed.
        dim: The d that is expected, if it matters.

    Returns:
        float32, C-order (n, d), every row of norm 1.

    Raises:
        DimensionError: d is not ``dim``, or the array is not two-dimensional.
        VectorError: A row is not finite or has no direction (norm 0).
    """
    rows = np.asarray(array, dtype=np.float32)
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        expected = "(n, d)" if dim is None else f"(n, {dim})"
        raise DimensionError(f"Vectors of shape {rows.shape} came where {expected} was expected.")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    is_bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if is_bad.any():
        raise VectorError(
            f"Row {int(np.argmax(is_bad))} of {len(rows)} vectors is zero or not finite.",
            "This is a fault of the encoder that made it.",
        )
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def check_unit_vectors(array: NDArray[np.float32], dim: int) -> Vectors:
    """Accept an array that claims to hold unit vectors, or say why it does not.

    Args:
        array: float32 (n, dim).
        dim: The number of columns expected.

    Returns:
        The same array, C-order.

    Raises:
        DimensionError: Another shape.
        VectorError: A row whose norm is not 1 within `NORM_TOLERANCE`, or not finite.
    """
    if array.ndim != 2 or array.shape[1] != dim:
        raise DimensionError(
            f"Vectors of shape {array.shape} came where (n, {dim}) was expected.",
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
    """Any number of prepared texts -> (n, dim)."""
    blocks = [
        encoder.encode(InputKind.TEXT, tokens[start : start + TEXT_BATCH])
        for start in range(0, len(tokens), TEXT_BATCH)
    ]
    return np.concatenate([np.empty((0, encoder.spec.dim), np.float32), *blocks])
