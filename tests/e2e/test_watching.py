"""The installed command watches a folder while files change in it."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mmsearch as library
from mmsearch.api.watch import MAX_SETTLE_WAIT_S, SettleTracker, watch
from mmsearch.core.reports import IndexReport

COMMAND = Path(sys.executable).with_name("mmsearch")


@pytest.fixture
def folder(photos, tmp_path):
    made = tmp_path / "photos"
    (made / "sub").mkdir(parents=True)
    for path in sorted(photos.rglob("*.jpg"))[:6]:
        shutil.copy(path, made / "sub")
    return made


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def watcher(folder, home, environment):
    process = subprocess.Popen(
        [COMMAND, "watch", folder, "--home", home, "--model", "starter", "--settle", "0.5"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "Stopped watching" in err


def names(home):
    try:
        with library.open_index(home=home) as index:
            return {path.name for hit in index.search("a photograph", k=20_000)
                    for path in (hit.path, *hit.copies)}  # fmt: skip
    except library.UsageError:
        return set()


def wait_until(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.2)


@pytest.mark.usefixtures("watcher")
def test_watch_indexes_added_renamed_and_removed_files(folder, home, photos):
    wait_until(lambda: len(names(home)) == 6)
    fresh = sorted(photos.rglob("*.jpg"))[10]
    shutil.copy(fresh, folder / "fresh.jpg")
    wait_until(lambda: "fresh.jpg" in names(home))
    (folder / "sub").rename(folder / "renamed")
    wait_until(lambda: "renamed" in paths(home) and "sub" not in paths(home))
    (folder / "fresh.jpg").unlink()
    wait_until(lambda: len(names(home)) == 6)


def paths(home):
    with library.open_index(home=home) as index:
        return {hit.path.parent.name for hit in index.search("a photograph", k=100)}


@pytest.mark.usefixtures("watcher")
def test_watch_burst_of_ten_thousand_files_is_indexed(folder, home):
    wait_until(lambda: len(names(home)) == 6)
    one = next(iter((folder / "sub").iterdir()))
    many = folder / "many"
    many.mkdir()
    for number in range(10_000):
        os.link(one, many / f"{number}.jpg")
    wait_until(lambda: count_files(home) == 10_006, seconds=240)
    assert len(names(home)) == 10_006


def count_files(home):
    with library.open_index(home=home) as index:
        return index.status().files


def test_watch_file_being_written_is_indexed_once_complete(watcher, folder, home, photos):
    wait_until(lambda: len(names(home)) == 6)
    content = sorted(photos.rglob("*.jpg"))[20].read_bytes()
    with (folder / "slow.jpg").open("wb") as file:
        for start in range(0, len(content), len(content) // 12):
            file.write(content[start : start + len(content) // 12])
            file.flush()
            time.sleep(0.3)
            assert "slow.jpg" not in names(home)
    wait_until(lambda: "slow.jpg" in names(home))
    with library.open_index(home=home) as index:
        assert index.status().failures == ()
    assert watcher.poll() is None


def test_watch_unplugged_folder_keeps_pictures_and_resumes(watcher, folder, home):
    wait_until(lambda: len(names(home)) == 6)
    away = folder.with_name("away")
    folder.rename(away)
    time.sleep(3)
    assert len(names(home)) == 6
    away.rename(folder)
    (folder / "sub" / "more.jpg").write_bytes(next(iter((folder / "sub").iterdir())).read_bytes())
    wait_until(lambda: len(names(home)) == 7)
    assert watcher.poll() is None


def test_watch_empty_mount_point_keeps_pictures_and_resumes(watcher, folder, home):
    wait_until(lambda: len(names(home)) == 6)
    away = folder.with_name("away")
    folder.rename(away)
    folder.mkdir()
    time.sleep(4)
    assert len(names(home)) == 6
    folder.rmdir()
    away.rename(folder)
    (folder / "sub" / "more.jpg").write_bytes(next(iter((folder / "sub").iterdir())).read_bytes())
    wait_until(lambda: len(names(home)) == 7)
    assert watcher.poll() is None


def test_watch_file_added_during_first_run_starts_second_run(folder, home):
    runs = []

    def run(unstable_paths):
        runs.append(unstable_paths)
        if len(runs) == 1:
            (folder / "late.jpg").write_bytes(b"anything")
        return IndexReport(0, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0)

    stop = threading.Event()
    stopping = threading.Timer(20, stop.set)
    stopping.start()
    for _ in watch(
        os.fsencode(folder),
        run,
        index_home=home,
        settle_s=0.1,
        poll=False,
        on_message=print,
        stop=stop,
    ):
        if len(runs) == 2:
            stop.set()
    stopping.cancel()
    assert runs == [frozenset(), frozenset()]


# --- settling of changed files ---


class World:
    def __init__(self):
        self.now = 0.0
        self.sizes = {}

    def tracker(self, settle_s=2.0):
        return SettleTracker(settle_s, lambda: self.now, lambda path: (self.sizes.get(path, 0), 0))


def test_settle_tracker_without_events_is_not_ready():
    assert World().tracker().ready() is None


def test_settle_tracker_file_is_ready_after_settle_time():
    world = World()
    tracker = world.tracker()
    tracker.add(iter(["a"]))
    assert tracker.ready() is None
    world.now = 1.0
    world.sizes["a"] = 5
    assert tracker.ready() is None
    world.now = 2.5
    assert tracker.ready() is None
    world.now = 3.1
    assert tracker.ready() == frozenset()
    assert tracker.ready() is None


def test_settle_tracker_after_max_wait_is_ready_with_unsettled_paths():
    world = World()
    tracker = world.tracker()
    tracker.add(iter(["quiet", "log"]))
    while (ready := tracker.ready()) is None:
        world.now += 1.0
        world.sizes["log"] = int(world.now)
    assert world.now >= MAX_SETTLE_WAIT_S
    assert ready == frozenset({b"log"})
