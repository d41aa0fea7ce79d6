"""What RFC 9110 asks of every answer, whatever route gives it.

Routes answer GET with an ETag or a date of change. HEAD, conditional requests, the syntax of ranges
and the form of errors are the same for all of them, and are here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.server.errors import MEDIA_TYPE, problem
from mmsearch.server.ranges import canonical_range

_OF_CONTENT = frozenset({b"content-length", b"content-type", b"content-encoding", b"content-range"})
"""Headers that describe a body, and go with it."""

_TAG = re.compile(r'(?:W/)?"[^"]*"')

_DETAILS = {
    400: "The headers of the request ask for what this server does not allow.",
    416: "The content ends before the range that the request asks for.",
}

_Replace = Callable[[int, Headers], Response | None]


class _AnsweredError(Exception):
    """The answer is complete, and nothing else of what an application makes is needed."""


class Semantics:
    """Answers HEAD and conditional requests from what an application answers to GET.

    Args:
        app: Answers GET and the other methods.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        headers = Headers(scope=scope)
        get = {
            **scope,
            "method": "GET",
            # Only GET has ranges.
            "headers": [*_without_range(headers), *([] if is_head else _one_range(headers))],
        }

        def replace(status: int, answer: Headers) -> Response | None:
            return _by_conditions(headers, answer) if status in (200, 206) else None

        try:
            await _answer(self._app, get, receive, send, replace, has_body=not is_head)
        finally:
            # Requests are counted by their routes.
            if "route" in get:
                scope["route"] = get["route"]


class ErrorDocuments:
    """Gives every error of an application the form of a problem document; pages stay.

    Args:
        app: Answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_body = scope["method"] != "HEAD"
        # The same scope, for the route is noted in it.
        await _answer(self._app, scope, receive, send, _as_problem, has_body=has_body)


async def _answer(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, replace: _Replace, *, has_body: bool
) -> None:
    """Send what an application answers, or what is given in its place."""

    async def send_replaced(message: Message) -> None:
        if message["type"] != "http.response.start":
            await send(message)
            return
        status = message["status"]
        answer = replace(status, Headers(raw=list(message.get("headers", ()))))
        if answer is None and has_body:
            await send(message)
            return
        if answer is not None:
            message = {**message, "status": answer.status_code, "headers": answer.raw_headers}
        await send(message)
        body = answer.body if answer is not None and has_body else b""
        await send({"type": "http.response.body", "body": bytes(body)})
        raise _AnsweredError

    with suppress(_AnsweredError):
        await app(scope, receive, send_replaced)


def _as_problem(status: int, answer: Headers) -> Response | None:
    media_type = answer.get("content-type", "").split(";")[0]
    if status < 400 or media_type in (MEDIA_TYPE, "text/html"):
        return None
    kept = {
        name: value
        for name, value in answer.items()
        if name.encode() not in _OF_CONTENT or (status == 416 and name == "content-range")
    }
    return problem(status, _DETAILS.get(status, "The request cannot be answered."), kept)


def _without_range(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    return (pair for pair in headers.raw if pair[0] != b"range")


def _one_range(headers: Headers) -> list[tuple[bytes, bytes]]:
    wanted = headers.getlist("range")
    canonical = canonical_range(wanted[0]) if len(wanted) == 1 else None
    return [] if canonical is None else [(b"range", canonical.encode())]


# --- conditions, RFC 9110, section 13.2.2 ---


def _by_conditions(request: Headers, answer: Headers) -> Response | None:
    """Return 412 or 304 if the conditions of a GET request want that, else None."""
    tag = answer.get("etag")
    changed_at = _date(answer.get("last-modified"))
    match = request.getlist("if-match")
    if match:
        is_same = _matches(match, tag, weakly=False)
    else:
        since = _date(request.get("if-unmodified-since"))
        is_same = since is None or changed_at is None or changed_at <= since
    if not is_same:
        return problem(412, "The content is not the one that the request's condition names.")
    none_match = request.getlist("if-none-match")
    if none_match:
        is_known = _matches(none_match, tag, weakly=True)
    else:
        since = _date(request.get("if-modified-since"))
        is_known = since is not None and changed_at is not None and changed_at <= since
    if not is_known:
        return None
    unchanged = Response(status_code=304)
    unchanged.raw_headers = [pair for pair in answer.raw if pair[0] not in _OF_CONTENT]
    return unchanged


def _matches(wanted: list[str], tag: str | None, *, weakly: bool) -> bool:
    listed = ",".join(wanted)
    if listed.strip() == "*":
        return True
    if tag is None or (not weakly and tag.startswith("W/")):
        return False
    tags = _TAG.findall(listed)
    if not weakly:
        return tag in tags
    return tag.removeprefix("W/") in {each.removeprefix("W/") for each in tags}


def _date(text: str | None) -> datetime | None:
    """Return the time of an HTTP date; None if it is missing or cannot be read."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo is not None else None
