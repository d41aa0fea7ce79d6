"""Files of checksummed arrays return the appended rows and detect every changed byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.arrays import BLOCK_BYTES, ChecksummedArrays, write_checksummed_arrays

CHUNK_LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=4)


def write(path, metadata=None, **chunks_by_name):
    with write_checksummed_arrays(path) as (writer, atomic):
        for name, chunks in chunks_by_name.items():
            for chunk in chunks:
                writer.append(name, chunk)
        writer.finish(**metadata or {})
    return atomic.file_ref()


@given(st.data())
def test_checksummed_arrays_appended_chunks_are_read_back(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("blocks") / "file"
    chunks_by_name = {}
    for name in data.draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1)):
        dtype = data.draw(st.sampled_from(["<f2", "<i8", "|u1", "<f4"]))
        columns = data.draw(st.sampled_from([(), (3,), (700,)]))
        chunks_by_name[name] = [
            data.draw(arrays.arrays(dtype, (n, *columns), elements=st.just(7), fill=st.just(7)))
            for n in data.draw(CHUNK_LENGTHS)
        ]
    file_ref = write(path, {"kind": "toy"}, **chunks_by_name)
    file = ChecksummedArrays.map(path, file_ref)
    assert file.metadata == {"kind": "toy"}
    for name, chunks in chunks_by_name.items():
        array = file.array(name)
        np.testing.assert_array_equal(array, np.concatenate(chunks))
        assert array.dtype == chunks[0].dtype
        assert array.ctypes.data % array.itemsize == 0
    assert file_ref.bytes == path.stat().st_size


@pytest.fixture
def file(tmp_path):
    rows = np.random.default_rng(0).standard_normal((2000, 256)).astype(np.float16)
    ids = np.arange(2000, dtype=np.int64)
    path = tmp_path / "file"
    return path, write(path, {}, rows=[rows[:700], rows[700:]], ids=[ids]), rows


def flip(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


@given(st.floats(0, 1))
def test_checksummed_arrays_changed_byte_raises_damaged_file_error(tmp_path_factory, position):
    path = tmp_path_factory.mktemp("blocks") / "file"
    rows = np.arange(50_000, dtype=np.int64).reshape(-1, 5)
    file_ref = write(path, {}, rows=[rows], more=[rows[:7]])
    flip(path, int(position * (file_ref.bytes - 1)))
    with pytest.raises(DamagedFileError):
        read_all(path, file_ref)


def read_all(path, file_ref):
    opened = ChecksummedArrays.map(path, file_ref)
    opened.array("rows")
    opened.array("more")


def test_verify_rows_checks_only_blocks_of_requested_rows(file):
    path, file_ref, rows = file
    flip(path, 5 * BLOCK_BYTES)
    opened = ChecksummedArrays.map(path, file_ref)
    damaged_row = 5 * BLOCK_BYTES // 512
    opened.verify_rows("rows", np.array([0, 1, damaged_row - 200, damaged_row + 200]))
    np.testing.assert_array_equal(opened.array_unverified("rows")[:10], rows[:10])
    with pytest.raises(DamagedFileError, match="checksum"):
        opened.verify_rows("rows", np.array([3, damaged_row]))
    with pytest.raises(DamagedFileError, match="checksum"):
        opened.array("rows")


def test_verify_rows_row_across_two_blocks_checks_both(tmp_path):
    rows = np.zeros((100, 1000), dtype=np.float32)
    path = tmp_path / "file"
    file_ref = write(path, {}, rows=[rows])
    row_across_blocks = BLOCK_BYTES // 4000
    flip(path, BLOCK_BYTES + 8)
    with pytest.raises(DamagedFileError):
        ChecksummedArrays.map(path, file_ref).verify_rows("rows", np.array([row_across_blocks]))
    ChecksummedArrays.map(path, file_ref).verify_rows("rows", np.array([row_across_blocks - 1]))


def test_array_writer_append_to_ended_array_raises_value_error(tmp_path):
    def append_to_ended_array():
        with write_checksummed_arrays(tmp_path / "file") as (writer, _):
            for name in "aba":
                writer.append(name, np.zeros(3))

    with pytest.raises(ValueError, match="has ended"):
        append_to_ended_array()
    assert not list(tmp_path.iterdir())


def test_array_writer_read_before_finish_returns_appended_rows(tmp_path):
    with write_checksummed_arrays(tmp_path / "file") as (writer, _):
        writer.append("a", np.arange(1000))
        writer.append("b", np.arange(5))
        np.testing.assert_array_equal(writer.read("a"), np.arange(1000))
        writer.append("b", np.arange(5, 9))
        writer.finish()


@pytest.mark.parametrize("content", [b"", b"x", b"a file of something else" * 100])
def test_checksummed_arrays_foreign_file_raises_damaged_file_error(tmp_path, content):
    from mmsearch.storage.atomic import atomic_write

    file_ref = atomic_write(tmp_path / "other", content)
    with pytest.raises(DamagedFileError):
        ChecksummedArrays.map(tmp_path / "other", file_ref)


def test_checksummed_arrays_missing_array_raises_damaged_file_error(file):
    path, file_ref, _ = file
    with pytest.raises(DamagedFileError, match="no array 'codes'"):
        ChecksummedArrays.map(path, file_ref).array("codes")
