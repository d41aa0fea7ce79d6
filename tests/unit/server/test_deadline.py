"""A request gets an answer in time, whatever it waits for."""

import asyncio
import math
import time

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from mmsearch.core.deadlines import deadline, deadline_error, deadline_s, seconds_left
from mmsearch.core.errors import DeadlineError
from mmsearch.server import deadline as layer
from mmsearch.server.deadline import DeadlineMiddleware

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


def run_app(app, seconds=0.1, bodies=((0.0, b"", False),)):
    """Status, headers and body of what an application answers behind a deadline.

    Args:
        app: Answers.
        seconds: Of the deadline.
        bodies: Parts of the request: seconds before each, its bytes, whether more come.
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


def test_what_is_answered_in_time_is_unchanged():
    assert run_app(PlainTextResponse("done"))[2] == b"done"


def test_what_waits_too_long_is_cancelled_and_answered():
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


def test_an_answer_that_has_begun_may_take_longer():
    async def parts():
        for _ in range(3):
            await asyncio.sleep(0.1)
            yield b"x"

    assert run_app(StreamingResponse(parts()))[2] == b"xxx"


def test_the_time_begins_when_the_request_is_whole():
    async def counts(scope, receive, send):
        got = await whole(receive)
        assert 0.1 < seconds_left() <= 0.3
        await PlainTextResponse(str(got))(scope, receive, send)

    bodies = [(0.2, b"x" * layer.MIN_BYTES_PER_S, True), (0.2, b"", False)]
    assert run_app(counts, 0.3, bodies)[2] == b"16384"


def test_a_body_that_comes_too_slowly_is_not_waited_for():
    async def counts(scope, receive, send):
        await whole(receive)

    status, headers, body = run_app(counts, 0.2, [(0.05, b"x", True)] * 100)
    assert (status, headers[b"connection"]) == (408, b"close")
    assert b"The request did not arrive in time." in body


def test_a_timeout_of_the_application_is_its_own():
    async def late(scope, receive, send):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_app(late)


def test_who_works_for_a_request_knows_its_deadline():
    async def looks(scope, receive, send):
        await whole(receive)
        left = await asyncio.to_thread(seconds_left)
        await PlainTextResponse(str(0 < left <= 5))(scope, receive, send)

    assert run_app(looks, 5)[2] == b"True"
    assert deadline_s() == math.inf


def test_the_earlier_of_two_deadlines_counts():
    assert seconds_left() is None
    with deadline(time.monotonic() + 5), deadline(time.monotonic() + 50):
        assert 0 < seconds_left() <= 5
    with deadline(time.monotonic() - 5):
        assert seconds_left() == 0
    assert seconds_left() is None
    assert isinstance(deadline_error(), DeadlineError)
    assert deadline_error().http_status == 503
