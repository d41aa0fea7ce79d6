"""Modification times as file systems hold them, and as the catalog does."""

import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.files import MAX_MTIME_NS, MIN_MTIME_NS, clamped_mtime_ns

SECOND_NS = 10**9
CLAMP_RANGE_NS = 18.5 * 60 * SECOND_NS


def clamped(ns):
    return clamped_mtime_ns(SimpleNamespace(st_mtime_ns=ns))


@given(st.integers(MIN_MTIME_NS, MAX_MTIME_NS))
def test_a_time_of_64_bits_is_kept(ns):
    assert clamped(ns) == ns


@pytest.mark.parametrize("exact", [MIN_MTIME_NS, -1, 0, 1, MAX_MTIME_NS])
def test_the_limits_are_kept(exact):
    assert clamped(exact) == exact


@given(st.integers(MAX_MTIME_NS + 1, 10**24))
def test_a_later_time_becomes_one_of_the_last_minutes(ns):
    assert MAX_MTIME_NS - CLAMP_RANGE_NS < clamped(ns) <= MAX_MTIME_NS


@given(st.integers(-(10**24), MIN_MTIME_NS - 1))
def test_an_earlier_time_becomes_one_of_the_first_minutes(ns):
    assert MIN_MTIME_NS <= clamped(ns) < MIN_MTIME_NS + CLAMP_RANGE_NS


@given(
    st.integers(2**35, 2**50),
    st.integers(1, 60 * 365 * 86_400),
    st.sampled_from([1, -1]),
)
def test_another_time_of_whole_seconds_shows_beyond_the_limits(seconds, delta_s, sign):
    times = {clamped(sign * seconds * SECOND_NS), clamped(sign * (seconds + delta_s) * SECOND_NS)}
    assert len(times) == 2


def test_a_file_of_this_disk(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, ns=(7, 7))
    assert clamped_mtime_ns(path.stat()) == 7
