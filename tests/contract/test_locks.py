"""Contract tests of writer locks, between processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mmsearch.core.errors import IndexLockedError, UsageError
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import IndexFileLock
from tests.contract.conftest import SERVER, place_of


def _advisory_lock(folder):
    from mmsearch.catalog.postgres_lock import AdvisoryLock

    return AdvisoryLock(place_of(folder / "catalog.sqlite"), folder.name)


LOCKS = {
    "file": lambda folder: IndexFileLock(IndexLayout(folder)),
    "postgresql": _advisory_lock,
}
"""Functions that return a lock of an index, by its folder."""

HOLD = """
import sys, time
from pathlib import Path
from tests.contract.test_locks import LOCKS
lock = LOCKS[sys.argv[1]](Path(sys.argv[2]))
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(params=["file", SERVER])
def kind(request):
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    return request.param


@pytest.fixture
def make_lock(kind, tmp_path):
    return lambda: LOCKS[kind](tmp_path)


@pytest.fixture
def other_process(kind, tmp_path):
    """Another process that holds the lock until it gets a line."""

    @contextmanager
    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, kind, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


def test_lock_of_other_process_is_refused_with_its_holder_and_taken_after_release(
    make_lock, other_process
):
    lock = make_lock()
    with other_process() as process:
        with pytest.raises(IndexLockedError, match=f"process {process.pid} on .+ since "):
            lock.acquire()
        assert f"process {process.pid} " in lock.holder
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"
        lock.acquire()
        assert f"process {os.getpid()} " in lock.holder
    lock.release()
    assert lock.holder is None


def test_lock_of_killed_process_is_free(make_lock, other_process):
    lock = make_lock()
    with other_process() as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        lock.acquire(1.0)
        assert f"process {os.getpid()} " in lock.holder
        lock.release()


def test_lock_waits_for_other_process_until_timeout(make_lock, other_process):
    with other_process():
        started = time.monotonic()
        with pytest.raises(IndexLockedError):
            make_lock().acquire(0.3)
        assert 0.3 <= time.monotonic() - started < 5


def test_lock_waits_for_other_process_that_releases_in_time(make_lock, other_process):
    lock = make_lock()
    with other_process() as process:
        process.stdin.write("\n")
        process.stdin.flush()
        lock.acquire(10.0)
        lock.release()


def test_lock_held_in_this_process_is_refused_to_another_object(make_lock):
    first, second = make_lock(), make_lock()
    first.acquire()
    with pytest.raises(IndexLockedError, match=f"process {os.getpid()} "):
        second.acquire()
    second.release()  # It never had the lock, so the first one keeps it.
    with pytest.raises(IndexLockedError):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_lock_refuses_timeout_that_is_no_number(make_lock):
    lock = make_lock()
    with pytest.raises(UsageError, match=r"^The time to wait for another writer is nan\."):
        lock.acquire(float("nan"))
    lock.acquire()
    lock.release()
