"""Contract tests that run on every executor."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from mmsearch.core import plugins
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DeadlineError, DecodeError
from mmsearch.core.results import TaskFailure
from mmsearch.executors import processes, ray, threads
from tests.cluster import services

BUILDERS = {
    "threads": partial(threads.build, 2),
    "processes": partial(processes.build, 2, 60.0),
    "ray": partial(ray.build, 2, "local"),
}
EXECUTORS = [
    pytest.param(name, marks=services.MARKS) if name == "ray" else name
    for name in plugins.names("executors")
]


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


@pytest.fixture(scope="module")
def ray_executor(tmp_path_factory):
    """One cluster for all tests: it takes seconds to start."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Ray keeps the token of a cluster of its own there.
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        executor = BUILDERS["ray"]()
        yield executor
        executor.close()


@pytest.fixture(params=EXECUTORS)
def executor(request):
    if request.param == "ray":
        yield request.getfixturevalue("ray_executor")
        return
    executor = BUILDERS[request.param]()
    yield executor
    executor.close()


def test_executor_returns_each_task_exactly_once(executor):
    results = list(executor.run(make_doubler, range(50, 150)))
    assert sorted(task for task, _ in results) == list(range(50, 150))
    assert all(result == task * 2 for task, result in results)


def test_executor_without_tasks_returns_no_results(executor):
    assert list(executor.run(make_doubler, [])) == []


def test_executor_decode_error_becomes_task_failure_with_reason(executor):
    results = dict(executor.run(make_doubler, [12, 13, 14]))
    assert results == {12: 24, 13: TaskFailure("thirteen is refused"), 14: 28}


def test_executor_programming_error_is_raised(executor):
    with pytest.raises(ZeroDivisionError):
        list(executor.run(make_doubler, [1, 666, 2]))


def test_executor_draws_few_tasks_ahead_of_results(executor):
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


def test_executor_run_after_abandoned_run_returns_results(executor):
    stream = executor.run(make_doubler, range(100, 200))
    next(stream)
    stream.close()
    assert dict(executor.run(make_doubler, [4, 5])) == {4: 8, 5: 10}


def test_executor_makes_one_worker_per_process(executor):
    results = [result for _, result in executor.run(make_identity, range(40))]
    assert len(set(results)) == len({pid for pid, _ in results})


def test_process_executor_crash_or_hang_fails_only_that_task():
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


def test_process_executor_deadline_raises_error_and_frees_process():
    executor = processes.build(1, 600.0)
    try:
        assert list(executor.run(make_hostile, ["a"])) == [("a", "a")]
        with deadline(time.monotonic() + 0.3), pytest.raises(DeadlineError):
            list(executor.run(make_hostile, ["hang", "hang", "b"]))
        with deadline(time.monotonic() + 60):
            assert list(executor.run(make_hostile, ["c"])) == [("c", "c")]
    finally:
        executor.close()


def test_process_executor_close_cancels_thread_waiting_for_results():
    from concurrent.futures import CancelledError, ThreadPoolExecutor

    executor = processes.build(2, 600.0)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: list(executor.run(make_hostile, ["hang"] * 20)))
        time.sleep(3)
        executor.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=30)


class Painter:
    """Returns a label and a picture of one colour."""

    def __call__(self, task):
        if task == "crash":
            os._exit(3)
        number, shape, dtype = task
        return f"picture {number}", np.full(shape, number, dtype)


def make_painter():
    return Painter()


SHAPES = [(4, 4, 3), (224, 224, 3), (1, 77), (0, 5), (700, 800, 3)]


def test_executor_returns_arrays_with_same_shape_dtype_and_values(executor):
    tasks = [
        (number, SHAPES[number % len(SHAPES)], "<f4" if number % 2 else "u1")
        for number in range(60)
    ]
    results = list(executor.run(make_painter, tasks))
    assert sorted(task for task, _ in results) == sorted(tasks)
    for (number, shape, dtype), (said, pixels) in results:
        assert said == f"picture {number}"
        assert (pixels.shape, pixels.dtype) == (shape, np.dtype(dtype))
        assert (pixels == number).all()
        assert pixels.flags.writeable


def test_executor_arrays_of_concurrent_runs_do_not_mix(executor):
    def run(first):
        tasks = [(number, (64, 64, 3), "u1") for number in range(first, first + 100)]
        return all((item[1] == task[0]).all() for task, item in executor.run(make_painter, tasks))

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(run, (0, 100)))


def test_executor_kept_arrays_are_unchanged_by_later_and_abandoned_runs(executor):
    def paint(first, count):
        return executor.run(make_painter, [(n, (9, 9), "u1") for n in range(first, first + count)])

    kept = [item[1] for _, item in paint(0, 20)]
    stream = paint(100, 50)
    next(stream)
    stream.close()
    again = [item[1] for _, item in paint(20, 20)]
    assert sorted(int(pixels[0, 0]) for pixels in kept) == list(range(20))
    assert sorted(int(pixels[0, 0]) for pixels in again) == list(range(20, 40))


def test_process_executor_crash_leaves_other_arrays_intact():
    executor = processes.build(2, 60.0)
    tasks = [(n, (224, 224, 3), "u1") if n % 10 else "crash" for n in range(1, 41)]
    try:
        results = list(executor.run(make_painter, tasks))
    finally:
        executor.close()
    for task, result in results:
        if task == "crash":
            assert result.crashed
        else:
            assert (result[1] == task[0]).all()
