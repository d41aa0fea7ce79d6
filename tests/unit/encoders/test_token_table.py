import numpy as np
import pytest

from mmsearch.core.errors import MMSearchError
from mmsearch.encoders._onnx.cache import CachedFile, Tower
from mmsearch.encoders._onnx.token_table import BLOCK_ROWS, TokenTable, write_table

IDS = np.array([[0, 199, 5], [5, 5, 64]])


@pytest.fixture
def weights():
    weights = np.random.default_rng(0).normal(size=(200, 128)).astype(np.float32)
    # Trained tables have columns that are many times larger than the others, and unused rows.
    weights[:, 3] *= 50
    weights[64] = 0
    return weights


@pytest.mark.parametrize("is_int8", [False, True])
def test_token_table_returns_rows_of_ids_in_their_shape(tmp_path, weights, is_int8):
    table = TokenTable(tmp_path, write_table(weights, tmp_path, "text", is_int8=is_int8))
    vectors = table.rows(IDS)
    assert vectors.shape == (2, 3, 128)
    assert vectors.dtype == np.float32
    if is_int8:
        groups = np.abs(weights[IDS]).reshape(2, 3, 2, 64).max(axis=3)
        error = np.abs(vectors - weights[IDS]).reshape(2, 3, 2, 64).max(axis=3)
        assert (error <= groups / 254 * 1.001).all()
    else:
        np.testing.assert_array_equal(vectors, weights[IDS])
    np.testing.assert_array_equal(vectors[1, 0], vectors[0, 2])
    assert not vectors[1, 2].any()


def test_token_table_int8_takes_about_a_quarter_of_the_space(tmp_path, weights):
    exact = write_table(weights, tmp_path, "exact", is_int8=False)
    small = write_table(weights, tmp_path, "small", is_int8=True)
    for info in (exact, small):
        assert (tmp_path / info.name).stat().st_size == info.bytes
    assert small.bytes < 0.27 * exact.bytes


def test_token_table_columns_without_equal_groups_share_one_scale(tmp_path, weights):
    info = write_table(weights[:, :100], tmp_path, "text", is_int8=True)
    vectors = TokenTable(tmp_path, info).rows(IDS)
    np.testing.assert_allclose(vectors, weights[IDS][..., :100], atol=2)


def test_token_table_damage_is_found_in_the_block_that_is_read(tmp_path, weights):
    info = write_table(weights, tmp_path, "text", is_int8=True)
    path = tmp_path / info.name
    content = bytearray(path.read_bytes())
    content[info.row_type.itemsize * BLOCK_ROWS + 7] ^= 1
    path.write_bytes(content)
    table = TokenTable(tmp_path, info)
    assert table.rows(np.array([[0, BLOCK_ROWS - 1, 2 * BLOCK_ROWS]])).any()
    with pytest.raises(MMSearchError, match="is damaged and was removed"):
        table.rows(np.array([[BLOCK_ROWS]]))
    assert not path.exists()


def test_tower_with_a_table_outside_its_files_is_rejected(tmp_path, weights):
    info = write_table(weights, tmp_path, "text", is_int8=True)
    files = [CachedFile(name, 1, "0") for name in ("text.onnx", info.name, info.checksums)]
    assert Tower(tuple(files), 0.0, table=info).table == info
    for missing in files[1:]:
        with pytest.raises(ValueError, match="do not include its table"):
            Tower(tuple(f for f in files if f is not missing), 0.0, table=info)
