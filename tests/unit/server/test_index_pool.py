"""Indexes by name, opened when they are first asked."""

import threading

import pytest

from mmsearch.core.errors import BusyError, UnknownIndexError
from mmsearch.server.index_pool import IndexPool
from tests.unit.server.test_batcher import FakeIndex


def test_only_what_is_served_is_opened_and_only_once():
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


def test_an_index_that_is_being_opened_is_closed_with_the_others():
    """Its threads would keep the process for ever."""

    def open_index(name):
        closing.start()
        # Long enough for what does not wait.
        closing.join(0.2)
        index = FakeIndex()
        index.name = name
        return index

    index_pool = IndexPool(open_index, lambda: ["a"])
    closing = threading.Thread(target=index_pool.close)
    worker = index_pool.worker("a")
    closing.join()
    assert not any(thread.is_alive() for thread in worker._threads)
