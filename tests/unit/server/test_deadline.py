"""Tests of the request deadline: every request gets a response in time."""

import asyncio
import math
import time

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from mmsearch.core.deadlines import deadline, deadline_error, deadline_s, seconds_left
from mmsearch.core.errors import DeadlineError
from mmsearch.server import deadline as layer
from mmsearch.server.deadline import DeadlineMiddleware, pause_deadline

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


def run_app(app, seconds=0.1, bodies=((0.0, b"", False),)):
    """Return status, headers and body of the response of an application behind a deadline.

    Args:
        app: ASGI application that sends the response.
        seconds: Length of the deadline.
        bodies: Parts of the request: delay in seconds, bytes, and a flag that more parts follow.
    """
    left, sent = list(bodies), []

    async def receive():
        if not left:
            await asyncio.Event().wait()
        after_s, body, more = left.pop(0)
        await asyncio.sleep(after_s)
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(message):
        sent.append(message)

    asyncio.run(DeadlineMiddleware(app, seconds)(SCOPE, receive, send))
    start, *parts = sent
    return start["status"], dict(start["headers"]), b"".join(part["body"] for part in parts)


async def whole(receive):
    got, more = 0, True
    while more:
        message = await receive()
        got += len(message["body"])
        more = message["more_body"]
    return got


def test_deadline_middleware_fast_response_passes_unchanged():
    assert run_app(PlainTextResponse("done"))[2] == b"done"


def test_deadline_middleware_slow_app_is_cancelled_and_answered_with_503():
    ended = []

    async def stuck(scope, receive, send):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    status, headers, body = run_app(stuck)
    assert (status, ended) == (503, [True])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"retry-after"] == b"1"
    assert b"The request took longer than the server allows." in body
    assert b'"kind":"DeadlineError"' in body


def test_deadline_middleware_started_response_may_exceed_deadline():
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield b"x"

    assert run_app(StreamingResponse(parts()))[2] == b"xxx"


def test_deadline_middleware_time_starts_after_complete_request_body():
    async def counts(scope, receive, send):
        got = await whole(receive)
        assert 0.1 < seconds_left() <= 0.3
        await PlainTextResponse(str(got))(scope, receive, send)

    bodies = [(0.2, b"x" * layer.MIN_BYTES_PER_S, True), (0.2, b"", False)]
    assert run_app(counts, 0.3, bodies)[2] == b"16384"


def test_deadline_middleware_slow_request_body_is_answered_with_408():
    async def counts(scope, receive, send):
        await whole(receive)

    status, headers, body = run_app(counts, 0.2, [(0.05, b"x", True)] * 100)
    assert (status, headers[b"connection"]) == (408, b"close")
    assert b"The request did not arrive in time." in body


def test_deadline_middleware_timeout_error_of_app_propagates():
    async def late(scope, receive, send):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_app(late)


def test_deadline_middleware_sets_deadline_for_threads_of_request():
    async def looks(scope, receive, send):
        await whole(receive)
        left = await asyncio.to_thread(seconds_left)
        await PlainTextResponse(str(0 < left <= 5))(scope, receive, send)

    assert run_app(looks, 5)[2] == b"True"
    assert deadline_s() == math.inf


def test_deadline_nested_uses_earlier_and_expired_leaves_zero_seconds():
    assert seconds_left() is None
    with deadline(time.monotonic() + 5), deadline(time.monotonic() + 50):
        assert 0 < seconds_left() <= 5
    with deadline(time.monotonic() - 5):
        assert seconds_left() == 0
    assert seconds_left() is None
    assert isinstance(deadline_error(), DeadlineError)
    assert deadline_error().http_status == 503


def test_deadline_does_not_run_while_it_is_paused():
    async def write(scope, receive, send):
        request = Request(scope, receive)
        assert await whole(receive) == 1
        with pause_deadline(request):
            assert seconds_left() is None
            await asyncio.sleep(0.3)
        assert 0 < seconds_left() <= 0.1
        await PlainTextResponse("written")(scope, receive, send)

    assert run_app(write, bodies=[(0.0, b"x", False)])[2] == b"written"


def test_deadline_runs_again_after_a_pause():
    async def stuck(scope, receive, send):
        with pause_deadline(Request(scope, receive)):
            await asyncio.sleep(0.2)
        await asyncio.Event().wait()

    assert run_app(stuck)[0] == 503


def test_pause_does_not_count_for_a_body_that_arrives_slowly():
    async def write(scope, receive, send):
        request = Request(scope, receive)
        for _ in range(3):
            await receive()
            with pause_deadline(request):
                await asyncio.sleep(0.15)
        await PlainTextResponse("written")(scope, receive, send)

    parts = [(0.0, b"x", True), (0.02, b"x", True), (0.02, b"x", False)]
    assert run_app(write, bodies=parts)[2] == b"written"
