import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.indexing import commit
from mmsearch.indexing.commit import (
    COMMIT_INTERVAL_S,
    INITIAL_SHARD_SIZE,
    MAX_SHARD_SIZE,
    MIN_SHARD_SIZE,
    ShardSizer,
)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(commit, "time", clock)
    return clock


def run_shards(clock, workers, contents_per_s, shards):
    """Encode shards in rounds of one per worker that all end at once; yield size and seconds."""
    sizer = ShardSizer()
    done = 0
    while done < shards:
        sizes = []
        for _ in range(workers):
            sizer.start_shard()
            sizes.append(sizer.size)
        seconds = sum(sizes) / contents_per_s
        clock.now_s += seconds
        for size in sizes:
            sizer.commit_shard(size)
        done += workers
        yield sizer.size, seconds / workers


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("contents_per_s", [5, 40, 1_000, 10_000])
def test_shard_sizer_keeps_the_interval_between_commits_also_if_shards_end_together(
    clock, workers, contents_per_s
):
    *_, (size, interval_s) = run_shards(clock, workers, contents_per_s, 40 * workers)
    assert size == pytest.approx(max(contents_per_s * COMMIT_INTERVAL_S, MIN_SHARD_SIZE), rel=0.01)
    assert interval_s == pytest.approx(max(COMMIT_INTERVAL_S, size / contents_per_s), rel=0.01)


def test_shard_sizer_time_before_the_first_shard_does_not_count(clock):
    sizer = ShardSizer()
    clock.now_s += 600
    assert sizer.size == INITIAL_SHARD_SIZE
    sizer.start_shard()
    clock.now_s += 0.5
    sizer.commit_shard(32)
    assert sizer.size == 256


def test_shard_sizer_follows_a_change_of_speed_within_two_intervals(clock):
    sizer = ShardSizer()
    sizer.start_shard()
    for _ in range(20):
        clock.now_s += COMMIT_INTERVAL_S
        sizer.commit_shard(4_000)
    assert sizer.size == 4_000
    for _ in range(2):
        clock.now_s += COMMIT_INTERVAL_S
        sizer.commit_shard(40)
    assert sizer.size == 40


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 100_000)), min_size=1, max_size=30))
def test_shard_sizer_size_is_in_range_and_never_exceeds_what_an_interval_encoded(commits):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "time", clock)
        sizer = ShardSizer()
        sizer.start_shard()
        started_s = clock.now_s
        for seconds, count in commits:
            clock.now_s += seconds
            sizer.commit_shard(count)
            assert MIN_SHARD_SIZE <= sizer.size <= MAX_SHARD_SIZE
        if clock.now_s - started_s >= COMMIT_INTERVAL_S:
            assert sizer.size <= max(MIN_SHARD_SIZE, sum(count for _, count in commits))
