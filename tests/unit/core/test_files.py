"""Conversion of modification times from the file system to the catalog."""

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
def test_clamped_mtime_within_64_bits_is_unchanged(ns):
    assert clamped(ns) == ns


@pytest.mark.parametrize("exact", [MIN_MTIME_NS, -1, 0, 1, MAX_MTIME_NS])
def test_clamped_mtime_at_limits_and_around_zero_is_unchanged(exact):
    assert clamped(exact) == exact


@given(st.integers(MAX_MTIME_NS + 1, 10**24))
def test_clamped_mtime_after_maximum_falls_in_last_minutes(ns):
    assert MAX_MTIME_NS - CLAMP_RANGE_NS < clamped(ns) <= MAX_MTIME_NS


@given(st.integers(-(10**24), MIN_MTIME_NS - 1))
def test_clamped_mtime_before_minimum_falls_in_first_minutes(ns):
    assert MIN_MTIME_NS <= clamped(ns) < MIN_MTIME_NS + CLAMP_RANGE_NS


@given(
    st.integers(2**35, 2**50),
    st.integers(1, 60 * 365 * 86_400),
    st.sampled_from([1, -1]),
)
def test_clamped_mtime_beyond_limits_differs_for_different_seconds(seconds, delta_s, sign):
    times = {clamped(sign * seconds * SECOND_NS), clamped(sign * (seconds + delta_s) * SECOND_NS)}
    assert len(times) == 2


def test_clamped_mtime_of_file_on_disk_equals_its_mtime(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.utime(path, ns=(7, 7))
    assert clamped_mtime_ns(path.stat()) == 7
