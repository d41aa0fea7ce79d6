"""SIGKILL at every step of a commit, and at random moments."""

import random

import pytest

from mmsearch.factories import catalogs
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import find_orphans
from tests.faults.conftest import TOYS, content_of, index_in_process, same, verify

TIMES = {
    FailPoint.CATALOG_MADE: (1,),
    FailPoint.CATALOG_NAMED: (1,),
    FailPoint.CATALOG_CLOSED: (1,),
    FailPoint.TRANSACTION_BEGUN: (1, 6, 9, 11),
    FailPoint.TRANSACTION_READY: (6, 9, 10, 11),
    FailPoint.TRANSACTION_COMMITTED: (6, 9, 10, 11),
}
"""Visits of fail points at which the process is killed, around each commit."""
FILES = (1, 2, 3, 4)
"""Visits of the other points: the seal, the seal with its folder, a segment, the vector index."""

ELSEWHERE = {FailPoint.ORPHAN_REMOVED, FailPoint.FILE_SENT, FailPoint.FILE_RECEIVED}
"""Points that such a run does not reach: those of stores are in test_stored_index.py."""

KILLS, HOMES = 100, 20


def list_orphans(home):
    layout = IndexLayout(home / "default")
    with catalogs.open_read(layout) as catalog:
        return find_orphans(layout, catalog.referenced_files())


def finish(few_photos, home, undisturbed):
    index_in_process(few_photos, home)
    verify(home, undisturbed)
    assert same(content_of(home), undisturbed)
    assert list_orphans(home) == []


@pytest.mark.parametrize(
    ("point", "visit"),
    [
        (point, visit)
        for point in FailPoint
        if point not in ELSEWHERE
        for visit in TIMES.get(point, FILES)
    ],
)
def test_indexer_killed_at_commit_step_leaves_sound_index(
    point, visit, few_toys, undisturbed_toys, run_indexer, tmp_path
):
    done = run_indexer(few_toys, tmp_path, MMSEARCH_FAULT=f"{point}:{visit}", **TOYS)
    assert done.returncode == -9, done.stderr
    verify(tmp_path, undisturbed_toys)
    finish(few_toys, tmp_path, undisturbed_toys)


@pytest.mark.parametrize("point", [FailPoint.FILE_RENAMED, FailPoint.TRANSACTION_COMMITTED])
def test_indexer_of_photographs_killed_at_commit_step_leaves_sound_index(
    point, few_photos, undisturbed, run_indexer, tmp_path
):
    done = run_indexer(few_photos, tmp_path, MMSEARCH_FAULT=f"{point}:3")
    assert done.returncode == -9, done.stderr
    verify(tmp_path, undisturbed)
    finish(few_photos, tmp_path, undisturbed)


def test_indexer_killed_while_removing_orphans_recovers_on_next_run(
    few_toys, undisturbed_toys, run_indexer, tmp_path
):
    run_indexer(few_toys, tmp_path, MMSEARCH_FAULT=f"{FailPoint.FILE_PUBLISHED}:3", **TOYS)
    assert len(list_orphans(tmp_path)) == 1
    fault = f"{FailPoint.ORPHAN_REMOVED}:1"
    done = run_indexer(few_toys, tmp_path, MMSEARCH_FAULT=fault, **TOYS)
    assert done.returncode == -9
    finish(few_toys, tmp_path, undisturbed_toys)


def test_fail_points_without_fault_setting_change_nothing(
    few_photos, undisturbed, run_indexer, tmp_path
):
    assert run_indexer(few_photos, tmp_path).returncode == 3
    assert same(content_of(tmp_path), undisturbed)


@pytest.mark.parametrize("series", range(HOMES))
def test_indexer_killed_at_random_moments_leaves_sound_index(
    series, few_toys, undisturbed_toys, run_indexer, tmp_path
):
    rng = random.Random(series)
    for _ in range(KILLS // HOMES):
        # A run takes a third of a second.
        run_indexer(
            few_toys, tmp_path, MMSEARCH_TEST_KILL_AFTER_S=str(rng.uniform(0.02, 0.5)), **TOYS
        )
        verify(tmp_path, undisturbed_toys)
    finish(few_toys, tmp_path, undisturbed_toys)
