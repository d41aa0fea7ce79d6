"""Files of arrays: what was appended comes back, and no changed byte goes unnoticed when read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.arrays import BLOCK, BlocksFile, writing_blocks

PARTS = st.lists(st.integers(0, 40), min_size=1, max_size=4)


def write(path, facts=None, **named):
    with writing_blocks(path) as (file, publication):
        for name, parts in named.items():
            for part in parts:
                file.append(name, part)
        file.finish(facts or {})
    return publication.stamp(path)


@given(st.data())
def test_what_was_appended_comes_back(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("blocks") / "file"
    named = {}
    for name in data.draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1)):
        dtype = data.draw(st.sampled_from(["<f2", "<i8", "|u1", "<f4"]))
        columns = data.draw(st.sampled_from([(), (3,), (700,)]))
        named[name] = [
            data.draw(arrays.arrays(dtype, (n, *columns), elements=st.just(7), fill=st.just(7)))
            for n in data.draw(PARTS)
        ]
    stamp = write(path, {"kind": "toy"}, **named)
    file = BlocksFile(path, stamp)
    assert file.facts == {"kind": "toy"}
    for name, parts in named.items():
        found = file.array(name)
        np.testing.assert_array_equal(found, np.concatenate(parts))
        assert found.dtype == parts[0].dtype
        assert found.ctypes.data % found.itemsize == 0
    assert stamp.bytes == path.stat().st_size


@pytest.fixture
def file(tmp_path):
    rows = np.random.default_rng(0).standard_normal((2000, 256)).astype(np.float16)
    ids = np.arange(2000, dtype=np.int64)
    path = tmp_path / "file"
    return path, write(path, {}, rows=[rows[:700], rows[700:]], ids=[ids]), rows


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@given(st.floats(0, 1))
def test_any_changed_byte_is_noticed(tmp_path_factory, where):
    path = tmp_path_factory.mktemp("blocks") / "file"
    rows = np.arange(50_000, dtype=np.int64).reshape(-1, 5)
    stamp = write(path, {}, rows=[rows], more=[rows[:7]])
    flip(path, int(where * (stamp.bytes - 1)))
    with pytest.raises(DamagedFileError):
        read_all(path, stamp)


def read_all(path, stamp):
    opened = BlocksFile(path, stamp)
    opened.array("rows")
    opened.array("more")


def test_only_what_is_needed_is_checked(file):
    path, stamp, rows = file
    flip(path, 5 * BLOCK)
    opened = BlocksFile(path, stamp)
    damaged = 5 * BLOCK // 512
    opened.check_rows("rows", np.array([0, 1, damaged - 200, damaged + 200]))
    np.testing.assert_array_equal(opened.unchecked("rows")[:10], rows[:10])
    with pytest.raises(DamagedFileError, match="checksum"):
        opened.check_rows("rows", np.array([3, damaged]))
    with pytest.raises(DamagedFileError, match="checksum"):
        opened.array("rows")


def test_a_row_across_two_blocks_is_checked_in_both(tmp_path):
    rows = np.zeros((100, 1000), dtype=np.float32)
    path = tmp_path / "file"
    stamp = write(path, {}, rows=[rows])
    across = BLOCK // 4000
    flip(path, BLOCK + 8)
    with pytest.raises(DamagedFileError):
        BlocksFile(path, stamp).check_rows("rows", np.array([across]))
    BlocksFile(path, stamp).check_rows("rows", np.array([across - 1]))


def test_an_array_that_has_ended_cannot_be_added_to(tmp_path):
    def come_back():
        with writing_blocks(tmp_path / "file") as (opened, _):
            for name in "aba":
                opened.append(name, np.zeros(3))

    with pytest.raises(ValueError, match="has ended"):
        come_back()
    assert not list(tmp_path.iterdir())


def test_what_was_appended_can_be_read_before_the_end(tmp_path):
    with writing_blocks(tmp_path / "file") as (opened, _):
        opened.append("a", np.arange(1000))
        opened.append("b", np.arange(5))
        np.testing.assert_array_equal(opened.read("a"), np.arange(1000))
        opened.append("b", np.arange(5, 9))
        opened.finish({})


@pytest.mark.parametrize("content", [b"", b"x", b"a file of something else" * 100])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    from mmsearch.storage.atomic import publish_bytes

    stamp = publish_bytes(tmp_path / "other", content)
    with pytest.raises(DamagedFileError):
        BlocksFile(tmp_path / "other", stamp)


def test_an_array_that_is_not_there_is_said(file):
    path, stamp, _ = file
    with pytest.raises(DamagedFileError, match="no 'codes'"):
        BlocksFile(path, stamp).array("codes")
