"""The time that a request may take until its answer begins."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.deadlines import move_deadline, past_deadline
from mmsearch.server.errors import known_problem, problem

LEAST_BYTES_PER_S = 16_384
"""A body that comes more slowly is not waited for."""

LOOK_EVERY_S = 0.25
"""Seconds between two looks for requests that are late: a timer for each takes 40 microseconds."""


@dataclass(eq=False, slots=True)
class _Request:
    task: asyncio.Task[Any]
    ends_s: float
    bytes: int = 0
    is_coming: bool = False
    is_whole: bool = False
    has_begun: bool = False
    is_late: bool = False


class Deadline:
    """An ASGI layer that answers 503 in the place of an answer that takes too long.

    The time begins when the whole request is there: a large body may take as long as its size
    allows at `LEAST_BYTES_PER_S`. It ends when the answer begins: `server.connection_limits` limits
    how slowly a client may take the rest, and events of jobs come as long as the job runs.

    Whatever works for the request knows the deadline (`core.deadlines`), and is cancelled with it.

    Args:
        app: Answers. Each request must have a task of its own, as uvicorn makes it.
        seconds: That a request may take.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds
        self._every_s = min(LOOK_EVERY_S, seconds / 4)
        self._requests: set[_Request] = set()
        self._looks_in: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        request = _Request(task, began_s + self._seconds)

        async def receive_in_time() -> Message:
            if request.is_whole:
                return await receive()
            request.is_coming = True
            message = await receive()
            request.is_coming = False
            request.bytes += len(message.get("body", b""))
            request.is_whole = not message.get("more_body", False)
            if not request.has_begun:
                waits_s = request.bytes / LEAST_BYTES_PER_S
                since_s = loop.time() if request.is_whole else began_s + waits_s
                request.ends_s = since_s + self._seconds
                move_deadline(request.ends_s)
            return message

        async def send_in_time(message: Message) -> None:
            request.has_begun = True
            request.ends_s = math.inf
            await send(message)

        cancelled = task.cancelling()
        move_deadline(request.ends_s)
        self._requests.add(request)
        self._look_later(loop)
        try:
            await self._app(scope, receive_in_time, send_in_time)
        except asyncio.CancelledError:
            # Another may have cancelled it, too: that counts.
            if not request.is_late or task.uncancel() > cancelled:
                raise
        finally:
            self._requests.discard(request)
        if request.is_late and not request.has_begun:
            move_deadline(math.inf)
            answer = _body_is_late() if request.is_coming else known_problem(past_deadline())
            await answer(scope, receive, send)

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._looks_in is not loop:
            self._looks_in = loop
            loop.call_later(self._every_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel requests that are late; look again as long as there are any."""
        now_s = loop.time()
        for request in self._requests:
            if now_s > request.ends_s and not request.is_late:
                request.is_late = True
                request.task.cancel()
        self._looks_in = None
        if self._requests:
            self._look_later(loop)


def _body_is_late() -> Response:
    return problem(408, "The request did not come in time.", {"Connection": "close"})
