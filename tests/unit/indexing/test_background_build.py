"""A merge beside a run: begun once, waited for, or given up."""

import threading

import pytest

from mmsearch.core.records import BuiltIndex, FileStamp
from mmsearch.indexing.background_build import Merge
from mmsearch.indexing.build import MergeStoppedError

BUILT = BuiltIndex("exact", FileStamp("ann/000001.npz", 1, "0" * 64), 1, 1)


def test_nothing_begins_by_itself():
    merge = Merge(lambda: pytest.fail("it began"))
    assert merge.finish() is None
    merge.give_up()


def test_it_begins_once_and_is_waited_for():
    begun, go_on = [], threading.Event()

    def prepare():
        begun.append(threading.current_thread())

        def build(stopped):
            assert threading.current_thread() is not begun[0]
            assert go_on.wait(10)
            return BUILT

        return build

    merge = Merge(prepare)
    merge.begin()
    merge.begin()
    assert begun == [threading.current_thread()]
    go_on.set()
    assert merge.finish() is BUILT
    merge.give_up()


def test_there_may_be_nothing_to_merge():
    merge = Merge(lambda: None)
    merge.begin()
    assert merge.finish() is None


def test_what_is_given_up_ends():
    ended = []

    def build(stopped):
        while not stopped():
            pass
        ended.append(True)
        raise MergeStoppedError

    merge = Merge(lambda: build)
    merge.begin()
    merge.give_up()
    assert ended


def test_a_failure_is_told():
    def build(stopped):
        raise OSError("no room")

    merge = Merge(lambda: build)
    merge.begin()
    with pytest.raises(OSError, match="no room"):
        merge.finish()
