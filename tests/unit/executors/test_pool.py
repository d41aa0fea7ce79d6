"""The pool on workers that die, come back and hang, without processes."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DeadlineError, StateError
from mmsearch.core.results import TaskFailure
from mmsearch.executors import _pool
from mmsearch.executors._pool import (
    MAX_TRIES,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    TASKS_AHEAD,
    Pool,
    WorkerLostError,
    WorkerRestartedError,
)
from tests.stopped_clock import stop_clock

LOST = WorkerLostError("the actor died")


class Workers:
    """Workers whose calls end one at a time, in their order.

    Args:
        count: Number of workers.
        killers: Tasks with which a worker dies.
        deaths: Number of calls ended, after which a worker dies, by worker.
        away_for: Number of calls that end before a dead worker can be probed; None for always.
        lost_on_restart: True if calls of a worker that came back reach it without its being ready.
    """

    def __init__(self, count, killers=(), deaths=None, away_for=5, *, lost_on_restart=False):
        self.count = count
        self.killers = set(killers)
        self.deaths = dict(deaths or {})
        self.away_for = away_for
        self.lost_on_restart = lost_on_restart
        self.ended = 0
        self.dead_until = {}
        self.unready = set()
        self.queue = []
        self.started = []
        self.number = itertools.count()
        self.most = 0
        self.beside_last = []
        self.tries = {}

    def probe(self, worker):
        return self._call(worker, None)

    def ping(self, worker):
        return self._call(worker, None)

    def kill(self, worker):
        raise AssertionError("these workers are quick")

    def start(self, worker, task):
        self.started.append((worker, task))
        mine = [call for call in self.queue if call[1] == worker and call[2] is not None]
        self.most = max(self.most, len(mine) + 1)
        if self.tries.get(task, 0) == MAX_TRIES - 1:
            self.beside_last += mine
        return self._call(worker, task)

    def _call(self, worker, task):
        call = (next(self.number), worker, task)
        self.queue.append(call)
        return call

    def is_dead(self, worker):
        return self.ended < self.dead_until.get(worker, -1)

    def wait(self, references, timeout_s):
        # A dead worker fails its calls at once, before others end.
        mine = [call for call in self.queue if call in references]
        probes = [call for call in mine if call[2] is None and not self.is_dead(call[1])]
        failed = [call for call in mine if call[2] is not None and self.is_dead(call[1])]
        working = [call for call in mine if call[2] is not None and not self.is_dead(call[1])]
        for ready in (probes, failed, working):
            if ready:
                return ready[0]
        if not any(until != float("inf") for until in self.dead_until.values()):
            return None
        self.ended += 1
        return self.wait(references, timeout_s)

    def result(self, reference):
        self.queue.remove(reference)
        _, worker, task = reference
        if self.is_dead(worker):
            if task is not None:
                self.tries[task] = self.tries.get(task, 0) + 1
            raise LOST
        if task is None:
            self.unready.discard(worker)
            return None
        if worker in self.unready:
            raise WorkerRestartedError
        self.ended += 1
        if task in self.killers or self.ended >= self.deaths.get(worker, float("inf")):
            self.deaths.pop(worker, None)
            away = float("inf") if self.away_for is None else self.ended + self.away_for
            self.dead_until[worker] = away
            self.tries[task] = self.tries.get(task, 0) + 1
            if self.lost_on_restart:
                self.unready.add(worker)
            raise LOST
        return task * 10

    def cancel(self, reference):
        self.queue.remove(reference)


class NaivePool(Pool):
    """Mutant that gives tasks to whichever worker has the fewest, dead or not."""

    def _probe(self, worker):
        self._load[worker] = 0


class ForgetfulPool(Pool):
    """Mutant that does not give the tasks of a dead worker to others."""

    def _finish_task(self, reference):
        lost = self._busy[reference][0]
        yield from super()._finish_task(reference)
        if lost in self._again:
            self._again.remove(lost)


def run(workers, tasks, pool=Pool, **options):
    return list(pool(workers, workers.count, tasks, **options).run())


def is_whole(results, tasks):
    return sorted(results) == [(task, task * 10) for task in tasks]


def test_pool_keeps_all_tasks_when_a_worker_dies_for_good():
    workers = Workers(2, deaths={0: 3}, away_for=None)
    assert is_whole(run(workers, range(1, 21)), range(1, 21))


def test_pool_uses_a_worker_that_came_back():
    workers = Workers(2, deaths={0: 3}, away_for=4)
    assert is_whole(run(workers, range(1, 41)), range(1, 41))
    later = [worker for worker, task in workers.started if task > 30]
    assert set(later) == {0, 1}


@pytest.mark.parametrize("pool", [NaivePool, ForgetfulPool])
def test_mutants_of_the_pool_lose_tasks_when_a_worker_dies(pool):
    workers = Workers(2, deaths={0: 3}, away_for=None)
    assert not is_whole(run(workers, range(1, 21), pool), range(1, 21))


@given(
    st.integers(1, 5),
    st.integers(0, 40),
    st.dictionaries(st.integers(1, 4), st.integers(1, 30)),
    st.sampled_from([1, 5, 20, None]),
    st.booleans(),
)
def test_pool_yields_each_task_once_whichever_workers_die(count, num_tasks, deaths, away, unready):
    # One worker stays: with all gone, there is no result.
    workers = Workers(count, deaths=deaths, away_for=away, lost_on_restart=unready)
    results = run(workers, range(1, num_tasks + 1))
    assert sorted(task for task, _ in results) == list(range(1, num_tasks + 1))
    assert all(isinstance(result, TaskFailure) or result == task * 10 for task, result in results)
    # A task fails only after its last try alone.
    failed = [task for task, result in results if isinstance(result, TaskFailure)]
    assert all(workers.tries[task] == MAX_TRIES for task in failed)
    assert workers.most <= TASKS_AHEAD
    assert workers.beside_last == []


def test_pool_fails_a_task_that_kills_its_workers_and_no_other():
    workers = Workers(2, killers=[7], away_for=2)
    results = dict(run(workers, range(1, 31)))
    failure = results.pop(7)
    assert isinstance(failure, TaskFailure)
    assert failure.crashed
    assert "3 workers were lost with it" in failure.reason
    assert results == {task: task * 10 for task in range(1, 31) if task != 7}
    assert [task for _, task in workers.started].count(7) == MAX_TRIES
    assert workers.beside_last == []


def test_pool_gives_lost_tasks_before_new_ones():
    workers = Workers(1, deaths={0: 2}, away_for=1)
    run(workers, range(1, 11))
    order = [task for _, task in workers.started]
    again = [task for task in order if order.count(task) > 1]
    second = [order.index(task, order.index(task) + 1) for task in set(again)]
    assert max(second) < order.index(max(again) + 2)


def test_pool_draws_few_tasks_ahead():
    drawn = []

    def tasks():
        for number in range(1, 1000):
            drawn.append(number)
            yield number

    stream = Pool(Workers(3), 3, tasks()).run()
    for _ in range(4):
        next(stream)
    assert len(drawn) <= 4 + 3 * TASKS_AHEAD
    stream.close()


def test_pool_without_any_worker_that_answers_says_so():
    workers = Workers(2, deaths={0: 1, 1: 1}, away_for=None)
    with pytest.raises(StateError, match="No worker of the cluster answers"):
        run(workers, range(1, 9))


class SlowWorkers(Workers):
    """Workers that take long to get ready, but are alive."""

    probes_late = 3

    def wait(self, references, timeout_s):
        if timeout_s == PING_TIMEOUT_S or not self.probes_late:
            return super().wait(references, timeout_s)
        self.probes_late -= 1
        return None


def test_pool_waits_for_workers_that_are_alive_but_not_ready():
    workers = SlowWorkers(2)
    assert is_whole(run(workers, range(1, 9)), range(1, 9))
    assert workers.probes_late == 0


def test_pool_without_tasks_probes_no_worker():
    workers = Workers(2)
    assert run(workers, []) == []
    assert next(workers.number) == 0


def test_pool_after_the_deadline_raises_error_and_cancels_calls():
    workers = Workers(1, deaths={0: 2}, away_for=None)
    with deadline(time.monotonic() - 1), pytest.raises(DeadlineError):
        run(workers, range(1, 9))
    assert workers.queue == []


def test_pool_reports_each_death():
    deaths = []
    run(Workers(3, deaths={0: 2, 1: 5}), range(1, 30), on_lost=deaths.append)
    assert set(deaths) == {0, 1}


@pytest.fixture
def clock(monkeypatch):
    return stop_clock(monkeypatch, _pool)


class TimedWorkers:
    """Workers by a clock: each task takes a while, and some workers stop or some tasks never end.

    Args:
        clock: Moved on by waits.
        count: Number of workers.
        seconds: Seconds that a task takes.
        stopped: Workers that answer nothing from the time at which they get their third task.
        endless: Tasks that never end, while their worker answers.
    """

    def __init__(self, clock, count, seconds=5.0, stopped=(), endless=()):
        self.clock = clock
        self.count = count
        self.seconds = seconds
        self.stopped = set(stopped)
        self.endless = set(endless)
        self.ends = {}
        self.number = itertools.count()
        self.started = []
        self.killed = []
        self.pings = 0

    def is_stopped(self, worker):
        return worker in self.stopped and [w for w, _ in self.started].count(worker) >= 3

    def probe(self, worker):
        return self._call(worker, None, 0)

    def ping(self, worker):
        self.pings += 1
        return self._call(worker, None, 0)

    def start(self, worker, task):
        self.started.append((worker, task))
        return self._call(worker, task, float("inf") if task in self.endless else self.seconds)

    def _call(self, worker, task, seconds):
        call = (next(self.number), worker, task)
        if self.is_stopped(worker):
            seconds = float("inf")
        self.ends[call] = self.clock.now_s + seconds
        return call

    def kill(self, worker):
        self.killed.append((worker, self.clock.now_s))
        self.stopped.discard(worker)

    def wait(self, references, timeout_s):
        call = min(references, key=self.ends.__getitem__)
        self.clock.now_s = min(max(self.ends[call], self.clock.now_s), self.clock.now_s + timeout_s)
        assert self.clock.now_s < float("inf"), "the run waits forever"
        return call if self.ends[call] <= self.clock.now_s else None

    def result(self, reference):
        task = reference[2]
        return None if task is None else task * 10

    def cancel(self, reference):
        pass


def test_pool_kills_a_worker_that_stopped_and_uses_it_again(clock):
    workers = TimedWorkers(clock, 2, stopped=[1])
    assert is_whole(run(workers, range(1, 101)), range(1, 101))
    ((worker, killed_at),) = workers.killed
    assert worker == 1
    assert killed_at - 1000.0 <= 5 + PING_INTERVAL_S + SILENCE_TIMEOUT_S
    # Its tasks were done by others, and it works again.
    assert 1 in {worker for worker, task in workers.started if task > 80}


def test_pool_kills_no_worker_that_is_slow_but_answers(clock):
    workers = TimedWorkers(clock, 2, seconds=5_000)
    assert is_whole(run(workers, range(1, 9)), range(1, 9))
    assert workers.killed == []
    # A question and its answer in each interval, and no more.
    assert workers.pings <= 2 * (clock.now_s - 1000) / PING_INTERVAL_S


def test_pool_gives_up_a_task_that_never_ends_after_three_tries_and_no_other(clock):
    workers = TimedWorkers(clock, 2, endless=[7])
    results = dict(run(workers, range(1, 31), time_limit_s=lambda task: 600))
    failure = results.pop(7)
    assert isinstance(failure, TaskFailure)
    assert "3 workers were lost with it, the last one alone: a task took too long" in failure.reason
    assert results == {task: task * 10 for task in range(1, 31) if task != 7}
    assert len(workers.killed) == MAX_TRIES
    assert clock.now_s - 1000 < MAX_TRIES * 600 + 200


def test_pool_time_limit_depends_on_the_task(clock):
    workers = TimedWorkers(clock, 1, seconds=50)
    assert is_whole(run(workers, range(1, 4), time_limit_s=lambda task: 51), range(1, 4))
    results = run(workers, range(1, 4), time_limit_s=lambda task: 40 if task == 2 else 51)
    assert [task for task, result in results if isinstance(result, TaskFailure)] == [2]


@pytest.mark.parametrize("stopped_s", [200, 20_000])
def test_pool_of_a_process_that_was_stopped_kills_no_worker(clock, stopped_s):
    workers = TimedWorkers(clock, 2, seconds=50)
    waits, wait = itertools.count(1), workers.wait

    def stop(references, timeout_s):
        if next(waits) % 5:
            return wait(references, timeout_s)
        # Answers that arrived meanwhile are seen a moment later.
        clock.now_s += stopped_s
        return None

    workers.wait = stop
    tasks = range(1, 31)
    assert is_whole(run(workers, tasks, time_limit_s=lambda task: 600), tasks)
    assert workers.killed == []


class PatientPool(Pool):
    """Mutant that waits for workers as long as they take."""

    def _end_silent_workers(self):
        return iter(())


@pytest.mark.parametrize("problem", [{"stopped": [1]}, {"endless": [7]}])
def test_mutant_of_the_pool_that_kills_no_worker_never_ends(clock, problem):
    workers = TimedWorkers(clock, 2, **problem)
    stream = PatientPool(workers, 2, range(1, 21), time_limit_s=lambda task: 600).run()
    waits = itertools.count()
    workers_wait = workers.wait

    def wait(references, timeout_s):
        if next(waits) > 1000:
            raise TimeoutError
        return workers_wait(references, timeout_s)

    workers.wait = wait
    with pytest.raises(TimeoutError):
        list(stream)
