"""Middleware for the HTTP semantics (RFC 9110) that all routes share.

Routes answer GET with an ETag or a modification date. This module implements HEAD, conditional
requests, the syntax of ranges and the format of errors for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.server.errors import PROBLEM_MEDIA_TYPE, problem_response

_CONTENT_HEADERS = frozenset(
    {b"content-length", b"content-type", b"content-encoding", b"content-range"}
)
"""Headers that describe a body, and are dropped together with it."""

_ETAG_PATTERN = re.compile(r'(?:W/)?"[^"]*"')

_SINGLE_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII | re.IGNORECASE)

_MAX_RANGE_DIGITS = 18
"""Maximum number of digits of a position; longer ones become 18 nines, beyond any content."""

_ERROR_DETAILS = {
    400: "The request headers ask for something that this server does not allow.",
    416: "The content ends before the requested range.",
}

_ResponseReplacer = Callable[[int, Headers], Response | None]


class _ResponseSentError(Exception):
    """Raised when the answer is complete, to stop the application from producing more."""


class HttpSemanticsMiddleware:
    """ASGI middleware that answers HEAD and conditional requests from the answers to GET.

    Args:
        app: The application that answers GET and the other methods.
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
        get_scope = {
            **scope,
            "method": "GET",
            "headers": [
                *(header for header in headers.raw if header[0] != b"range"),
                # Only GET supports ranges.
                *([] if is_head else _single_range_header(headers)),
            ],
        }

        def replace(status: int, response_headers: Headers) -> Response | None:
            return _evaluate_conditions(headers, response_headers) if status in (200, 206) else None

        try:
            await _send_or_replace(
                self._app, get_scope, receive, send, replace, has_body=not is_head
            )
        finally:
            # Metrics count requests by route, which is read from the outer scope.
            if "route" in get_scope:
                scope["route"] = get_scope["route"]


class ProblemDetailsMiddleware:
    """ASGI middleware that turns every error except HTML pages into a problem document.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_body = scope["method"] != "HEAD"
        # Pass on the same scope: the application stores the route in it.
        await _send_or_replace(
            self._app, scope, receive, send, _problem_for_status, has_body=has_body
        )


async def _send_or_replace(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    replace: _ResponseReplacer,
    *,
    has_body: bool,
) -> None:
    """Send the answer of an application, or the replacement that ``replace`` returns for it."""

    async def send_replaced(message: Message) -> None:
        if message["type"] != "http.response.start":
            await send(message)
            return
        status = message["status"]
        replacement = replace(status, Headers(raw=list(message.get("headers", ()))))
        if replacement is None and has_body:
            await send(message)
            return
        if replacement is not None:
            message = {
                **message,
                "status": replacement.status_code,
                "headers": replacement.raw_headers,
            }
        await send(message)
        body = replacement.body if replacement is not None and has_body else b""
        await send({"type": "http.response.body", "body": bytes(body)})
        raise _ResponseSentError

    with suppress(_ResponseSentError):
        await app(scope, receive, send_replaced)


def _problem_for_status(status: int, response_headers: Headers) -> Response | None:
    media_type = response_headers.get("content-type", "").split(";")[0]
    if status < 400 or media_type in (PROBLEM_MEDIA_TYPE, "text/html"):
        return None
    kept_headers = {
        name: value
        for name, value in response_headers.items()
        if name.encode() not in _CONTENT_HEADERS or (status == 416 and name == "content-range")
    }
    return problem_response(
        status, _ERROR_DETAILS.get(status, "The server cannot answer this request."), kept_headers
    )


def _single_range_header(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the Range header if it is one valid range of bytes; ignore all others.

    Otherwise `FileResponse` would answer several ranges in one body, and invalid ones with 400.
    """
    values = headers.getlist("range")
    match = _SINGLE_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return []
    first, last = (
        digits if len(digits) <= _MAX_RANGE_DIGITS else "9" * _MAX_RANGE_DIGITS
        for digits in match.groups()
    )
    if not (first or last) or (first and last and int(first) > int(last)):
        return []
    return [(b"range", f"bytes={first}-{last}".encode())]


# --- conditions, RFC 9110, section 13.2.2 ---


def _evaluate_conditions(request_headers: Headers, response_headers: Headers) -> Response | None:
    """Return 412 or 304 if the conditions of a GET request require it, else None."""
    etag = response_headers.get("etag")
    last_modified = _parse_http_date(response_headers.get("last-modified"))
    if_match = request_headers.getlist("if-match")
    if if_match:
        is_match = _etag_matches(if_match, etag, weak=False)
    else:
        since = _parse_http_date(request_headers.get("if-unmodified-since"))
        is_match = since is None or last_modified is None or last_modified <= since
    if not is_match:
        return problem_response(412, "The content does not match the request's condition.")
    if_none_match = request_headers.getlist("if-none-match")
    if if_none_match:
        is_unchanged = _etag_matches(if_none_match, etag, weak=True)
    else:
        since = _parse_http_date(request_headers.get("if-modified-since"))
        is_unchanged = since is not None and last_modified is not None and last_modified <= since
    if not is_unchanged:
        return None
    not_modified = Response(status_code=304)
    not_modified.raw_headers = [
        header for header in response_headers.raw if header[0] not in _CONTENT_HEADERS
    ]
    return not_modified


def _etag_matches(header_values: list[str], etag: str | None, *, weak: bool) -> bool:
    joined = ",".join(header_values)
    if joined.strip() == "*":
        return True
    if etag is None or (not weak and etag.startswith("W/")):
        return False
    etags = _ETAG_PATTERN.findall(joined)
    if not weak:
        return etag in etags
    return etag.removeprefix("W/") in {candidate.removeprefix("W/") for candidate in etags}


def _parse_http_date(text: str | None) -> datetime | None:
    """Return the time of an HTTP date, or None if it is missing or invalid."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo is not None else None
