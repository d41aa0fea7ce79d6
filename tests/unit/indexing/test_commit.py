import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.indexing import commit
from mmsearch.indexing.commit import (
    CLUSTER_COMMIT_INTERVAL_S,
    COMMIT_INTERVAL_S,
    INITIAL_SHARD_SIZE,
    MAX_SHARD_SIZE,
    MIN_SHARD_SIZE,
    WORKER_SHARD_S,
    ShardSizer,
)
from tests.stopped_clock import StoppedClock, stop_clock


@pytest.fixture
def clock(monkeypatch):
    return stop_clock(monkeypatch, commit)


def run_shards(clock, workers, contents_per_s, shards, sizer):
    """Encode shards in rounds of one per worker that all end at once; yield size and seconds."""
    done = 0
    while done < shards:
        sizes = []
        for _ in range(workers):
            sizes.append(sizer.size)
            sizer.start_shard(sizes[-1])
        seconds = sum(sizes) / contents_per_s
        clock.now_s += seconds
        for size in sizes:
            sizer.commit_shard(size)
        done += workers
        yield sizer.size, seconds / workers


@pytest.mark.parametrize("workers", [1, 2, 16])
@pytest.mark.parametrize("contents_per_s", [5, 40, 1_000, 6_000])
@pytest.mark.parametrize("on_cluster", [False, True])
def test_shard_sizer_keeps_the_interval_between_commits_also_if_shards_end_together(
    clock, workers, contents_per_s, on_cluster
):
    expected_s = COMMIT_INTERVAL_S
    if on_cluster:
        expected_s = min(CLUSTER_COMMIT_INTERVAL_S, WORKER_SHARD_S / workers)
    sizer = ShardSizer(workers if on_cluster else 0)
    *_, (size, interval_s) = run_shards(clock, workers, contents_per_s, 40 * workers, sizer)
    assert size == pytest.approx(max(contents_per_s * expected_s, MIN_SHARD_SIZE), rel=0.02)
    assert interval_s == pytest.approx(max(expected_s, size / contents_per_s), rel=0.02)


@given(st.integers(2, 64), st.integers(0, 100_000), st.floats(0, 1))
def test_shard_sizer_leaves_work_for_all_workers_of_a_cluster_until_the_end(workers, total, known):
    sizer = ShardSizer(workers)
    sizer._size = MAX_SHARD_SIZE
    sizer.left = total
    sizes = []
    for _ in range(int(total * known)):
        sizer.skip_content()
    while sizer.left > 0:
        sizes.append(min(sizer.size, sizer.left))
        assert sizes[-1] <= max(MIN_SHARD_SIZE, sizer.left / workers)
        sizer.start_shard(sizes[-1])
    assert sum(sizes) == total - int(total * known)
    assert len(sizes) <= total / MIN_SHARD_SIZE + 1


def test_shard_sizer_of_one_worker_does_not_make_the_last_shards_smaller(clock):
    for workers in (0, 1):
        sizer = ShardSizer(workers)
        sizer.left = 20
        assert sizer.size == INITIAL_SHARD_SIZE


def test_shard_sizer_time_before_the_first_shard_does_not_count(clock):
    sizer = ShardSizer()
    clock.now_s += 600
    assert sizer.size == INITIAL_SHARD_SIZE
    sizer.start_shard(32)
    clock.now_s += 0.5
    sizer.commit_shard(32)
    assert sizer.size == 256


def test_shard_sizer_follows_a_change_of_speed_within_two_intervals(clock):
    sizer = ShardSizer()
    sizer.start_shard(32)
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
    clock = StoppedClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "time", clock)
        sizer = ShardSizer()
        sizer.start_shard(32)
        started_s = clock.now_s
        for seconds, count in commits:
            clock.now_s += seconds
            sizer.commit_shard(count)
            assert MIN_SHARD_SIZE <= sizer.size <= MAX_SHARD_SIZE
        if clock.now_s - started_s >= COMMIT_INTERVAL_S:
            assert sizer.size <= max(MIN_SHARD_SIZE, sum(count for _, count in commits))


def test_shard_sizer_of_a_cluster_does_not_count_the_time_in_which_models_are_loaded(clock):
    sizer = ShardSizer(cluster_workers=2)
    sizer.start_shard(32)
    sizer.start_shard(32)
    clock.now_s += 600
    sizer.commit_shard(32)
    assert sizer.size == INITIAL_SHARD_SIZE
    # Both at once: no speed can be told from that.
    sizer.commit_shard(32)
    assert sizer.size == 32 * CLUSTER_COMMIT_INTERVAL_S
    clock.now_s += 4
    sizer.commit_shard(32)
    assert sizer.size == (32 + 32) / 4 * CLUSTER_COMMIT_INTERVAL_S
