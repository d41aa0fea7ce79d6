"""The time that a request may take until its answer begins."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.deadlines import deadline, move_deadline, past_deadline
from mmsearch.server.problems import known_problem, problem

LEAST_BYTES_PER_S = 16_384
"""A body that comes more slowly is not waited for."""


class Deadline:
    """An ASGI layer that answers 503 in the place of an answer that takes too long.

    The time begins when the whole request is there: a large body may take as long as its size
    allows at `LEAST_BYTES_PER_S`. It ends when the answer begins: `server.connections` limits how
    slowly a client may take the rest, and events of jobs come as long as the job runs.

    Whatever works for the request knows the deadline (`core.deadlines`), and is cancelled with it.

    Args:
        app: Answers.
        seconds: That a request may take.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop, got = asyncio.get_running_loop(), 0
        is_whole = is_coming = has_begun = False

        async def receive_in_time() -> Message:
            nonlocal got, is_whole, is_coming
            if is_whole:
                return await receive()
            is_coming = True
            message = await receive()
            is_coming = False
            got += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if not has_begun:
                ends_s = self._seconds
                ends_s += loop.time() if is_whole else began_s + got / LEAST_BYTES_PER_S
                timer.reschedule(ends_s)
                move_deadline(ends_s)
            return message

        async def send_in_time(message: Message) -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                timer.reschedule(None)
            await send(message)

        began_s = loop.time()
        try:
            async with asyncio.timeout(self._seconds) as timer:
                with deadline(began_s + self._seconds):
                    await self._app(scope, receive_in_time, send_in_time)
        except TimeoutError:
            if has_begun or not timer.expired():
                raise
            late = _body_is_late() if is_coming else known_problem(past_deadline())
            await late(scope, receive, send)


def _body_is_late() -> Response:
    return problem(408, "The request did not come in time.", {"Connection": "close"})
