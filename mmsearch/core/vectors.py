"""Conversion and validation of arrays as unit vectors (`Vectors`)."""

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
