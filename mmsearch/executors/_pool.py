"""Tasks for workers that may die and come back, such as actors on other hosts.

A dead worker fails its calls at once, so it always looks least busy: a pool that goes on giving it
tasks loses them all. Here a worker gets tasks only after it has answered, and its lost tasks are
the next that others get. A task that is lost with its worker for the third time fails; as it may be
the cause, it is then alone on its worker, so that no other task is blamed for it.

A worker that does not say in time that it is alive, because its process is stopped, or that takes
too long for a task, is killed and counts as dead.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mmsearch.core.deadlines import deadline_error, seconds_left
from mmsearch.core.errors import StateError
from mmsearch.core.results import TaskFailure

Task = TypeVar("Task")
_NEVER = float("inf")

TASKS_AHEAD = 2
"""Maximum number of tasks of a worker: one is decoded while another is encoded."""

MAX_TRIES = 3
ANSWER_TIMEOUT_S = 60.0
"""Seconds without any worker that is ready after which the pool asks whether any is alive."""

PING_TIMEOUT_S = 30.0
"""Seconds in which one worker must say that it is alive, or the run ends."""

PING_INTERVAL_S = 30.0
"""Seconds between two questions whether a worker that has tasks is alive."""

SILENCE_TIMEOUT_S = 90.0
"""Seconds in which such a worker must answer, or it is killed."""

LAST_CALL_S = 5.0
"""Seconds to wait for answers before workers are killed: this process may have been stopped itself.
"""


class WorkerLostError(Exception):
    """The worker of a call died, or cannot be reached, before its result arrived."""


class WorkerRestartedError(Exception):
    """The worker was started again before the call, which therefore had no effect."""


class Calls(Protocol):
    """Calls to workers, which are numbered from 0."""

    def probe(self, worker: int) -> Any:
        """Ask a worker to get ready for tasks; return a reference to its answer."""

    def ping(self, worker: int) -> Any:
        """Ask a worker whether it is alive, even while it works; return a reference."""

    def kill(self, worker: int) -> None:
        """End the process of a worker, even a stopped one, so that it is started again."""

    def start(self, worker: int, task: Any) -> Any:
        """Give a worker a task; return a reference to its result."""

    def wait(self, references: Sequence[Any], timeout_s: float) -> Any | None:
        """Return a reference whose call has ended, or None after the timeout."""

    def result(self, reference: Any) -> Any:
        """Return the result of a call that has ended.

        Raises:
            WorkerLostError: Its worker died.
            WorkerRestartedError: Its worker has to be probed again.
            Exception: What the worker raised.
        """

    def cancel(self, reference: Any) -> None:
        """Cancel a call that has not started."""


@dataclass
class _Alive:
    """State of a worker that has tasks.

    Attributes:
        ask_at: Time by `time.monotonic` at which it is asked whether it is alive.
        ping: Reference of the question that it has not answered yet, or None.
        give_up_at: Time at which it counts as dead unless it answers.
    """

    ask_at: float
    ping: Any = None
    give_up_at: float = _NEVER


@dataclass
class _Attempt:
    """A task that a worker has, or that must be given to one again.

    Attributes:
        task: The task.
        tries: Number of workers that have died with it.
        give_up_at: Time by `time.monotonic` at which its worker counts as dead.
    """

    task: Any
    tries: int = 0
    give_up_at: float = _NEVER

    @property
    def is_last(self) -> bool:
        """True if the task fails when its worker dies once more."""
        return self.tries == MAX_TRIES - 1


class Pool:
    """One run of tasks on workers.

    Args:
        calls: Calls to the workers.
        num_workers: Number of workers.
        tasks: The tasks; drawn only while a worker has room for one.
        ahead: Maximum number of tasks of a worker.
        answer_timeout_s: See `ANSWER_TIMEOUT_S`.
        time_limit_s: Returns the seconds that a worker may take for a task, while it has ``ahead``
            of them.
        on_lost: Called with the number of a worker that died.
    """

    def __init__(
        self,
        calls: Calls,
        num_workers: int,
        tasks: Iterable[Any],
        *,
        ahead: int = TASKS_AHEAD,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        time_limit_s: Callable[[Any], float] = lambda task: _NEVER,
        on_lost: Callable[[int], None] = lambda worker: None,
    ) -> None:
        self._calls = calls
        self._num_workers = num_workers
        self._tasks = iter(tasks)
        self._has_tasks = True
        self._ahead = ahead
        self._answer_timeout_s = answer_timeout_s
        self._time_limit_s = time_limit_s
        self._on_lost = on_lost
        # Number of tasks of each worker that answers.
        self._load: dict[int, int] = {}
        self._busy: dict[Any, tuple[_Attempt, int]] = {}
        self._again: deque[_Attempt] = deque()
        # Workers with a task that must be alone.
        self._reserved: set[int] = set()
        self._probes: dict[Any, int] = {}
        # Workers with tasks.
        self._alive: dict[int, _Alive] = {}

    def run(self) -> Iterator[tuple[Any, Any]]:
        """Yield each task once, with its result or a `TaskFailure`, in the order of the results.

        Raises:
            DeadlineError: The caller's deadline has passed.
            StateError: No worker answers.
            Exception: What a worker raised.
        """
        for task in self._tasks:
            self._again.append(_Attempt(task))
            break
        else:
            # Without work, no worker needs to load a model.
            return
        try:
            for worker in range(self._num_workers):
                self._probe(worker)
            while True:
                self._give_tasks()
                if not (self._busy or self._again or self._has_tasks):
                    return
                reference = self._wait()
                if reference is None:
                    yield from self._end_silent_workers()
                elif reference in self._probes:
                    self._finish_probe(reference)
                elif reference in self._busy:
                    yield from self._finish_task(reference)
                else:
                    self._finish_ping(reference)
        finally:
            for reference in (*self._busy, *self._probes):
                self._calls.cancel(reference)

    @property
    def _pings(self) -> list[Any]:
        return [alive.ping for alive in self._alive.values() if alive.ping is not None]

    def _probe(self, worker: int) -> None:
        self._load.pop(worker, None)
        self._reserved.discard(worker)
        self._alive.pop(worker, None)
        if worker not in self._probes.values():
            self._probes[self._calls.probe(worker)] = worker

    def _give_tasks(self) -> None:
        while (worker := self._find_worker()) is not None:
            attempt = self._next_attempt(is_idle=not self._load[worker])
            if attempt is None:
                return
            if attempt.is_last:
                self._reserved.add(worker)
            now = time.monotonic()
            self._alive.setdefault(worker, _Alive(now + PING_INTERVAL_S))
            self._load[worker] += 1
            attempt.give_up_at = now + self._time_limit_s(attempt.task)
            self._busy[self._calls.start(worker, attempt.task)] = (attempt, worker)

    def _find_worker(self) -> int | None:
        """Return the worker with the fewest tasks that has room for another, or None."""
        open_workers = [
            worker
            for worker, count in self._load.items()
            if count < self._ahead and worker not in self._reserved
        ]
        return min(open_workers, key=self._load.__getitem__, default=None)

    def _next_attempt(self, *, is_idle: bool) -> _Attempt | None:
        """Return what a worker gets next, or None.

        Nothing goes before a task that waits for an idle worker, or it might wait forever.
        """
        if self._again:
            if self._again[0].is_last and not is_idle:
                return None
            return self._again.popleft()
        if not self._has_tasks:
            return None
        for task in self._tasks:
            return _Attempt(task)
        self._has_tasks = False
        return None

    def _wait(self) -> Any | None:
        """Return a reference whose call has ended, or None if a worker may have to be killed."""
        while True:
            left_s = seconds_left()
            timeout_s = self._ask_workers() if self._busy else self._answer_timeout_s
            is_deadline = left_s is not None and left_s <= timeout_s
            if left_s is not None and is_deadline:
                timeout_s = left_s
            reference = self._calls.wait([*self._busy, *self._probes, *self._pings], timeout_s)
            if reference is not None:
                return reference
            if is_deadline:
                raise deadline_error()
            if self._busy:
                return None
            # To get ready may take minutes: the first use of a model compiles it.
            if not self._is_any_alive():
                raise StateError(
                    "No worker of the cluster answers.",
                    "Look at the cluster (ray status) and run again: what is committed is kept.",
                )

    def _ask_workers(self) -> float:
        """Ask those workers that are due whether they are alive; return the seconds to wait."""
        now = time.monotonic()
        due = [attempt.give_up_at for attempt, _ in self._busy.values()]
        for worker, alive in self._alive.items():
            if alive.ping is None and alive.ask_at <= now:
                alive.ping = self._calls.ping(worker)
                alive.give_up_at = now + SILENCE_TIMEOUT_S
            due.append(alive.ask_at if alive.ping is None else alive.give_up_at)
        return max(0.0, min(due, default=_NEVER) - now)

    def _finish_ping(self, reference: Any) -> None:
        (worker,) = [w for w, alive in self._alive.items() if alive.ping == reference]
        self._alive[worker] = _Alive(time.monotonic() + PING_INTERVAL_S)
        # The tasks of a worker that has died say so.
        with suppress(WorkerLostError, WorkerRestartedError):
            self._calls.result(reference)

    def _end_silent_workers(self) -> Iterator[tuple[Any, Any]]:
        """Kill the workers whose time is over; yield the tasks that nobody will try again."""
        now = time.monotonic()
        silent = {w: alive.ping for w, alive in self._alive.items() if alive.give_up_at <= now}
        slow = {w: ref for ref, (task, w) in self._busy.items() if task.give_up_at <= now}
        late = [*silent.values(), *slow.values()]
        if not late or self._calls.wait(late, LAST_CALL_S) is not None:
            return
        for worker in sorted(silent.keys() | slow.keys()):
            self._calls.kill(worker)
            lost = [ref for ref, (_, busy_worker) in self._busy.items() if busy_worker == worker]
            reason = "it did not answer" if worker in silent else "a task took too long"
            attempts = [self._busy.pop(reference)[0] for reference in lost]
            for attempt in attempts:
                # Others on the same worker are not to blame, unless nothing answers.
                attempt.tries += worker in silent or attempt.give_up_at <= now
            self._on_lost(worker)
            self._probe(worker)
            for attempt in attempts:
                yield from self._try_again(attempt, reason)

    def _is_any_alive(self) -> bool:
        pings = [self._calls.ping(worker) for worker in range(self._num_workers)]
        while (reference := self._calls.wait(pings, PING_TIMEOUT_S)) is not None:
            pings.remove(reference)
            try:
                self._calls.result(reference)
            except WorkerLostError:
                if not pings:
                    return False
            else:
                return True
        return False

    def _finish_probe(self, reference: Any) -> None:
        worker = self._probes.pop(reference)
        try:
            self._calls.result(reference)
        except (WorkerLostError, WorkerRestartedError):
            self._probe(worker)
        else:
            self._load[worker] = 0

    def _finish_task(self, reference: Any) -> Iterator[tuple[Any, Any]]:
        attempt, worker = self._busy.pop(reference)
        if attempt.is_last:
            self._reserved.discard(worker)
        try:
            result = self._calls.result(reference)
        except WorkerRestartedError:
            self._probe(worker)
            self._again.append(attempt)
            return
        except WorkerLostError as error:
            self._on_lost(worker)
            self._probe(worker)
            attempt.tries += 1
            yield from self._try_again(attempt, str(error))
            return
        if worker in self._load:
            self._load[worker] -= 1
            if not self._load[worker]:
                self._alive.pop(worker, None)
        yield attempt.task, result

    def _try_again(self, attempt: _Attempt, reason: str) -> Iterator[tuple[Any, Any]]:
        """Keep a lost task for another worker, or yield its failure."""
        if attempt.tries < MAX_TRIES:
            self._again.append(attempt)
        else:
            reason = f"{MAX_TRIES} workers were lost with it, the last one alone: {reason}"
            yield attempt.task, TaskFailure(reason, crashed=True)
