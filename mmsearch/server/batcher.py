"""A desk: one thread that owns an open index; everyone else hands in calls and waits.

A vector index on a GPU allows one thread, and so does a connection to SQLite. Searches that come
while that thread answers others are encoded meanwhile by a second one, which does nothing else, and
are then answered together: the vectors are read once for all of them.
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
from mmsearch.core.deadlines import deadline, deadline_s, past_deadline, seconds_left
from mmsearch.core.errors import BusyError, MMSearchError
from mmsearch.core.requests import EncodedRequest, SearchRequest, SearchResult

Answer = TypeVar("Answer")

TOGETHER = 32
"""Searches that are encoded together, or answered: enough for all processors, and few enough that
the first does not wait long for the last."""

WAITING = 256
"""Calls that may wait; further ones are refused."""

IDLE_S = 300.0
"""When nobody has asked for so long, what pictures of queries need is freed."""


@dataclass(frozen=True)
class _Search:
    request: SearchRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[SearchResult]
    deadline_s: float


@dataclass(frozen=True)
class _Ask:
    work: Callable[[api.Index], Any]
    future: Future[Any]
    deadline_s: float


_Encoded: TypeAlias = tuple[_Search, EncodedRequest | MMSearchError | None]
"""With None, the search must be asked by itself."""


class Desk:
    """Answers calls about one index.

    Args:
        index: Used by the desk's threads alone from now on, and closed by them.
        waiting: So many calls may wait.
        idle_s: When nobody has asked for so long, the index rests; see `mmsearch.Index.rest`.
    """

    def __init__(self, index: api.Index, waiting: int = WAITING, idle_s: float = IDLE_S) -> None:
        self.name = index.name
        self._index = index
        self._limit = waiting
        self._idle_s = idle_s
        lock = threading.Lock()
        self._to_owner, self._to_encoder = threading.Condition(lock), threading.Condition(lock)
        self._asks: deque[_Ask] = deque()
        self._searches: deque[_Search] = deque()
        self._encoded: list[_Encoded] = []
        self._encoding = self._answering = self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"mmsearch-{index.name}"),
            threading.Thread(target=self._encode_ahead, name=f"mmsearch-{index.name}-ahead"),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Calls that nobody has taken up yet."""
        return len(self._asks) + len(self._searches)

    async def search(self, request: SearchRequest) -> SearchResult:
        """See `mmsearch.Index.query`.

        Raises:
            BusyError: Too many calls wait.
            DeadlineError: The caller's deadline (`core.deadlines`) passes first.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[SearchResult] = loop.create_future()
        with self._to_owner:
            self._admit()
            self._searches.append(_Search(request, loop, future, deadline_s()))
            self._tell()
        return await future

    async def ask(self, work: Callable[[api.Index], Answer]) -> Answer:
        """What ``work`` makes of the index.

        Raises:
            BusyError: Too many calls wait.
            DeadlineError: The caller's deadline passes first.
        """
        answer: Answer = await asyncio.wrap_future(self._asked(work))
        return answer

    def wait_for(self, work: Callable[[api.Index], Answer]) -> Answer:
        """As `ask`, for callers without an event loop."""
        future = self._asked(work)
        try:
            answer: Answer = future.result(seconds_left())
        except TimeoutError:
            if future.done():
                raise
            future.cancel()
            raise past_deadline() from None
        return answer

    def close(self) -> None:
        """Answer what waits, then close the index."""
        with self._to_owner:
            self._closed = True
            self._tell()
        for thread in self._threads:
            thread.join()

    # --- what callers do, with the lock held ---

    def _asked(self, work: Callable[[api.Index], Any]) -> Future[Any]:
        ask = _Ask(work, Future(), deadline_s())
        with self._to_owner:
            self._admit()
            self._asks.append(ask)
            self._tell()
        return ask.future

    def _admit(self) -> None:
        if self._closed:
            raise BusyError("The server is shutting down.", "Ask again in a while.")
        if self.waiting >= self._limit:
            raise BusyError(f"{self._limit} queries are waiting already.", "Ask again in a while.")

    def _tell(self) -> None:
        """Wake whoever has something to do now, and nobody else: a thread that wakes costs time."""
        if self._may_own():
            self._to_owner.notify()
        if self._may_encode():
            self._to_encoder.notify()

    def _may_own(self) -> bool:
        if self._encoded and not self._asks:
            return True
        return not self._encoding and bool(self._asks or self._searches or self._closed)

    def _may_encode(self) -> bool:
        if self._closed:
            return True
        wanted = bool(self._searches) and len(self._encoded) < TOGETHER
        # What else is asked of the index needs it alone.
        return wanted and self._answering and not self._asks

    # --- the thread that owns the index ---

    def _serve(self) -> None:
        rested = False
        while True:
            with self._to_owner:
                idle_s = None if rested or self._encoding else self._idle_s
                rested = not self._to_owner.wait_for(self._may_own, idle_s)
                asks, encoded, searches = self._turn()
                if self._closed and not (asks or encoded or searches):
                    break
            if rested:
                self._index.rest()
            for ask in asks:
                _carry_out(ask, self._index)
            if searches:
                encoded = self._encode(searches)
            if encoded:
                self._answer(encoded)
        self._index.close()

    def _turn(self) -> tuple[list[_Ask], list[_Encoded], list[_Search]]:
        """What the owner does next: one of these, or nothing."""
        if self._asks:
            asks = list(self._asks)
            self._asks.clear()
            return asks, [], []
        if self._encoded:
            encoded, self._encoded = self._encoded[:TOGETHER], self._encoded[TOGETHER:]
            return [], encoded, []
        return [], [], self._pop()

    def _answer(self, encoded: Sequence[_Encoded]) -> None:
        together = [(search, one) for search, one in encoded if one is not None]
        alone = [search for search, one in encoded if one is None]
        with self._to_owner:
            self._answering = True
            self._tell()
        answers: Sequence[SearchResult | MMSearchError] = ()
        try:
            with deadline(_first_deadline([search for search, _ in together])):
                answers = self._index.answer([one for _, one in together])
        # Whose fault it is shows when each is asked by itself.
        except BaseException:  # noqa: BLE001
            alone += [search for search, _ in together]
        finally:
            with self._to_owner:
                self._answering = False
        # Not before: who asks again at once is alone, and shall find nobody at work.
        _deliver([(search, answer) for (search, _), answer in zip(together, answers, strict=False)])
        if alone:
            self._answer_each(alone)

    def _answer_each(self, searches: Sequence[_Search]) -> None:
        with self._to_owner:
            # It may be opened anew, and then nobody else may use it.
            self._to_owner.wait_for(lambda: not self._encoding)
        for search in searches:
            try:
                with deadline(search.deadline_s):
                    (answer,) = self._index.query_each([search.request])
            # Whatever it is belongs to who asked; the desk goes on.
            except BaseException as error:  # noqa: BLE001
                _deliver([(search, error)])
            else:
                _deliver([(search, answer)])

    # --- encoding, in either thread ---

    def _encode_ahead(self) -> None:
        while True:
            with self._to_encoder:
                self._to_encoder.wait_for(self._may_encode)
                if self._closed:
                    return
                searches = self._pop()
                self._encoding = True
            encoded = self._encode(searches)
            with self._to_encoder:
                self._encoded += encoded
                self._encoding = False
                self._to_owner.notify()

    def _encode(self, searches: Sequence[_Search]) -> list[_Encoded]:
        made: Sequence[EncodedRequest | MMSearchError] | None = None
        with suppress(BaseException), deadline(_first_deadline(searches)):
            made = self._index.encode([search.request for search in searches])
        if made is None:
            return [(search, None) for search in searches]
        return list(zip(searches, made, strict=True))

    def _pop(self) -> list[_Search]:
        """Those to be encoded next, of which somebody still waits for the answer.

        A picture takes as long as a hundred texts: nobody else waits for it.
        """
        popped: list[_Search] = []
        while self._searches and len(popped) < TOGETHER:
            slow = any(term.image is not None for term in self._searches[0].request.query.terms)
            if slow and popped:
                break
            search = self._searches.popleft()
            if not search.future.done():
                popped.append(search)
            if slow:
                break
        return popped


def _first_deadline(searches: Sequence[_Search]) -> float:
    return min((search.deadline_s for search in searches), default=math.inf)


def _carry_out(ask: _Ask, index: api.Index) -> None:
    if not ask.future.set_running_or_notify_cancel():
        return
    if time.monotonic() > ask.deadline_s:
        ask.future.set_exception(past_deadline())
        return
    try:
        with deadline(ask.deadline_s):
            answer = ask.work(index)
    # Whatever it is belongs to who asked; the desk goes on.
    except BaseException as error:  # noqa: BLE001
        ask.future.set_exception(error)
    else:
        ask.future.set_result(answer)


def _deliver(answers: Sequence[tuple[_Search, SearchResult | BaseException]]) -> None:
    """Wake each event loop once for all of its answers."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Search, Any]]] = defaultdict(list)
    for search, answer in answers:
        by_loop[search.loop].append((search, answer))
    for loop, own in by_loop.items():
        # A loop that has ended waits for nothing.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, own)


def _settle(answers: Sequence[tuple[_Search, SearchResult | BaseException]]) -> None:
    for search, answer in answers:
        if search.future.done():
            continue
        if isinstance(answer, BaseException):
            search.future.set_exception(answer)
        else:
            search.future.set_result(answer)
