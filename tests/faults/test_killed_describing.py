"""A run that is killed while it describes pictures keeps what is committed; the next goes on."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

import mmsearch
from mmsearch.core.reports import Verdict

NUM_PHOTOS = 12
PAGE_SIZE = 4
PROGRAM = f"""
import os, signal, sys
import mmsearch
from mmsearch.maintenance import describe

describe.VECTOR_PAGE_SIZE = {PAGE_SIZE}
described = 0

def kill(state):
    global described
    described += state.phase == "tags" and state.done > 0
    if described and described == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

with mmsearch.open_index(home=sys.argv[1], model="starter") as index:
    index.add_folder(sys.argv[2], describe="tags", progress=kill)
"""


@pytest.fixture
def folder(tmp_path, photos, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    (tmp_path / "photos").mkdir()
    for path in sorted((photos / "photos").glob("*.jpg"))[:NUM_PHOTOS]:
        shutil.copy(path, tmp_path / "photos")
    return tmp_path


def start(folder, *, kill_at=0, fault=""):
    arguments = [folder / "home", folder / "photos", str(kill_at)]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"MMSEARCH_FAULT": fault},
        check=False,
    ).returncode


@pytest.mark.parametrize("kill_at", [1, PAGE_SIZE + 1, NUM_PHOTOS])
def test_run_killed_while_describing_goes_on_where_it_was(folder, kill_at):
    assert start(folder, kill_at=kill_at) == -signal.SIGKILL
    done = (kill_at - 1) // PAGE_SIZE * PAGE_SIZE
    with mmsearch.open_index(home=folder / "home") as index:
        assert len(index.search("anything", k=100, mode="vector", fold=False)) == NUM_PHOTOS
        assert index.check().verdict is Verdict.SOUND
        (work,) = index.status().derived
        assert (work.done, work.left, work.is_wanted) == (done, NUM_PHOTOS - done, True)
        (report,) = index.refresh()["photos"].described
        assert (report.described, report.left) == (NUM_PHOTOS - done, 0)
        assert index.check().verdict is Verdict.SOUND


@pytest.mark.parametrize(
    "fault", ["file_renamed:5", "transaction_begun:12", "transaction_committed:12"]
)
def test_run_killed_at_a_commit_of_texts_leaves_a_sound_index(folder, fault):
    shutil.move(folder / "photos", folder / "aside")
    (folder / "photos").mkdir()
    for path in sorted((folder / "aside").iterdir())[:2]:
        shutil.copy(path, folder / "photos")
    assert start(folder) == 0
    for path in (folder / "aside").iterdir():
        shutil.copy(path, folder / "photos")
    assert start(folder, fault=fault) == -signal.SIGKILL
    with mmsearch.open_index(home=folder / "home") as index:
        assert index.check().verdict is Verdict.SOUND
        # The pictures were indexed, and some were described.
        (work,) = index.status().derived
        assert work.done + work.left == index.status().pictures == NUM_PHOTOS
        assert 2 < work.done < NUM_PHOTOS
        index.refresh()
        assert index.status().derived[0].done == NUM_PHOTOS
        assert index.check().verdict is Verdict.SOUND
