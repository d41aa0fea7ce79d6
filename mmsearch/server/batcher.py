"""Index workers: one thread owns an open index and answers the queued calls of all other threads.

A vector index on a GPU allows only one thread, and so does a connection to SQLite. While the owner
thread searches, a second thread encodes the searches that arrive meanwhile. They are then answered
as one batch, which reads the vectors once for all of them.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from mmsearch import api
from mmsearch.core.deadlines import deadline, deadline_error, deadline_s, seconds_left
from mmsearch.core.errors import BusyError, MMSearchError, UnknownIndexError
from mmsearch.core.query import EncodedQuery, SearchRequest
from mmsearch.core.results import SearchResult

Result = TypeVar("Result")

MAX_BATCH = 32
"""Maximum number of searches per batch: enough to use all processors, few enough that the first
does not wait long for the last."""

MAX_QUEUE = 256
"""Maximum number of waiting calls; further ones are refused."""

IDLE_TIMEOUT_S = 300.0
"""Idle seconds after which the image encoder and decoders are released."""


@dataclass(frozen=True)
class _SearchTask:
    request: SearchRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[SearchResult]
    deadline_s: float


@dataclass(frozen=True)
class _CallTask:
    work: Callable[[api.Index], Any]
    future: Future[Any]
    deadline_s: float


_EncodedSearch: TypeAlias = tuple[_SearchTask, EncodedQuery | MMSearchError | None]
"""A search and its encoded query; with None, the search has to run outside a batch."""


class IndexWorker:
    """Answers searches and other calls on one index, in threads of its own.

    Args:
        index: The index, or several as one. From now on only the worker's threads use it, and they
            close it.
        max_queue: Maximum number of waiting calls.
        idle_timeout_s: Idle seconds after which the worker calls `mmsearch.Index.release`.
    """

    def __init__(
        self,
        index: api.Index | api.FederatedIndex,
        max_queue: int = MAX_QUEUE,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
    ) -> None:
        self.name = index.name
        self._index: Any = index
        self._max_queue = max_queue
        self._idle_timeout_s = idle_timeout_s
        lock = threading.Lock()
        self._owner_condition, self._encoder_condition = (
            threading.Condition(lock),
            threading.Condition(lock),
        )
        self._calls: deque[_CallTask] = deque()
        self._searches: deque[_SearchTask] = deque()
        self._encoded: list[_EncodedSearch] = []
        self._is_encoding = self._is_searching = self._is_closed = False
        self._threads = [
            threading.Thread(target=self._run_owner, name=f"mmsearch-{index.name}"),
            threading.Thread(target=self._run_encoder, name=f"mmsearch-{index.name}-ahead"),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue_length(self) -> int:
        """Number of waiting calls."""
        return len(self._calls) + len(self._searches)

    async def search(self, request: SearchRequest) -> SearchResult:
        """Search the index; see `mmsearch.Index.query`.

        Raises:
            BusyError: Too many calls are waiting.
            DeadlineError: The caller's deadline (`core.deadlines`) passes first.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[SearchResult] = loop.create_future()
        with self._owner_condition:
            self._check_capacity()
            self._searches.append(_SearchTask(request, loop, future, deadline_s()))
            self._notify()
        return await future

    async def run(self, work: Callable[[api.Index], Result]) -> Result:
        """Call ``work`` with the index in the owner thread, and return its result.

        Raises:
            BusyError: Too many calls are waiting.
            DeadlineError: The caller's deadline passes first.
        """
        answer: Result = await asyncio.wrap_future(self._submit(work))
        return answer

    def run_blocking(self, work: Callable[[api.Index], Result]) -> Result:
        """Call ``work`` with the index, like `run`, for callers without an event loop."""
        future = self._submit(work)
        try:
            answer: Result = future.result(seconds_left())
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise deadline_error() from None
        return answer

    def close(self) -> None:
        """Answer waiting calls, then close the index."""
        with self._owner_condition:
            self._is_closed = True
            self._notify()
        for thread in self._threads:
            thread.join()

    # --- the queue; _check_capacity and _notify need the lock ---

    def _submit(self, work: Callable[[api.Index], Any]) -> Future[Any]:
        call = _CallTask(work, Future(), deadline_s())
        with self._owner_condition:
            self._check_capacity()
            self._calls.append(call)
            self._notify()
        return call.future

    def _check_capacity(self) -> None:
        if self._is_closed:
            raise BusyError("The server is shutting down.", "Try again later.")
        if self.queue_length >= self._max_queue:
            raise BusyError(f"{self._max_queue} queries are already waiting.", "Try again later.")

    def _notify(self) -> None:
        """Wake only the threads that have work now, because waking a thread takes time."""
        if self._owner_has_work():
            self._owner_condition.notify()
        if self._can_encode_ahead():
            self._encoder_condition.notify()

    def _owner_has_work(self) -> bool:
        if self._encoded and not self._calls:
            return True
        return not self._is_encoding and bool(self._calls or self._searches or self._is_closed)

    def _can_encode_ahead(self) -> bool:
        if self._is_closed:
            return True
        has_room = bool(self._searches) and len(self._encoded) < MAX_BATCH
        # Other calls need the index exclusively.
        return has_room and self._is_searching and not self._calls

    # --- the thread that owns the index ---

    def _run_owner(self) -> None:
        is_released = False
        while True:
            with self._owner_condition:
                idle_timeout_s = None if is_released or self._is_encoding else self._idle_timeout_s
                is_released = not self._owner_condition.wait_for(
                    self._owner_has_work, idle_timeout_s
                )
                calls, encoded, searches = self._next_work()
                if self._is_closed and not (calls or encoded or searches):
                    break
            if is_released:
                self._index.release()
            for call in calls:
                _execute(call, self._index)
            if searches:
                encoded = self._encode_batch(searches)
            if encoded:
                self._search_batch(encoded)
        self._index.close()

    def _next_work(self) -> tuple[list[_CallTask], list[_EncodedSearch], list[_SearchTask]]:
        """Return the next work of the owner: calls, encoded searches, or searches to encode."""
        if self._calls:
            calls = list(self._calls)
            self._calls.clear()
            return calls, [], []
        if self._encoded:
            encoded, self._encoded = self._encoded[:MAX_BATCH], self._encoded[MAX_BATCH:]
            return [], encoded, []
        return [], [], self._next_batch()

    def _search_batch(self, encoded: Sequence[_EncodedSearch]) -> None:
        batch = [
            (search, encoded_request)
            for search, encoded_request in encoded
            if encoded_request is not None
        ]
        unbatched = [search for search, encoded_request in encoded if encoded_request is None]
        with self._owner_condition:
            self._is_searching = True
            self._notify()
        results: Sequence[SearchResult | MMSearchError] = ()
        try:
            with deadline(_earliest_deadline([search for search, _ in batch])):
                results = self._index.answer([encoded_request for _, encoded_request in batch])
        # Running each search on its own shows which one failed.
        except BaseException:  # noqa: BLE001
            unbatched += [search for search, _ in batch]
        finally:
            with self._owner_condition:
                self._is_searching = False
        # Resolve only now: a client that searches again at once must not find the owner searching.
        _resolve([(search, answer) for (search, _), answer in zip(batch, results, strict=False)])
        if unbatched:
            self._search_individually(unbatched)

    def _search_individually(self, searches: Sequence[_SearchTask]) -> None:
        with self._owner_condition:
            # A search may reopen the index, and no other thread may use it then.
            self._owner_condition.wait_for(lambda: not self._is_encoding)
        for search in searches:
            try:
                with deadline(search.deadline_s):
                    (answer,) = self._index.search_many([search.request])
            # Every error belongs to the caller; the worker continues.
            except BaseException as error:  # noqa: BLE001
                _resolve([(search, error)])
            else:
                _resolve([(search, answer)])

    # --- encoding, in either thread ---

    def _run_encoder(self) -> None:
        while True:
            with self._encoder_condition:
                self._encoder_condition.wait_for(self._can_encode_ahead)
                if self._is_closed:
                    return
                searches = self._next_batch()
                self._is_encoding = True
            encoded = self._encode_batch(searches)
            with self._encoder_condition:
                self._encoded += encoded
                self._is_encoding = False
                self._owner_condition.notify()

    def _encode_batch(self, searches: Sequence[_SearchTask]) -> list[_EncodedSearch]:
        encoded_requests: Sequence[EncodedQuery | MMSearchError] | None = None
        with suppress(BaseException), deadline(_earliest_deadline(searches)):
            encoded_requests = self._index.encode([search.request for search in searches])
        if encoded_requests is None:
            return [(search, None) for search in searches]
        return list(zip(searches, encoded_requests, strict=True))

    def _next_batch(self) -> list[_SearchTask]:
        """Take the next searches to encode; skip those whose caller no longer waits.

        A search with a picture is a batch of its own, because encoding a picture takes as long as
        encoding a hundred texts.
        """
        batch: list[_SearchTask] = []
        while self._searches and len(batch) < MAX_BATCH:
            has_image = any(
                term.image is not None for term in self._searches[0].request.query.terms
            )
            if has_image and batch:
                break
            search = self._searches.popleft()
            if not search.future.done():
                batch.append(search)
            if has_image:
                break
        return batch


def _earliest_deadline(searches: Sequence[_SearchTask]) -> float:
    return min((search.deadline_s for search in searches), default=math.inf)


def _execute(call: _CallTask, index: api.Index) -> None:
    if not call.future.set_running_or_notify_cancel():
        return
    if time.monotonic() > call.deadline_s:
        call.future.set_exception(deadline_error())
        return
    try:
        with deadline(call.deadline_s):
            answer = call.work(index)
    # Every error belongs to the caller; the worker continues.
    except BaseException as error:  # noqa: BLE001
        call.future.set_exception(error)
    else:
        call.future.set_result(answer)


def _resolve(results: Sequence[tuple[_SearchTask, SearchResult | BaseException]]) -> None:
    """Set the results of searches, waking each event loop only once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_SearchTask, Any]]] = defaultdict(list)
    for search, result in results:
        by_loop[search.loop].append((search, result))
    for loop, loop_results in by_loop.items():
        # A closed event loop raises RuntimeError; nothing waits for its results.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_results, loop_results)


def _set_results(results: Sequence[tuple[_SearchTask, SearchResult | BaseException]]) -> None:
    for search, result in results:
        if search.future.done():
            continue
        if isinstance(result, BaseException):
            search.future.set_exception(result)
        else:
            search.future.set_result(result)


MAX_FEDERATIONS = 2
"""Maximum number of sets of indexes that are open to be searched as one."""


class IndexPool:
    """Workers of all served indexes, each opened on the first request for its index.

    Args:
        open_index: Opens an index by name.
        names: Returns the names of the indexes that are served now.
        max_queue: Maximum number of waiting calls per index; see `IndexWorker`.
        open_indexes: Opens several indexes that are searched as one; None to refuse that.
    """

    def __init__(
        self,
        open_index: Callable[[str], api.Index],
        names: Callable[[], list[str]],
        max_queue: int = MAX_QUEUE,
        open_indexes: Callable[[Sequence[str]], api.FederatedIndex] | None = None,
    ) -> None:
        self._open_index = open_index
        self._open_indexes = open_indexes
        self._names = names
        self._max_queue = max_queue
        self._workers: dict[str, IndexWorker] = {}
        # The one that was used last is the last.
        self._federations: dict[tuple[str, ...], IndexWorker] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of the served indexes."""
        return self._names()

    def open_workers(self) -> list[IndexWorker]:
        """Return the workers opened so far."""
        return list(self._workers.values())

    def federation(self, names: Sequence[str]) -> tuple[IndexWorker, Sequence[str]]:
        """Return the worker that searches several indexes as one, and their names.

        At most `MAX_FEDERATIONS` stay open: each has a model and readers of its own.

        Args:
            names: Names of the indexes; empty for all that are served.

        Raises:
            UnknownIndexError: One of the indexes is not served.
            UsageError: One is named twice.
        """
        served = self._names()
        names = tuple(names or served)
        for name in names:
            if name not in served:
                raise UnknownIndexError(
                    f"There is no index {name!r} here.", "GET /v1/indexes lists them."
                )
        if len(names) == 1 or self._open_indexes is None:
            return self.worker(names[0]), names
        with self._lock:
            worker = self._federations.pop(names, None)
            if worker is None:
                worker = IndexWorker(self._open_indexes(names), self._max_queue)
            self._federations[names] = worker
            unused = list(self._federations)[:-MAX_FEDERATIONS]
            closing = [self._federations.pop(each) for each in unused]
        for each in closing:
            # It answers the calls that are waiting first.
            threading.Thread(target=each.close, name="mmsearch-close").start()
        return worker, names

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
            open_workers = [*self.open_workers(), *self._federations.values()]
        for worker in open_workers:
            worker.close()
