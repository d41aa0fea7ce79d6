"""Modification times as file systems hold them, and as the catalog does."""

import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.files import EARLIEST_NS, LATEST_NS, stored_mtime_ns

SECOND = 10**9
MINUTES_18 = 18.5 * 60 * SECOND


def stored(ns):
    return stored_mtime_ns(SimpleNamespace(st_mtime_ns=ns))


@given(st.integers(EARLIEST_NS, LATEST_NS))
def test_a_time_of_64_bits_is_kept(ns):
    assert stored(ns) == ns


@pytest.mark.parametrize("exact", [EARLIEST_NS, -1, 0, 1, LATEST_NS])
def test_the_limits_are_kept(exact):
    assert stored(exact) == exact


@given(st.integers(LATEST_NS + 1, 10**24))
def test_a_later_time_becomes_one_of_the_last_minutes(ns):
    assert LATEST_NS - MINUTES_18 < stored(ns) <= LATEST_NS


@given(st.integers(-(10**24), EARLIEST_NS - 1))
def test_an_earlier_time_becomes_one_of_the_first_minutes(ns):
    assert EARLIEST_NS <= stored(ns) < EARLIEST_NS + MINUTES_18


@given(
    st.integers(2**35, 2**50),
    st.integers(1, 60 * 365 * 86_400),
    st.sampled_from([1, -1]),
)
def test_another_time_of_whole_seconds_shows_beyond_the_limits(second, later, sign):
    times = {stored(sign * second * SECOND), stored(sign * (second + later) * SECOND)}
    assert len(times) == 2


def test_a_file_of_this_disk(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, ns=(7, 7))
    assert stored_mtime_ns(path.stat()) == 7
