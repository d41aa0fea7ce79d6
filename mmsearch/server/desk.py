"""A desk: one thread that owns an open index; everyone else hands in calls and waits.

A vector index on a GPU allows one thread, and so does a connection to SQLite. What is handed in
while the thread is busy is taken up together, and the texts of those queries are encoded in one
batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from mmsearch import api
from mmsearch.core.errors import BusyError, MMSearchError, UnknownIndexError
from mmsearch.core.requests import SearchRequest, SearchResult

Answer = TypeVar("Answer")

BATCH = 64
"""Calls that are taken up together."""

GATHER_S = 0.002
"""How long the desk waits for as many calls as came together before."""

WAITING = 256
"""Calls that may wait; further ones are refused."""

IDLE_S = 300.0
"""When nobody has asked for so long, what pictures of queries need is freed."""


@dataclass(frozen=True)
class _Call:
    work: Callable[[api.Index], Any]
    request: SearchRequest | None
    future: Future[Any]


class Desk:
    """Answers calls about one index, one after the other.

    Args:
        index: Used by the desk's thread alone from now on, and closed by it.
        waiting: So many calls may wait.
        idle_s: When nobody has asked for so long, the index rests; see `mmsearch.Index.rest`.
    """

    def __init__(self, index: api.Index, waiting: int = WAITING, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self.name = index.name
        self._index = index
        self._limit = waiting
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=f"mmsearch-{index.name}")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that nobody has taken up yet."""
        return len(self._calls)

    async def search(self, request: SearchRequest) -> SearchResult:
        """See `mmsearch.Index.query`.

        Raises:
            BusyError: Too many calls wait.
        """
        call = self._hand_in(lambda index: index.query(request), request)
        result: SearchResult = await asyncio.wrap_future(call.future)
        return result

    async def ask(self, work: Callable[[api.Index], Answer]) -> Answer:
        """What ``work`` makes of the index.

        Raises:
            BusyError: Too many calls wait.
        """
        answer: Answer = await asyncio.wrap_future(self._hand_in(work).future)
        return answer

    def wait_for(self, work: Callable[[api.Index], Answer]) -> Answer:
        """As `ask`, for callers without an event loop."""
        answer: Answer = self._hand_in(work).future.result()
        return answer

    def close(self) -> None:
        """Answer what waits, then close the index."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _hand_in(
        self, work: Callable[[api.Index], Any], request: SearchRequest | None = None
    ) -> _Call:
        call = _Call(work, request, Future())
        with self._changed:
            if self._closed:
                raise BusyError("The server is shutting down.", "Ask again in a while.")
            if len(self._calls) >= self._limit:
                raise BusyError(
                    f"{self._limit} queries are waiting already.", "Ask again in a while."
                )
            self._calls.append(call)
            self._changed.notify_all()
        return call

    def _serve(self) -> None:
        crowd = 1
        while (calls := self._take_up(crowd)) is not None:
            if not calls:
                self._index.rest()
            crowd = len(calls)
            requests = [call.request for call in calls if call.request is not None]
            if len(requests) > 1:
                # Whose query it is that cannot be encoded shows when it is asked by itself.
                with suppress(MMSearchError):
                    self._index.warm(requests)
            for call in calls:
                _carry_out(call, self._index)
        self._index.close()

    def _take_up(self, crowd: int) -> list[_Call] | None:
        """Everything that waits; [] if nobody has asked for long; None: the desk is closed.

        Who comes alone is never kept waiting for others; a crowd comes together again.
        """
        with self._changed:
            # After a rest nothing is left to free: only a call ends the next wait.
            idle_s = self._idle_s if crowd else None
            if not self._changed.wait_for(lambda: self._calls or self._closed, idle_s):
                return []
            if not self._calls:
                return None
            until = time.monotonic() + GATHER_S
            while 1 < crowd > len(self._calls) and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]


def _carry_out(call: _Call, index: api.Index) -> None:
    if not call.future.set_running_or_notify_cancel():
        return
    try:
        answer = call.work(index)
    # Whatever it is belongs to who asked; the desk goes on.
    except BaseException as error:  # noqa: BLE001
        call.future.set_exception(error)
    else:
        call.future.set_result(answer)


class Desks:
    """The desks of all indexes that are served, opened when they are first asked.

    Args:
        open_index: An index by name.
        names: What is served now, by name.
        waiting: See `Desk`.
    """

    def __init__(
        self,
        open_index: Callable[[str], api.Index],
        names: Callable[[], list[str]],
        waiting: int = WAITING,
    ) -> None:
        self._open_index = open_index
        self._names = names
        self._waiting = waiting
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The indexes that are served."""
        return self._names()

    def opened(self) -> list[Desk]:
        """Those that anyone has asked."""
        return list(self._desks.values())

    def desk(self, name: str) -> Desk:
        """The desk of an index.

        Raises:
            UnknownIndexError: It is not served.
        """
        with self._lock:
            desk = self._desks.get(name)
            if desk is None:
                if name not in self._names():
                    raise UnknownIndexError(
                        f"There is no index {name!r} here.", "GET /v1/indexes lists them."
                    )
                desk = self._desks[name] = Desk(self._open_index(name), self._waiting)
            return desk

    def close(self) -> None:
        """Close them all; none opens again."""
        self._names = list
        for desk in self.opened():
            desk.close()
