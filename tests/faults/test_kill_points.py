"""SIGKILL at every step of a commit, and at random moments."""

import random
import subprocess
import time

import pytest

from mmsearch.factories import catalogs
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from tests.faults.conftest import (
    COMMAND,
    content_of,
    index_in_process,
    kill_group,
    run_indexer,
    same,
    verify,
)

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

KILLS, HOMES = 100, 20


def find_orphans(home):
    layout = IndexLayout(home / "default")
    with catalogs.open_read(layout) as catalog:
        return layout.find_orphans(catalog.referenced_files())


def finish(few_photos, home, undisturbed):
    index_in_process(few_photos, home)
    verify(home, undisturbed)
    assert same(content_of(home), undisturbed)
    assert find_orphans(home) == []


@pytest.mark.parametrize(
    ("point", "visit"),
    [
        (point, visit)
        for point in FailPoint
        if point is not FailPoint.ORPHAN_REMOVED
        for visit in TIMES.get(point, FILES)
    ],
)
def test_indexer_killed_at_commit_step_leaves_sound_index(
    point, visit, few_photos, undisturbed, environment, tmp_path
):
    done = run_indexer(few_photos, tmp_path, environment, fault=f"{point}:{visit}")
    assert done.returncode == -9, done.stderr
    verify(tmp_path, undisturbed)
    finish(few_photos, tmp_path, undisturbed)


def test_indexer_killed_while_removing_orphans_recovers_on_next_run(
    few_photos, undisturbed, environment, tmp_path
):
    run_indexer(few_photos, tmp_path, environment, fault=f"{FailPoint.FILE_PUBLISHED}:3")
    assert len(find_orphans(tmp_path)) == 1
    done = run_indexer(few_photos, tmp_path, environment, fault=f"{FailPoint.ORPHAN_REMOVED}:1")
    assert done.returncode == -9
    finish(few_photos, tmp_path, undisturbed)


def test_fail_points_without_fault_setting_change_nothing(
    few_photos, undisturbed, environment, tmp_path
):
    assert run_indexer(few_photos, tmp_path, environment).returncode == 3
    assert same(content_of(tmp_path), undisturbed)


@pytest.mark.parametrize("series", range(HOMES))
def test_indexer_killed_at_random_moments_leaves_sound_index(
    series, few_photos, undisturbed, environment, tmp_path
):
    rng = random.Random(series)
    for _ in range(KILLS // HOMES):
        process = subprocess.Popen(
            [COMMAND, "index", few_photos, "--home", tmp_path, "--model", "starter"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # Starting takes about a second here, the work another one.
        time.sleep(rng.uniform(0.4, 2.2))
        kill_group(process)
        verify(tmp_path, undisturbed)
    finish(few_photos, tmp_path, undisturbed)
