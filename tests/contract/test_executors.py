"""Every executor, held to its seam."""

import os
import time
from functools import partial

import pytest

from mmsearch.core import plugins
from mmsearch.core.errors import DecodeError
from mmsearch.core.requests import TaskFailure
from mmsearch.executors import local, processes

BUILDERS = {"local": partial(local.build, 2), "processes": partial(processes.build, 2, 60.0)}


class Doubler:
    def __call__(self, task):
        if task == 13:
            raise DecodeError("thirteen is refused")
        if task == 666:
            raise ZeroDivisionError("a fault of the program")
        return task * 2


def make_doubler():
    return Doubler()


class Hostile:
    def __call__(self, task):
        if task == "crash":
            os._exit(3)
        if task == "hang":
            time.sleep(600)
        return task


def make_hostile():
    return Hostile()


class Identity:
    def __init__(self):
        self.token = os.urandom(8)

    def __call__(self, task):
        return os.getpid(), self.token


def make_identity():
    return Identity()


@pytest.fixture(params=plugins.names("executors"))
def executor(request):
    executor = BUILDERS[request.param]()
    yield executor
    executor.close()


def test_no_task_is_lost_or_doubled(executor):
    results = list(executor.run(make_doubler, range(50, 150)))
    assert sorted(task for task, _ in results) == list(range(50, 150))
    assert all(result == task * 2 for task, result in results)


def test_no_task_gives_no_result(executor):
    assert list(executor.run(make_doubler, [])) == []


def test_a_refused_item_is_a_failure_with_its_reason(executor):
    results = dict(executor.run(make_doubler, [12, 13, 14]))
    assert results == {12: 24, 13: TaskFailure("thirteen is refused"), 14: 28}


def test_a_fault_of_the_program_is_not_taken_for_a_bad_item(executor):
    with pytest.raises(ZeroDivisionError):
        list(executor.run(make_doubler, [1, 666, 2]))


def test_tasks_are_drawn_only_as_far_ahead_as_needed(executor):
    drawn = []

    def tasks():
        for number in range(1000):
            drawn.append(number)
            yield number

    stream = executor.run(make_doubler, tasks())
    for _ in range(3):
        next(stream)
    stream.close()
    assert len(drawn) < 30


def test_a_second_run_works_after_an_abandoned_one(executor):
    stream = executor.run(make_doubler, range(100, 200))
    next(stream)
    stream.close()
    assert dict(executor.run(make_doubler, [4, 5])) == {4: 8, 5: 10}


def test_the_worker_is_made_once_a_process(executor):
    results = [result for _, result in executor.run(make_identity, range(40))]
    assert len(set(results)) == len({pid for pid, _ in results})


def test_a_crashing_and_a_hanging_task_cost_only_themselves():
    executor = processes.build(2, 3.0)
    try:
        tasks = ["a", "crash", "b", "hang", "c", "d", "crash", "e"]
        results = list(executor.run(make_hostile, tasks))
    finally:
        executor.close()
    assert [task for task, _ in results] == tasks
    for task, result in results:
        if task in ("crash", "hang"):
            assert isinstance(result, TaskFailure)
            assert result.crashed
        else:
            assert result == task


def test_closing_releases_a_thread_that_waits_for_results():
    from concurrent.futures import CancelledError, ThreadPoolExecutor

    executor = processes.build(2, 600.0)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: list(executor.run(make_hostile, ["hang"] * 20)))
        time.sleep(3)
        executor.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=30)
