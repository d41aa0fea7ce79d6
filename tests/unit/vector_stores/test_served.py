from unittest.mock import patch

import numpy as np
import pytest

from mmsearch.vector_stores import _served
from mmsearch.vector_stores._served import CollectionReader


class Collection:
    """A collection of 10 rows, of which some cannot be found now.

    Attributes:
        missing: Their number.
        counts: How often the server was asked.
    """

    rows = 10

    def __init__(self):
        self.missing = self.counts = 0

    def count(self):
        self.counts += 1
        return self.rows - self.missing


@pytest.fixture
def clock():
    with patch.object(_served.time, "monotonic") as clock:
        clock.return_value = 100.0
        yield clock


@pytest.fixture
def reader(clock):
    return CollectionReader((), "build", Collection(), np.empty(0, np.int64), None, "server")


def test_rows_are_counted_at_most_once_a_second(reader, clock):
    for _ in range(5):
        assert reader.count_missing() == 0
        clock.return_value += 0.19
    assert reader.collection.counts == 1
    clock.return_value += 0.1
    reader.collection.missing = 3
    assert reader.count_missing() == 3
    assert reader.collection.counts == 2


def test_rows_that_come_back_were_missing_in_the_search_before(reader, clock):
    reader.collection.missing = 4
    assert reader.count_missing() == 4
    clock.return_value += 1.0
    reader.collection.missing = 0
    assert reader.count_missing() == 4
    clock.return_value += 1.0
    assert reader.count_missing() == 0


def test_count_of_long_ago_says_nothing_of_this_search(reader, clock):
    reader.collection.missing = 4
    assert reader.count_missing() == 4
    clock.return_value += 60.0
    reader.collection.missing = 0
    assert reader.count_missing() == 0
