"""Tests of the copies of originals that a server keeps."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from mmsearch.core.errors import DecodeError, GoneError
from mmsearch.server import originals
from mmsearch.server.originals import OriginalCopies


@dataclass(frozen=True)
class Record:
    """The parts of a record that copies need."""

    id: int
    digest: bytes
    size: int
    key: bytes = b"sub/a.jpg"


class IndexSpy:
    """Index whose originals are their ids, repeated."""

    name = "a"

    def __init__(self, size=4):
        self.size = size
        self.reads = []
        self.may_read = threading.Event()
        self.may_read.set()

    def read_original(self, image_id, *, public_only):
        assert public_only
        self.reads.append(image_id)
        assert self.may_read.wait(10)
        if image_id == 404:
            raise GoneError("It is gone.")
        return bytes([image_id]) * self.size


class Loader:
    """Loader that knows the format of every file but those that begin with a zero."""

    def format(self, path):
        with open(path, "rb") as file:
            if file.read(1) == b"\0":
                raise DecodeError("it is not a picture")
        return "JPEG"


def record(number, size=4):
    return Record(number, bytes([number % 256]) * 32, size)


@pytest.fixture
def copies():
    copies = OriginalCopies(Loader())
    yield copies
    copies.close()


def test_copy_is_made_once_and_has_the_content_and_the_suffix(copies):
    index = IndexSpy()
    copy = copies.get(index, record(7))
    assert copies.get(index, record(7)) is copy
    assert index.reads == [7]
    assert (copy.path.read_bytes(), copy.path.suffix, copy.name) == (b"\7" * 4, ".jpg", "a.jpg")
    assert (copy.size, copy.image_format) == (4, "JPEG")


def test_copies_beyond_the_limit_are_deleted_but_not_while_they_are_sent(copies, monkeypatch):
    monkeypatch.setattr(originals, "MAX_COPIES_BYTES", 10)
    index = IndexSpy()
    held = copies.get(index, record(1))
    dropped_path = copies.get(index, record(2)).path
    copies.get(index, record(3))
    copies.get(index, record(4))
    gc.collect()
    assert held.path.read_bytes() == b"\1" * 4
    assert not dropped_path.exists()
    assert copies.get(index, record(1)) is not held
    assert index.reads == [1, 2, 3, 4, 1]
    held_path = held.path
    del held
    gc.collect()
    assert not held_path.exists()


def test_copy_that_is_larger_than_the_limit_is_kept_until_the_next_one(copies, monkeypatch):
    monkeypatch.setattr(originals, "MAX_COPIES_BYTES", 10)
    index = IndexSpy(size=100)
    for _ in range(3):
        copies.get(index, record(1, 100))
    assert index.reads == [1]


def test_threads_that_want_one_original_read_it_once(copies):
    index = IndexSpy()
    index.may_read.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(copies.get, index, record(5)) for _ in range(8)]
        index.may_read.set()
        assert len({id(future.result()) for future in waiting}) == 1
    assert index.reads == [5]


def test_contents_that_do_not_fit_into_memory_wait_for_each_other(copies, monkeypatch):
    monkeypatch.setattr(originals, "MAX_LOADED_BYTES", 10)
    index = IndexSpy()
    index.may_read.clear()
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(copies.get, index, record(n)) for n in range(1, 5)]
        threading.Event().wait(0.2)
        assert len(index.reads) == 2
        index.may_read.set()
        assert {future.result().path.read_bytes()[0] for future in waiting} == {1, 2, 3, 4}


def test_failed_read_leaves_no_file_and_is_tried_again(copies):
    index = IndexSpy()
    for _ in range(2):
        with pytest.raises(GoneError):
            copies.get(index, Record(404, b"x" * 32, 4))
        with pytest.raises(DecodeError):
            copies.get(index, record(0))
    assert index.reads == [404, 0, 404, 0]
    assert list(copies._folder.iterdir()) == []


def test_closed_copies_leave_no_folder():
    copies = OriginalCopies(Loader())
    folder = copies.get(IndexSpy(), record(1)).path.parent
    copies.close()
    assert not folder.exists()
