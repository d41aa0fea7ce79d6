"""ASGI middleware that checks the token, Host and Origin headers, body size and rate of requests.

It works at the ASGI level, where bodies arrive in chunks, so it never holds bodies that are too
large.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.server.auth import is_authenticated
from mmsearch.server.config import ServerConfig, is_loopback
from mmsearch.server.errors import problem_response
from mmsearch.server.forwarded import get_route_path
from mmsearch.server.rate_limit import CHARGE_STATE_KEY, RateLimit

PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
"""Health checks that need no token; they reveal nothing about pictures."""

LOGIN_ROUTES = frozenset({("GET", "/"), ("GET", "/docs"), ("POST", "/session")})
"""Routes of the login, which need no token; pages show only the login form until then."""

STATIC_PREFIX = "/static/"
"""Prefix of the page's style sheet and scripts, which are the same for everyone."""

READ_ONLY_PATHS = re.compile(
    rf"{STATIC_PREFIX}.*|/v1/indexes(/[^/]+(/(pictures|sources|jobs|items)(/.*)?)?)?"
)
"""Paths that GET may read without rate limit: a page of hits requests a picture for each hit."""

BULK_PATHS = re.compile(r"/v1/indexes/[^/]+/items")
"""Paths whose POST bodies are read as streams, so that they may be larger than others."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Answers must not load or run anything; HTML pages set a policy of their own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}

_RAW_SECURITY_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]


class _TooLargeError(Exception):
    """Raised when a body is larger than allowed."""


class SecurityMiddleware:
    """ASGI middleware that refuses requests that the configuration does not allow.

    Args:
        app: The application that answers allowed requests.
        config: Token, allowed origins and limits.
        clock: Returns the time in seconds; tests replace it.
    """

    def __init__(
        self, app: ASGIApp, config: ServerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._config = config
        self._rate_limit = RateLimit(config.requests_per_s, clock)
        self._active_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                response_headers = list(message.get("headers", ()))
                present_names = {name.lower() for name, _ in response_headers}
                message["headers"] = response_headers + [
                    header for header in _RAW_SECURITY_HEADERS if header[0] not in present_names
                ]
            await send(message)

        headers = first_header_values(scope)
        error_response = self._error_response(scope, headers)
        if error_response is not None:
            await error_response(scope, receive, send_with_headers)
            return
        self._active_requests += 1
        try:
            await self._limit_body(scope, headers, receive, send_with_headers)
        finally:
            self._active_requests -= 1

    def _error_response(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        if not self._is_host_allowed(headers.get(b"host", b"")):
            return problem_response(
                421, "Host header not allowed. Use the address that the server printed."
            )
        if not self._is_origin_allowed(headers):
            return problem_response(
                403, "Origin not allowed. Allow it with --allow-origin when starting the server."
            )
        if get_route_path(scope) in PUBLIC_PATHS:
            return None
        unauthorized = self._unauthorized(scope)
        # Requests without a valid token always count, to slow down attempts to guess it.
        rate_limited = (
            None if unauthorized is None and _is_read_only(scope) else self._rate_limited(scope)
        )
        return rate_limited or self._overloaded() or unauthorized

    def _rate_limited(self, scope: Scope) -> Response | None:
        address = scope["client"][0] if scope.get("client") else ""
        wait_s = self._rate_limit.acquire(address)
        if not wait_s:
            scope.setdefault("state", {})[CHARGE_STATE_KEY] = partial(self._rate_limit.add, address)
            return None
        return problem_response(
            429,
            "Too many requests from this client. Try again later.",
            {"Retry-After": str(int(wait_s) + 1)},
        )

    def _overloaded(self) -> Response | None:
        if self._active_requests >= self._config.max_concurrent:
            return problem_response(
                503, f"{self._config.max_concurrent} requests are already running. Try again later."
            )
        return None

    def _unauthorized(self, scope: Scope) -> Response | None:
        method, path = scope["method"], get_route_path(scope)
        connection = HTTPConnection(scope)
        is_preflight = method == "OPTIONS" and "access-control-request-method" in connection.headers
        effective_method = "GET" if method == "HEAD" else method
        is_public = (effective_method, path) in LOGIN_ROUTES or (
            effective_method == "GET" and path.startswith(STATIC_PREFIX)
        )
        if is_preflight or is_public or is_authenticated(self._config.token, connection):
            return None
        return problem_response(
            401,
            "This server requires a token.",
            {"WWW-Authenticate": 'Bearer realm="mmsearch"'},
        )

    def _is_host_allowed(self, host: bytes) -> bool:
        """Return True if the Host header names this server, which prevents DNS rebinding attacks.

        Otherwise a web page whose domain resolves to this machine could read answers that only
        this machine may get. A server with a token, or one that other machines can reach, allows
        every Host header.
        """
        if self._config.token is not None or not is_loopback(self._config.host):
            return True
        return is_loopback_host(host) or _hostname(host) == self._config.host

    def _is_origin_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return True if the page that sends a request may do so.

        Browsers send the page's origin, and send some requests without a CORS preflight.
        """
        origin_header = headers.get(b"origin")
        if origin_header is None:
            # Following a link is allowed: the linking page cannot read the answer.
            is_cross_site = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
            return not is_cross_site or headers.get(b"sec-fetch-mode") == b"navigate"
        origin = origin_header.decode("latin-1")
        if origin in self._config.allowed_origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
        except ValueError:
            return False

    async def _limit_body(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        limit_mb = self._limit_mb(scope)
        limit_bytes = int(limit_mb * 1e6)
        content_length = headers.get(b"content-length", b"0")
        # Python refuses to parse numbers of thousands of digits.
        if content_length.isdigit() and (
            len(content_length) > 18 or int(content_length) > limit_bytes
        ):
            await self._send_too_large(scope, receive, send)
            return
        received_bytes, is_rejected = 0, False

        async def receive_limited() -> Message:
            nonlocal received_bytes
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                if received_bytes > limit_bytes:
                    raise _TooLargeError
            return message

        async def send_unless_too_large(message: Message) -> None:
            # The application may report the truncated body as an error of its own; send 413.
            nonlocal is_rejected
            if received_bytes <= limit_bytes:
                await send(message)
            elif not is_rejected:
                is_rejected = True
                await self._send_too_large(scope, receive, send)

        try:
            await self._app(scope, receive_limited, send_unless_too_large)
        except _TooLargeError:
            if not is_rejected:
                await self._send_too_large(scope, receive, send)

    def _limit_mb(self, scope: Scope) -> float:
        """Return the maximum size of the body of a request, in megabytes."""
        is_bulk = scope["method"] == "POST" and BULK_PATHS.fullmatch(get_route_path(scope))
        return self._config.max_bulk_mb if is_bulk else self._config.max_upload_mb

    async def _send_too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        error_response = problem_response(
            413,
            f"The request is larger than {self._limit_mb(scope):g} MB.",
            {"Connection": "close"},
        )
        await error_response(scope, receive, send)


def first_header_values(scope: Scope) -> dict[bytes, bytes]:
    """Return headers by lower-case name; for repeated headers, the first value."""
    return dict(reversed(scope["headers"]))


@lru_cache(256)
def is_loopback_host(host: bytes) -> bool:
    """Return True if a Host header names an address that only this machine can reach."""
    return is_loopback(_hostname(host))


def _hostname(host: bytes) -> str:
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _is_read_only(scope: Scope) -> bool:
    """Return True if a request does not search, encode or change anything."""
    if scope["method"] == "OPTIONS":
        return True
    is_read = scope["method"] in ("GET", "HEAD")
    return is_read and bool(READ_ONLY_PATHS.fullmatch(get_route_path(scope)))
