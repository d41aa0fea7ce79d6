"""Executor that runs tasks in worker processes; a crash or a hang affects only one task.

The processes come from loky's context, which, unlike the start methods of multiprocessing, neither
forks a process that has threads nor imports the user's main module again. pebble gives each task a
timeout and replaces a worker that dies. Arrays are returned through shared memory
(`_shared_memory`).
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from concurrent.futures import TimeoutError as TaskTimeoutError
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from loky.backend import get_context
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mmsearch.core.deadlines import deadline_error, seconds_left
from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Executor
from mmsearch.core.results import TaskFailure
from mmsearch.core.threads import available_cpus
from mmsearch.executors._shared_memory import SharedMemorySlots, WorkerMemorySlots

Task = TypeVar("Task")
Result = TypeVar("Result")

QUEUED_TASKS_PER_WORKER = 4
"""Number of queued tasks per worker, so that workers never idle while results are consumed."""

SLOTS_PER_WORKER = 2 * QUEUED_TASKS_PER_WORKER
"""Number of shared memory slots per worker.

It suffices for two concurrent runs. The arrays of a task without a slot are pickled.
"""


def build(workers: int, timeout_s: float, memory_mb: int = 0) -> Executor:
    """Return an executor with time and memory limits.

    Args:
        workers: Number of processes; 0 for one per CPU.
        timeout_s: Timeout of a task in seconds.
        memory_mb: Megabytes of address space that a process may allocate beyond what it has at its
            start; 0 for no limit. Enforced by the Linux kernel; ignored on macOS and Windows.
    """
    return ProcessExecutor(workers or available_cpus(), timeout_s, memory_mb)


@dataclass(frozen=True)
class _Pending:
    """A submitted task, and the slot for its arrays."""

    task: Any
    future: ProcessFuture[Any]
    slots: SharedMemorySlots | None
    slot: int | None


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
        self._slots: SharedMemorySlots | None = None
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
        pending: deque[_Pending] = deque()
        try:
            for task in tasks:
                pending.append(self._submit(make_worker, task))
                if len(pending) >= self._workers * QUEUED_TASKS_PER_WORKER:
                    yield self._get_result(pending.popleft())
            while pending:
                yield self._get_result(pending.popleft())
        finally:
            # Their slots are not released: a worker may still write to them.
            for unfinished in pending:
                unfinished.future.cancel()
                self._in_flight.discard(unfinished.future)

    def close(self) -> None:
        """Kill the processes; threads that wait for results get CancelledError."""
        with self._lock:
            self._closed = True
            self._stop()
            # A stopped pool may leave some of its futures pending indefinitely.
            for future in list(self._in_flight):
                future.cancel()

    def _submit(self, make_worker: Callable[[], Any], task: Any) -> _Pending:
        with self._lock:
            if self._closed:
                raise CancelledError("the executor is closed")
            if self._pool is None or self._make_worker != make_worker:
                self._stop()
                self._slots = SharedMemorySlots.create(self._workers * SLOTS_PER_WORKER)
                path = self._slots.path if self._slots else None
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    context=get_context("loky"),
                    initializer=_init_worker,
                    initargs=(make_worker, self._memory_mb, path),
                )
                self._make_worker = make_worker
            slot = self._slots.acquire() if self._slots else None
            future: ProcessFuture[Any] = self._pool.schedule(
                _run_task, args=(task, slot), timeout=self._timeout_s
            )
            self._in_flight.add(future)
            return _Pending(task, future, self._slots, slot)

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _get_result(self, pending: _Pending) -> tuple[Any, Any]:
        task, slots = pending.task, pending.slots
        try:
            result = pending.future.result(seconds_left())
            return task, slots.load(result) if slots else result
        except DecodeError as error:
            return task, TaskFailure(error.message, transient=bool(error.details.get("transient")))
        except TaskTimeoutError:
            if not pending.future.done():
                # Its slot is not released: the worker may still write to it.
                slots = None
                pending.future.cancel()
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
            self._in_flight.discard(pending.future)
            # Safe after a crash or a timeout, too: pebble ends the process before it reports them.
            if slots and pending.slot is not None:
                slots.release(pending.slot)


_worker: Callable[[Any], Any]
_worker_slots: WorkerMemorySlots | None


def _init_worker(
    make_worker: Callable[[], Callable[[Any], Any]], memory_mb: int, slots: str | None
) -> None:
    # The pool's initializer sets up one worker per process; `_run_task` finds it here.
    global _worker, _worker_slots  # noqa: PLW0603
    # Ctrl-C signals the whole process group; the parent decides which processes end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Decoders written in C print warnings over the progress bar of the parent; errors are returned
    # as results.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _worker_slots = WorkerMemorySlots.open(slots)
    _worker = make_worker()
    if memory_mb:
        _limit_memory(memory_mb * 1_000_000)


def _limit_memory(extra_bytes: int) -> None:
    """Limit the address space of this process, so that it cannot exhaust the machine's memory."""
    try:
        import resource  # noqa: PLC0415 - not available on Windows

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    limit_bytes = pages * resource.getpagesize() + extra_bytes
    if hard_limit != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard_limit))


def _run_task(task: Any, slot: int | None) -> Any:
    result = _worker(task)
    if _worker_slots is None or slot is None:
        return result
    return _worker_slots.store(result, slot)
