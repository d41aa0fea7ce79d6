"""Executor that runs tasks in worker processes; a crash or a hang affects only one task.

The processes come from loky's context, which, unlike the start methods of multiprocessing, neither
forks a process that has threads nor imports the user's main module again. pebble gives each task a
timeout and replaces a worker that dies. Results are pickled. Shared memory for the arrays was
measured to save 0.1 to 0.2 of 5 ms of CPU time per decoded picture, which `mmsearch index` as a
whole (88 ms per picture with the starter) does not show, and to take more wall time.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures import TimeoutError as TaskTimeoutError
from threading import Lock
from typing import Any, TypeVar

from loky.backend import get_context
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mmsearch.core.deadlines import deadline_error, seconds_left
from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Executor
from mmsearch.core.results import TaskFailure
from mmsearch.core.threads import available_cpus, limit_memory

Task = TypeVar("Task")
Result = TypeVar("Result")

QUEUED_TASKS_PER_WORKER = 4
"""Number of queued tasks per worker, so that workers never idle while results are consumed."""


def build(workers: int, timeout_s: float, memory_mb: int = 0) -> Executor:
    """Return an executor with time and memory limits.

    Args:
        workers: Number of processes; 0 for one per CPU.
        timeout_s: Timeout of a task in seconds.
        memory_mb: Megabytes of address space that a process may allocate beyond what it has at its
            start; 0 for no limit. Enforced by the Linux kernel; ignored on macOS and Windows.
    """
    return ProcessExecutor(workers or available_cpus(), timeout_s, memory_mb)


class ProcessExecutor:
    """Process pool that implements `mmsearch.core.protocols.Executor`.

    The processes start with the first task and are reused by later runs with the same
    ``make_worker``. Several threads may run tasks at once.
    """

    def __init__(self, workers: int, timeout_s: float, memory_mb: int = 0) -> None:
        self._workers = workers
        self._memory_mb = memory_mb
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._pool: ProcessPool | None = None
        self._make_worker: Callable[[], Any] | None = None
        self._closed = False
        self._in_flight: set[ProcessFuture[Any]] = set()

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Yield each task with its result, in the order of the tasks.

        Raises:
            DeadlineError: The caller's deadline (`core.deadlines`) has passed.
            CancelledError: The executor is closed.
        """
        pending: deque[tuple[Task, ProcessFuture[Result]]] = deque()
        try:
            for task in tasks:
                pending.append((task, self._submit(make_worker, task)))
                if len(pending) >= self._workers * QUEUED_TASKS_PER_WORKER:
                    yield self._get_result(*pending.popleft())
            while pending:
                yield self._get_result(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()
                self._in_flight.discard(future)

    def close(self) -> None:
        """Kill the processes; threads that wait for results get CancelledError."""
        with self._lock:
            self._closed = True
            self._stop()
            # A stopped pool may leave some of its futures pending indefinitely.
            for future in list(self._in_flight):
                future.cancel()

    def _submit(self, make_worker: Callable[[], Any], task: Any) -> ProcessFuture[Any]:
        with self._lock:
            if self._closed:
                raise CancelledError("the executor is closed")
            # The pool ends if a process dies without a task, as when memory is short.
            is_usable = self._pool is not None and self._pool.active
            if self._pool is None or not is_usable or self._make_worker != make_worker:
                self._stop()
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    context=get_context("loky"),
                    initializer=_init_worker,
                    initargs=(make_worker, self._memory_mb),
                )
                self._make_worker = make_worker
            future: ProcessFuture[Any] = self._pool.schedule(
                _run_task, args=(task,), timeout=self._timeout_s
            )
            self._in_flight.add(future)
            return future

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _get_result(self, task: Any, future: ProcessFuture[Any]) -> tuple[Any, Any]:
        try:
            return task, future.result(seconds_left())
        except DecodeError as error:
            return task, TaskFailure(error.message, transient=bool(error.details.get("transient")))
        except TaskTimeoutError:
            if not future.done():
                future.cancel()
                raise deadline_error() from None
            reason = f"decoding took longer than {self._timeout_s:g} seconds"
            return task, TaskFailure(reason, crashed=True)
        except MemoryError:
            return task, TaskFailure(f"decoding took more than {self._memory_mb} MB of memory")
        except (ProcessExpired, BrokenExecutor) as error:
            if self._closed:
                raise CancelledError("the executor is closed") from error
            if isinstance(error, BrokenExecutor):
                raise
            return task, TaskFailure("the decoder crashed", crashed=True)
        finally:
            self._in_flight.discard(future)


_worker: Callable[[Any], Any]


def _init_worker(make_worker: Callable[[], Callable[[Any], Any]], memory_mb: int) -> None:
    # The pool's initializer sets up one worker per process; `_run_task` finds it here.
    global _worker  # noqa: PLW0603
    # Ctrl-C signals the whole process group; the parent decides which processes end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Decoders written in C print warnings over the progress bar of the parent; errors are returned
    # as results.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _worker = make_worker()
    if memory_mb:
        limit_memory(memory_mb * 1_000_000)


def _run_task(task: Any) -> Any:
    return _worker(task)
