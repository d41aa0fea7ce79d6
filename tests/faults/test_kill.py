"""An indexer stopped at any moment keeps committed pictures, and the next run resumes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmsearch as library
from mmsearch.core.errors import UnknownIndexError

COMMAND = Path(sys.executable).with_name("mmsearch")


def pictures(home):
    try:
        with library.open_index(home=home) as index:
            return index.status().pictures
    except UnknownIndexError:
        return 0


@pytest.fixture(scope="session")
def hundred(photos, tmp_path_factory):
    """A folder of a hundred photographs."""
    folder = tmp_path_factory.mktemp("hundred") / "photos"
    folder.mkdir()
    for path in sorted(photos.rglob("*.jpg"))[:100]:
        shutil.copy2(path, folder)
    return folder


@pytest.fixture
def start(hundred, environment):
    """Function that starts the indexer in its own process group, which ends with the test."""
    started = []

    def run(home):
        process = subprocess.Popen(
            [COMMAND, "index", hundred, "--home", home, "--model", "starter"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_a_commit(process, home):
    while process.poll() is None and not pictures(home):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()


def finish(mmsearch, hundred, home, kept):
    report = json.loads(mmsearch("index", hundred, "--home", home, "--json").out)["report"]
    assert report["unchanged"] + report["encoded"] == 100
    assert report["unchanged"] >= kept
    assert pictures(home) == 100
    folder = home / "default"
    assert not list(folder.rglob("*.tmp"))
    with library.open_index(home=home) as index:
        built = index.status().built
        segments = {path.name for path in (folder / "segments").iterdir()}
    assert built.rows == 100
    assert [path.name for path in (folder / "ann").iterdir()].count(built.file_ref.name[4:]) == 1
    assert len(segments) == len(set(segments))


@pytest.fixture(scope="session")
def _compiled(mmsearch):
    mmsearch("models", "compile", "starter")


@pytest.mark.usefixtures("_compiled")
def test_killed_indexer_loses_no_committed_picture(mmsearch, hundred, start, tmp_path):
    home = tmp_path / "home"
    process = start(home)
    wait_for_a_commit(process, home)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = pictures(home)
    assert kept > 0
    assert "still running or killed" in mmsearch("status", "--home", home).out
    with library.open_index(home=home) as index:
        hits = index.search("an animal", k=300, fold=False)
        assert len(hits) == kept
        itself = index.similar(hits[0].path, k=1, fold=False)[0]
        assert (itself.path, itself.score > 0.999) == (hits[0].path, True)
    finish(mmsearch, hundred, home, kept)


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("delay_s", [0.3, 1.1, 2.2, 3.5])
def test_indexer_killed_at_any_moment_leaves_usable_index(
    mmsearch, hundred, start, tmp_path, delay_s
):
    home = tmp_path / "home"
    process = start(home)
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = pictures(home)
    if kept:
        with library.open_index(home=home) as index:
            assert len(index.search("a photograph", k=300, fold=False)) == kept
    finish(mmsearch, hundred, home, kept)


@pytest.mark.usefixtures("_compiled")
def test_indexer_interrupted_reports_kept_pictures_and_resumes(mmsearch, hundred, start, tmp_path):
    home = tmp_path / "home"
    process = start(home)
    wait_for_a_commit(process, home)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    kept = pictures(home)
    assert f"Interrupted: {kept} pictures are in index 'default'".encode() in err
    finish(mmsearch, hundred, home, kept)


@pytest.mark.usefixtures("_compiled")
def test_second_writer_gets_busy_error_or_waits_for_first(mmsearch, hundred, start, tmp_path):
    home = tmp_path / "home"
    process = start(home)
    wait_for_a_commit(process, home)
    done = mmsearch("index", hundred, "--home", home, code=1)
    assert f"is being written by process {process.pid}" in done.err
    assert len(mmsearch("query", "a dog", "--home", home).out.splitlines()) == 10
    waited = mmsearch("index", hundred, "--home", home, "--wait", "120")
    assert "100 unchanged" in waited.out
    assert process.wait(60) == 0
    process.communicate()
