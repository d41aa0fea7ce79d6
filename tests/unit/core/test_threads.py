"""Work that threads share: nothing is lost, and nobody is waited for in vain."""

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
def test_each_is_done_once_and_stands_in_its_place(items):
    done = []

    def double(item):
        done.append(item)
        return 2 * item

    assert parallel_map(double, items) == [2 * item for item in items]
    assert sorted(done) == sorted(items)


def test_as_many_threads_as_there_are_processors():
    barrier = threading.Barrier(3)
    assert sorted(parallel_map(lambda _: barrier.wait(10), range(3))) == [0, 1, 2]


def test_a_single_item_stays_with_the_caller():
    assert parallel_map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


def test_helpers_that_are_busy_are_not_waited_for():
    started, end = threading.Barrier(3), threading.Event()

    def busy():
        started.wait(10)
        end.wait(10)

    helpers = [threads._helper_pool().submit(busy) for _ in range(2)]
    started.wait(10)
    assert parallel_map(lambda item: item, range(4)) == [0, 1, 2, 3]
    assert not any(helper.done() for helper in helpers)
    end.set()


def test_work_that_is_shared_again():
    assert parallel_map(lambda item: sum(parallel_map(abs, range(item))), range(6)) == [
        0,
        0,
        1,
        3,
        6,
        10,
    ]


class NonEmptyDeque(deque):
    """Says that something is left when another thread has just taken the last item."""

    def __len__(self):
        return max(1, super().__len__())


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_the_last_item_may_go_to_another_thread(monkeypatch, count):
    monkeypatch.setattr(threads, "deque", NonEmptyDeque)
    assert parallel_map(abs, range(-count, 0)) == list(range(count, 0, -1))


def test_an_index_error_of_the_work_is_an_error():
    with pytest.raises(IndexError, match="of the work"):
        parallel_map(_fail, range(3))


def _fail(item):
    raise IndexError("of the work")


@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_error_ends_it(where):
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
def test_a_forked_process_has_helpers_of_its_own():
    test_as_many_threads_as_there_are_processors()
    child = os.fork()
    if not child:
        # Not to wait for ever for threads that are not there.
        signal.alarm(30)
        test_as_many_threads_as_there_are_processors()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


LATE_THREAD_SCRIPT = """
import threading, time
from mmsearch.core import threads
threads.processors = lambda: 3
def later():
    threading.main_thread().join()
    time.sleep(0.2)
    print(threads.parallel_map(abs, [-1, -2, -3]), flush=True)
threading.Thread(target=later).start()
"""


def test_a_thread_that_outlives_the_main_one_works_alone():
    done = subprocess.run(
        [sys.executable, "-c", LATE_THREAD_SCRIPT], capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == (b"[1, 2, 3]\n", b"")
