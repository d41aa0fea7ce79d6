"""Pairs of duplicates among made hashes, vectors and times."""

import numpy as np
import pytest

from mmsearch.core.duplicates import NO_TIME, PictureLooks
from mmsearch.indexing.duplicates import (
    BURST_GAP_S,
    MAX_BURST_GAP_S,
    SERIES_GAP_S,
    TYPICAL_BASELINE,
    find_pairs,
)

NEVER = 10**6
BACKGROUND = np.int64(-(2**63))


class MadeRows:
    """Two vectors of a cosine similarity."""

    def __init__(self, cosine):
        self._vectors = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], dtype=np.float32)

    def vectors(self, ids):
        return self._vectors[ids]


def kind(similarity, distance, gap_s, *, cameras=(0, 0), background=False):
    """Return "near", "burst" or None for two pictures, from their relative similarity."""
    hashes = np.array([1 << 40, (1 << 40) ^ ((1 << distance) - 1)], dtype=np.int64)
    if background:
        hashes |= BACKGROUND
    taken_s = [1000, NO_TIME if gap_s == NEVER else 1000 + gap_s]
    ids = np.arange(2)
    looks = PictureLooks(ids, ids, hashes, np.array(taken_s), np.array(cameras, dtype=np.int32))
    rows = MadeRows(TYPICAL_BASELINE + similarity * (1 - TYPICAL_BASELINE))
    pairs = find_pairs(looks, np.ones(2, dtype=bool), rows, TYPICAL_BASELINE)
    found = [name for name in ("near", "burst") if len(getattr(pairs, name))]
    return found[0] if found else None


@pytest.mark.parametrize("gap_s", [1, SERIES_GAP_S])
def test_frames_within_seconds_are_a_burst(gap_s):
    assert kind(0.80, 20, gap_s) == "burst"
    assert kind(0.75, 20, gap_s) is None
    assert kind(0.93, 32, gap_s) == "burst"


@pytest.mark.parametrize("gap_s", [SERIES_GAP_S + 1, BURST_GAP_S])
def test_later_frames_are_more_alike(gap_s):
    assert kind(0.80, 20, gap_s) is None
    assert kind(0.85, 20, gap_s) == "burst"
    assert kind(0.93, 32, gap_s) is None


def test_after_half_a_minute_only_near_duplicates_are_a_burst():
    assert kind(0.85, 20, BURST_GAP_S + 1) is None
    assert kind(0.87, 20, BURST_GAP_S + 1) == "burst"
    assert kind(0.87, 20, MAX_BURST_GAP_S) == "burst"
    assert kind(0.87, 20, MAX_BURST_GAP_S + 1) == "near"


@pytest.mark.parametrize(
    ("similarity", "distance", "expected"),
    [
        (0.21, 4, "near"),
        (0.75, 12, "near"),
        (0.72, 12, None),
        (0.83, 16, "near"),
        (0.91, 24, "near"),
        (0.89, 24, None),
        (0.99, 25, None),
    ],
)
def test_near_duplicates_need_more_similarity_the_further_their_hashes(
    similarity, distance, expected
):
    assert kind(similarity, distance, NEVER) == expected


def test_copies_that_kept_the_time_are_one_stack():
    assert kind(0.85, 20, 0) == "burst"
    assert kind(0.85, 20, NEVER) is None


def test_frames_of_two_cameras_are_no_burst():
    assert kind(0.80, 20, 2, cameras=(0, 1)) is None
    assert kind(0.80, 20, 2, cameras=(0, -1)) == "burst"


def test_pictures_of_windows_are_no_burst():
    # No camera has taken them.
    assert kind(0.98, 12, 2, cameras=(-1, -1), background=True) is None
    assert kind(0.98, 12, 2, background=True) == "burst"
    assert kind(0.98, 12, SERIES_GAP_S + 1, background=True) is None
