"""``parallel_map`` processes every item and does not wait for busy helpers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core import threads
from mmsearch.core.threads import parallel_map


@pytest.fixture(autouse=True, scope="module")
def three_cpus():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "available_cpus", lambda: 3)
        threads._helper_pool.cache_clear()
        yield
    threads._helper_pool.cache_clear()


@given(st.lists(st.integers(), max_size=20))
@settings(deadline=None)
def test_parallel_map_processes_each_item_once_and_keeps_order(items):
    done = []

    def double(item):
        done.append(item)
        return 2 * item

    assert parallel_map(double, items) == [2 * item for item in items]
    assert sorted(done) == sorted(items)


def test_parallel_map_uses_one_thread_per_cpu():
    barrier = threading.Barrier(3)
    assert sorted(parallel_map(lambda _: barrier.wait(10), range(3))) == [0, 1, 2]


def test_parallel_map_single_item_runs_in_calling_thread():
    assert parallel_map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_parallel_map_with_busy_helpers_finishes_without_them():
    started, end = threading.Barrier(3), threading.Event()

    def busy():
        started.wait(10)
        end.wait(10)

    helpers = [threads._helper_pool().submit(busy) for _ in range(2)]
    started.wait(10)
    assert parallel_map(lambda item: item, range(4)) == [0, 1, 2, 3]
    assert not any(helper.done() for helper in helpers)
    end.set()


def test_parallel_map_nested_call_returns_results():
    assert parallel_map(lambda item: sum(parallel_map(abs, range(item))), range(6)) == [
        0,
        0,
        1,
        3,
        6,
        10,
    ]


class NonEmptyDeque(deque):
    """Deque that reports an item although another thread has just taken the last one."""

    def __len__(self):
        return max(1, super().__len__())


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_parallel_map_last_item_taken_by_other_thread_returns_all_results(monkeypatch, count):
    monkeypatch.setattr(threads, "deque", NonEmptyDeque)
    assert parallel_map(abs, range(-count, 0)) == list(range(count, 0, -1))


def test_parallel_map_index_error_in_work_is_raised():
    with pytest.raises(IndexError, match="of the work"):
        parallel_map(_fail, range(3))


def _fail(item):
    raise IndexError("of the work")


@pytest.mark.parametrize("where", [0, 1, 2])
def test_parallel_map_error_in_work_stops_remaining_items(where):
    barrier = threading.Barrier(3)
    done = []

    def work(item):
        done.append(item)
        if item < 3:
            barrier.wait(10)
        if item == where:
            raise KeyError(item)
        time.sleep(0.01)
        return item

    with pytest.raises(KeyError, match=str(where)):
        parallel_map(work, range(1000))
    assert len(done) < 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_parallel_map_in_forked_process_uses_one_thread_per_cpu():
    test_parallel_map_uses_one_thread_per_cpu()
    child = os.fork()
    if not child:
        # The alarm ends the child if it waits for threads that do not exist.
        signal.alarm(30)
        test_parallel_map_uses_one_thread_per_cpu()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


LATE_THREAD_SCRIPT = """
import threading, time
from mmsearch.core import threads
threads.available_cpus = lambda: 3
def later():
    threading.main_thread().join()
    time.sleep(0.2)
    print(threads.parallel_map(abs, [-1, -2, -3]), flush=True)
threading.Thread(target=later).start()
"""


def test_parallel_map_after_main_thread_ended_returns_results():
    done = subprocess.run(
        [sys.executable, "-c", LATE_THREAD_SCRIPT], capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"[1, 2, 3]\n", b"")


def test_memory_is_that_of_the_computer_or_less():
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000
    assert 0 < threads.available_memory_mb() <= whole


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(threads, "Path", lambda path: tmp_path / "none")
    assert threads.available_memory_mb() is None
