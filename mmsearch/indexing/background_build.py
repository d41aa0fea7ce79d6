"""Background rebuild of the vector index while new pictures are encoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from mmsearch.core.records import BuiltVectorIndex
from mmsearch.indexing.build import ShouldStop


class BackgroundBuild:
    """A vector index build that runs in its own thread once `start` is called.

    Args:
        prepare: Called by `start` in the caller's thread. Returns the function that builds the
            index and takes a `ShouldStop` callback, or None if there is nothing to merge.
    """

    def __init__(
        self, prepare: Callable[[], Callable[[ShouldStop], BuiltVectorIndex] | None]
    ) -> None:
        self._prepare = prepare
        self._started = False
        self._cancelled = Event()
        self._pool: ThreadPoolExecutor | None = None
        self._future: Future[BuiltVectorIndex] | None = None

    def start(self) -> None:
        """Start the build; later calls do nothing."""
        if self._started:
            return
        self._started = True
        build = self._prepare()
        if build is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmsearch-merge")
            self._future = self._pool.submit(build, self._cancelled.is_set)

    def wait(self) -> BuiltVectorIndex | None:
        """Wait for the build and return its result; None if no build was started.

        Raises:
            DamagedFileError: A segment is missing or does not match the catalog.
        """
        if self._pool is None or self._future is None:
            return None
        self._pool.shutdown()
        return self._future.result()

    def cancel(self) -> None:
        """Cancel the build and wait until its thread has ended."""
        self._cancelled.set()
        if self._pool is not None:
            self._pool.shutdown()
