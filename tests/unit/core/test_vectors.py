import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmsearch.core.errors import DimensionError, VectorError
from mmsearch.core.vectors import NORM_TOLERANCE, as_float32, as_unit_vectors, check_unit_vectors


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(1, 8)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    )
)
def test_as_unit_vectors_scales_rows_or_raises_for_zero_row(array):
    norms = np.linalg.norm(array.astype(np.float64), axis=1)
    if (norms == 0).any():
        with pytest.raises(VectorError, match="zero or not finite"):
            as_unit_vectors(array)
        return
    unit = as_unit_vectors(array)
    assert unit.dtype == np.float32
    assert unit.flags.c_contiguous
    assert (np.abs(np.linalg.norm(unit, axis=1) - 1) < NORM_TOLERANCE).all()
    np.testing.assert_allclose(
        unit * norms[:, None], array, rtol=1e-4, atol=norms.max(initial=0) * 1e-6
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_as_unit_vectors_non_finite_value_raises_vector_error(bad):
    with pytest.raises(VectorError, match="Row 1 of 2"):
        as_unit_vectors([[1.0, 0.0], [bad, 1.0]])


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 2, 3)])
def test_as_unit_vectors_wrong_shape_raises_dimension_error(shape):
    with pytest.raises(DimensionError):
        as_unit_vectors(np.ones(shape), dim=3)


def test_check_unit_vectors_wrong_norm_or_dimension_raises_error():
    unit_vectors = as_unit_vectors(np.ones((2, 4)))
    assert check_unit_vectors(unit_vectors, 4) is not None
    with pytest.raises(VectorError, match="norm"):
        check_unit_vectors(unit_vectors * 1.01, 4)
    with pytest.raises(VectorError, match="norm"):
        check_unit_vectors(unit_vectors * np.float32(np.nan), 4)
    with pytest.raises(DimensionError):
        check_unit_vectors(unit_vectors, 5)


ALL_FLOAT16 = np.arange(2**16, dtype=np.uint16).view(np.float16)
FINITE_FLOAT16 = ALL_FLOAT16[np.isfinite(ALL_FLOAT16)]


def test_as_float32_float16_values_convert_exactly():
    expected = FINITE_FLOAT16.astype(np.float32)
    assert (
        as_float32(FINITE_FLOAT16[None]).view(np.uint32)[0].tolist()
        == expected.view(np.uint32).tolist()
    )


def test_as_float32_with_output_array_fills_only_first_rows():
    rows = FINITE_FLOAT16[:24].reshape(4, 6)
    out = np.full((5, 6), 7, dtype=np.float32)
    converted = as_float32(rows, out)
    assert np.shares_memory(converted, out)
    np.testing.assert_array_equal(converted, rows.astype(np.float32))
    assert (out[4] == 7).all()


def test_as_float32_strided_rows_convert_without_input_change():
    rows = FINITE_FLOAT16[:48].reshape(4, 12)[::2, ::3]
    before = rows.copy()
    np.testing.assert_array_equal(as_float32(rows), rows.astype(np.float32))
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_as_float32_other_float_types_become_float32(kind):
    rows = np.array([[0.1, -2.5]], dtype=kind)
    converted = as_float32(rows)
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, rows.astype(np.float32))
