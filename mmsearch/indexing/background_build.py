"""The vector index is built anew beside the encoding of new pictures, not after it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from mmsearch.core.records import BuiltVectorIndex
from mmsearch.indexing.build import ShouldStop


class BackgroundBuild:
    """Builds an index in a thread of its own, once it is told to begin.

    Args:
        prepare: Called in the caller's thread when it begins; returns what builds the index, given
            a way to ask whether to give up. None: there is nothing to merge.
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
        """Begin, unless it has begun before."""
        if self._started:
            return
        self._started = True
        build = self._prepare()
        if build is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmsearch-merge")
            self._future = self._pool.submit(build, self._cancelled.is_set)

    def wait(self) -> BuiltVectorIndex | None:
        """Wait for what has begun; None if nothing has.

        Raises:
            DamagedFileError: A segment is missing, or is not what the catalog says.
        """
        if self._pool is None or self._future is None:
            return None
        self._pool.shutdown()
        return self._future.result()

    def cancel(self) -> None:
        """Stop what has begun, and wait until it has stopped."""
        self._cancelled.set()
        if self._pool is not None:
            self._pool.shutdown()
