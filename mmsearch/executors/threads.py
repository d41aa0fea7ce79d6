"""Executor that runs tasks in threads, for I/O and for work that shares one device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Executor
from mmsearch.core.results import TaskFailure

Task = TypeVar("Task")
Result = TypeVar("Result")


def build(workers: int) -> Executor:
    """Return an executor of ``workers`` threads that share one worker."""
    return ThreadExecutor(workers)


class ThreadExecutor:
    """Thread pool that implements `mmsearch.core.protocols.Executor`.

    At most ``workers`` tasks are submitted at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mmsearch")

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Yield each task with its result, in the order of the tasks."""
        worker = make_worker()
        pending: deque[tuple[Task, Future[Result]]] = deque()
        try:
            for task in tasks:
                pending.append((task, self._pool.submit(worker, task)))
                if len(pending) >= self._workers:
                    yield self._get_result(*pending.popleft())
            while pending:
                yield self._get_result(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()

    def close(self) -> None:
        """Cancel queued tasks, wait for the running ones, and end the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _get_result(self, task: Task, future: Future[Any]) -> tuple[Task, Any]:
        try:
            return task, future.result()
        except DecodeError as error:
            return task, TaskFailure(error.message, transient=bool(error.details.get("transient")))
