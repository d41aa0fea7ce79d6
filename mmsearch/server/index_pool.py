"""The desks of a server, by the names of their indexes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mmsearch import api
from mmsearch.core.errors import UnknownIndexError
from mmsearch.server.batcher import MAX_QUEUE, IndexWorker


class IndexPool:
    """The desks of all indexes that are served, opened when they are first asked.

    Args:
        open_index: An index by name.
        names: What is served now, by name.
        max_queue: See `IndexWorker`.
    """

    def __init__(
        self,
        open_index: Callable[[str], api.Index],
        names: Callable[[], list[str]],
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._open_index = open_index
        self._names = names
        self._max_queue = max_queue
        self._workers: dict[str, IndexWorker] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The indexes that are served."""
        return self._names()

    def open_workers(self) -> list[IndexWorker]:
        """Those that anyone has asked."""
        return list(self._workers.values())

    def worker(self, name: str) -> IndexWorker:
        """The desk of an index.

        Raises:
            UnknownIndexError: It is not served.
        """
        with self._lock:
            worker = self._workers.get(name)
            if worker is None:
                if name not in self._names():
                    raise UnknownIndexError(
                        f"There is no index {name!r} here.", "GET /v1/indexes lists them."
                    )
                worker = self._workers[name] = IndexWorker(self._open_index(name), self._max_queue)
            return worker

    def close(self) -> None:
        """Close them all; none opens again."""
        with self._lock:
            self._names = list
            open_workers = self.open_workers()
        for worker in open_workers:
            worker.close()
