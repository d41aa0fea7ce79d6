"""Tests of the index pool, which opens each index at its first use."""

import threading

import pytest

from mmsearch.core.errors import BusyError, UnknownIndexError
from mmsearch.server.batcher import IndexPool
from tests.unit.server.test_batcher import FakeIndex


def test_index_pool_opens_only_served_indexes_and_each_once():
    opened = []

    def open_index(name):
        opened.append(name)
        index = FakeIndex()
        index.name = name
        return index

    index_pool = IndexPool(open_index, lambda: ["a"])
    assert index_pool.worker("a") is index_pool.worker("a")
    with pytest.raises(UnknownIndexError, match="no index 'b' here"):
        index_pool.worker("b")
    index_pool.close()
    assert opened == ["a"]
    with pytest.raises(BusyError):
        index_pool.worker("a").run_blocking(lambda index: 1)


def test_index_pool_close_while_opening_stops_worker_threads():
    """Check that closing ends the worker threads, which would keep the process alive."""

    def open_index(name):
        closing.start()
        # A close that does not wait ends within this time.
        closing.join(0.2)
        index = FakeIndex()
        index.name = name
        return index

    index_pool = IndexPool(open_index, lambda: ["a"])
    closing = threading.Thread(target=index_pool.close)
    worker = index_pool.worker("a")
    closing.join()
    assert not any(thread.is_alive() for thread in worker._threads)
