"""Tasks in worker processes: a task that crashes or hangs its process costs that task only.

The processes come from loky's context, which, unlike multiprocessing's own ways, neither forks a
process that has threads nor imports the user's main module again; pebble gives each task a time
limit and replaces a worker that dies. Arrays come back through memory that is shared (`_slots`).
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
from mmsearch.core.hardware import available_cpus
from mmsearch.core.protocols import Executor
from mmsearch.core.requests import TaskFailure
from mmsearch.executors._shared_memory import SharedMemorySlots, WorkerMemorySlots

Task = TypeVar("Task")
Result = TypeVar("Result")

QUEUED_TASKS_PER_WORKER = 4
"""Tasks a worker may have waiting, so that it never idles while results are taken."""

SLOTS_PER_WORKER = 2 * QUEUED_TASKS_PER_WORKER
"""As many as two runs at once may have under way; a task that gets none sends arrays by pickle."""


def build(workers: int, timeout_s: float, memory_mb: int = 0) -> Executor:
    """An executor whose tasks may take only so much time and memory.

    Args:
        workers: Processes; 0: one a processor.
        timeout_s: For a task.
        memory_mb: Megabytes of addresses that a process may take beyond those with which it starts;
            0: as many as there are. Kept by the kernel on Linux; macOS and Windows do not.
    """
    return ProcessExecutor(workers or available_cpus(), timeout_s, memory_mb)


@dataclass(frozen=True)
class _Pending:
    """A task under way, and where its arrays will lie."""

    task: Any
    future: ProcessFuture[Any]
    slots: SharedMemorySlots | None
    slot: int | None


class ProcessExecutor:
    """See `mmsearch.core.protocols.Executor`.

    The processes start with the first task and stay for later runs of the same ``make_worker``.
    Several threads may run tasks at once.
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
        """Results in the order of the tasks.

        Raises:
            DeadlineError: The caller's deadline (`core.deadlines`) passes.
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
            # Their slots stay taken: a worker may still write there.
            for unfinished in pending:
                unfinished.future.cancel()
                self._in_flight.discard(unfinished.future)

    def close(self) -> None:
        """End the processes, whatever they do; threads that wait for results get CancelledError."""
        with self._lock:
            self._closed = True
            self._stop()
            # A pool that is stopped may leave some of its futures waiting for ever.
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
                # Its slot stays taken: the worker may still write there.
                slots = None
                pending.future.cancel()
                raise deadline_error() from None
            reason = f"decoding took longer than {self._timeout_s:g} seconds"
            return task, TaskFailure(reason, crashed=True)
        except MemoryError:
            return task, TaskFailure(f"it takes more than {self._memory_mb} MB of memory")
        except (ProcessExpired, BrokenExecutor) as error:
            if self._closed:
                raise CancelledError("the executor is closed") from error
            if isinstance(error, BrokenExecutor):
                raise
            return task, TaskFailure("the decoder crashed on it", crashed=True)
        finally:
            self._in_flight.discard(pending.future)
            # Also after a crash or a timeout: pebble ends the process before it says so.
            if slots and pending.slot is not None:
                slots.release(pending.slot)


_worker: Callable[[Any], Any]
_worker_slots: WorkerMemorySlots | None


def _init_worker(
    make_worker: Callable[[], Callable[[Any], Any]], memory_mb: int, slots: str | None
) -> None:
    # One worker a process is what a pool's initializer is for.
    global _worker, _worker_slots  # noqa: PLW0603
    # Ctrl-C reaches the whole process group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Decoders written in C print warnings of their own, across the progress bar of the parent; what
    # matters comes back as a result.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _worker_slots = WorkerMemorySlots.open(slots)
    _worker = make_worker()
    if memory_mb:
        _limit_memory(memory_mb * 1_000_000)


def _limit_memory(extra_bytes: int) -> None:
    """Let allocations fail before they take the memory of the machine from everything else."""
    try:
        import resource  # noqa: PLC0415 - there is none on Windows

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
