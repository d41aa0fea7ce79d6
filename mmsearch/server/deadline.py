"""Deadline for the time from a request to the start of its answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.deadlines import deadline_error, override_deadline
from mmsearch.server.errors import problem_response, response_for_error

MIN_BYTES_PER_S = 16_384
"""Minimum rate of a request body in bytes per second; slower ones time out."""

CHECK_INTERVAL_S = 0.25
"""Seconds between two checks for expired requests; a timer per request costs 40 microseconds."""


PAUSE_STATE_KEY = "pause_deadline"
"""Key in a request's state of the context in which its deadline does not run."""


def pause_deadline(request: Request) -> AbstractContextManager[None]:
    """Return a context in which the deadline of a request does not run, for writes."""
    pause = getattr(request.state, PAUSE_STATE_KEY, None)
    return nullcontext() if pause is None else pause()


@dataclass(eq=False, slots=True)
class _PendingRequest:
    task: asyncio.Task[Any]
    started_s: float
    timeout_s: float
    deadline_s: float = math.inf
    received_bytes: int = 0
    paused_s: float = 0.0
    is_receiving: bool = False
    is_complete: bool = False
    response_started: bool = False
    is_expired: bool = False

    def set_deadline(self, now_s: float) -> None:
        """Set the deadline by what has arrived, unless the answer has started."""
        if self.response_started:
            return
        body_time_s = self.received_bytes / MIN_BYTES_PER_S + self.paused_s
        from_s = now_s if self.is_complete else self.started_s + body_time_s
        self.deadline_s = from_s + self.timeout_s
        override_deadline(self.deadline_s)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Stop the deadline during the context."""
        paused_at_s = time.monotonic()
        self.deadline_s = math.inf
        override_deadline(math.inf)
        try:
            yield
        finally:
            now_s = time.monotonic()
            self.paused_s += now_s - paused_at_s
            self.set_deadline(now_s)


class DeadlineMiddleware:
    """ASGI middleware that answers 503 if an answer takes too long.

    The time starts when the whole request has arrived: a large body may take as long as its size
    allows at `MIN_BYTES_PER_S`. It ends when the answer starts: `server.http_protocol` limits
    how slowly a client may read the rest, and job events are sent for as long as the job runs.

    Routes that write may take longer: `pause_deadline`.

    Work done for the request can read the deadline (`core.deadlines`) and is cancelled with it.

    Args:
        app: The application. Each request must run in its own task, as it does in uvicorn.
        timeout_s: Seconds that a request may take.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._check_interval_s = min(CHECK_INTERVAL_S, timeout_s / 4)
        self._requests: set[_PendingRequest] = set()
        self._scheduled_loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or send 503 (or 408) when its deadline passes."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        request = _PendingRequest(task, loop.time(), self._timeout_s)
        request.set_deadline(loop.time())

        async def receive_with_deadline() -> Message:
            if request.is_complete:
                return await receive()
            request.is_receiving = True
            message = await receive()
            request.is_receiving = False
            request.received_bytes += len(message.get("body", b""))
            request.is_complete = not message.get("more_body", False)
            request.set_deadline(loop.time())
            return message

        async def send_with_deadline(message: Message) -> None:
            request.response_started = True
            request.deadline_s = math.inf
            await send(message)

        scope.setdefault("state", {})[PAUSE_STATE_KEY] = request.pause
        cancel_count = task.cancelling()
        self._requests.add(request)
        self._schedule_check(loop)
        try:
            await self._app(scope, receive_with_deadline, send_with_deadline)
        except asyncio.CancelledError:
            # A cancellation by anyone else takes precedence.
            if not request.is_expired or task.uncancel() > cancel_count:
                raise
        finally:
            self._requests.discard(request)
        if request.is_expired and not request.response_started:
            override_deadline(math.inf)
            response = (
                _request_timeout_response()
                if request.is_receiving
                else response_for_error(deadline_error())
            )
            await response(scope, receive, send)

    def _schedule_check(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._scheduled_loop is not loop:
            self._scheduled_loop = loop
            loop.call_later(self._check_interval_s, self._cancel_expired, loop)

    def _cancel_expired(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel expired requests, and schedule the next check while requests are pending."""
        now_s = loop.time()
        for request in self._requests:
            if now_s > request.deadline_s and not request.is_expired:
                request.is_expired = True
                request.task.cancel()
        self._scheduled_loop = None
        if self._requests:
            self._schedule_check(loop)


def _request_timeout_response() -> Response:
    return problem_response(408, "The request did not arrive in time.", {"Connection": "close"})
