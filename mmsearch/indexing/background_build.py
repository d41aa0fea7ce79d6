"""The vector index is built anew beside the encoding of new pictures, not after it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from mmsearch.core.records import BuiltIndex
from mmsearch.indexing.build import Stopped


class Merge:
    """Builds an index in a thread of its own, once it is told to begin.

    Args:
        prepare: Called in the caller's thread when it begins; returns what builds the index, given
            a way to ask whether to give up. None: there is nothing to merge.
    """

    def __init__(self, prepare: Callable[[], Callable[[Stopped], BuiltIndex] | None]) -> None:
        self._prepare = prepare
        self._begun = False
        self._stop = Event()
        self._pool: ThreadPoolExecutor | None = None
        self._result: Future[BuiltIndex] | None = None

    def begin(self) -> None:
        """Begin, unless it has begun before."""
        if self._begun:
            return
        self._begun = True
        build = self._prepare()
        if build is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmsearch-merge")
            self._result = self._pool.submit(build, self._stop.is_set)

    def finish(self) -> BuiltIndex | None:
        """Wait for what has begun; None if nothing has.

        Raises:
            DamagedFileError: A segment is missing, or is not what the catalog says.
        """
        if self._pool is None or self._result is None:
            return None
        self._pool.shutdown()
        return self._result.result()

    def give_up(self) -> None:
        """Stop what has begun, and wait until it has stopped."""
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown()
