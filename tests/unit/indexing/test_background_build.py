"""A background merge starts once and is either awaited or cancelled."""

import threading

import pytest

from mmsearch.core.records import BuiltVectorIndex, FileRef
from mmsearch.indexing.build import BackgroundBuild, BuildCancelledError

BUILT = BuiltVectorIndex("exact", FileRef("ann/000001.vectors", 1, "0" * 64), 1, 1)


def test_background_build_not_started_returns_none():
    background_build = BackgroundBuild(lambda: pytest.fail("it began"))
    assert background_build.wait() is None
    background_build.cancel()


def test_background_build_started_twice_prepares_once_and_returns_result():
    started, check_cancelled = [], threading.Event()

    def prepare():
        started.append(threading.current_thread())

        def build(should_stop):
            assert threading.current_thread() is not started[0]
            assert check_cancelled.wait(10)
            return BUILT

        return build

    background_build = BackgroundBuild(prepare)
    background_build.start()
    background_build.start()
    assert started == [threading.current_thread()]
    check_cancelled.set()
    assert background_build.wait() is BUILT
    background_build.cancel()


def test_background_build_with_nothing_to_merge_returns_none():
    background_build = BackgroundBuild(lambda: None)
    background_build.start()
    assert background_build.wait() is None


def test_background_build_cancel_waits_for_build_to_stop():
    ended = []

    def build(should_stop):
        while not should_stop():
            pass
        ended.append(True)
        raise BuildCancelledError

    background_build = BackgroundBuild(lambda: build)
    background_build.start()
    background_build.cancel()
    assert ended


def test_background_build_failure_is_raised_by_wait():
    def build(should_stop):
        raise OSError("no room")

    background_build = BackgroundBuild(lambda: build)
    background_build.start()
    with pytest.raises(OSError, match="no room"):
        background_build.wait()
