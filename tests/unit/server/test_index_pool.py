"""Indexes by name, opened when they are first asked."""

import threading

import pytest

from mmsearch.core.errors import BusyError, UnknownIndexError
from mmsearch.server.index_pool import Desks
from tests.unit.server.test_batcher import ToyIndex


def test_only_what_is_served_is_opened_and_only_once():
    opened = []

    def open_index(name):
        opened.append(name)
        index = ToyIndex()
        index.name = name
        return index

    desks = Desks(open_index, lambda: ["a"])
    assert desks.desk("a") is desks.desk("a")
    with pytest.raises(UnknownIndexError, match="no index 'b' here"):
        desks.desk("b")
    desks.close()
    assert opened == ["a"]
    with pytest.raises(BusyError):
        desks.desk("a").wait_for(lambda index: 1)


def test_an_index_that_is_being_opened_is_closed_with_the_others():
    """Its threads would keep the process for ever."""

    def open_index(name):
        closing.start()
        # Long enough for what does not wait.
        closing.join(0.2)
        index = ToyIndex()
        index.name = name
        return index

    desks = Desks(open_index, lambda: ["a"])
    closing = threading.Thread(target=desks.close)
    desk = desks.desk("a")
    closing.join()
    assert not any(thread.is_alive() for thread in desk._threads)
