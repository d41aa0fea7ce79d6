"""Pool of index workers, by index name."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mmsearch import api
from mmsearch.core.errors import UnknownIndexError
from mmsearch.server.batcher import MAX_QUEUE, IndexWorker


class IndexPool:
    """Workers of all served indexes, each opened on the first request for its index.

    Args:
        open_index: Opens an index by name.
        names: Returns the names of the indexes that are served now.
        max_queue: Maximum number of waiting calls per index; see `IndexWorker`.
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
        """Return the names of the served indexes."""
        return self._names()

    def open_workers(self) -> list[IndexWorker]:
        """Return the workers opened so far."""
        return list(self._workers.values())

    def worker(self, name: str) -> IndexWorker:
        """Return the worker of an index, and open it if needed.

        Raises:
            UnknownIndexError: The index is not served.
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
        """Close all workers; no worker can be opened afterwards."""
        with self._lock:
            self._names = list
            open_workers = self.open_workers()
        for worker in open_workers:
            worker.close()
