"""What happens to a request before anything looks at what it wants.

A plain ASGI layer: it sees bodies as they come, so that too large ones are never held.
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
from mmsearch.server.rate_limit import CHARGE_STATE_KEY, RateLimit

PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})
"""Say nothing about pictures, and are asked by machines that know no token."""

LOGIN_ROUTES = frozenset({("GET", "/"), ("POST", "/session")})
"""Where a browser shows that it knows the token; `/` shows no more than a form until it did."""

STATIC_PREFIX = "/static/"
"""The page's style and scripts, which are the same for everyone."""

READ_ONLY_PATHS = re.compile(rf"{STATIC_PREFIX}.*|/v1/indexes(/[^/]+(/(pictures|jobs)(/.*)?)?)?")
"""Paths that, with GET, show what is there: a page of hits asks for a picture of each of them."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Nothing that is answered is a page that may load or run anything; a page says its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}

_RAW_SECURITY_HEADERS = [
    (name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()
]


class _TooLargeError(Exception):
    """The body is larger than allowed."""


class SecurityMiddleware:
    """Refuses what the rules do not allow.

    Args:
        app: Answers the rest.
        config: What is allowed.
        clock: Seconds, for tests.
    """

    def __init__(
        self, app: ASGIApp, config: ServerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._config = config
        self._rate_limit = RateLimit(config.requests_per_s, clock)
        self._active_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
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
            return problem_response(421, "This server does not answer to that name.")
        if not self._is_origin_allowed(headers):
            return problem_response(403, "Pages of other web sites may not ask this server.")
        if scope["path"] in PUBLIC_PATHS:
            return None
        unauthorized = self._unauthorized(scope)
        # Who guesses at the token is counted, whatever the guess asks for.
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
            429, "This client asks too often.", {"Retry-After": str(int(wait_s) + 1)}
        )

    def _overloaded(self) -> Response | None:
        if self._active_requests >= self._config.max_concurrent:
            return problem_response(
                503, f"{self._config.max_concurrent} requests are under way. Ask again in a while."
            )
        return None

    def _unauthorized(self, scope: Scope) -> Response | None:
        method, path = scope["method"], scope["path"]
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
            "This server asks for its token.",
            {"WWW-Authenticate": 'Bearer realm="mmsearch"'},
        )

    def _is_host_allowed(self, host: bytes) -> bool:
        """A page whose name was made to point here would else read what only this machine may."""
        if self._config.token is not None or not is_loopback(self._config.host):
            return True
        return is_loopback_host(host) or _hostname(host) == self._config.host

    def _is_origin_allowed(self, headers: Mapping[bytes, bytes]) -> bool:
        """Browsers say where a request comes from, and send some without asking first."""
        origin_header = headers.get(b"origin")
        if origin_header is None:
            # A link that someone follows is no way to read the answer.
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
        limit_bytes = int(self._config.max_upload_mb * 1e6)
        content_length = headers.get(b"content-length", b"0")
        # Python refuses to read numbers of thousands of digits.
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
            # Whoever reads a body may take the end of it for an error of the body.
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

    async def _send_too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        error_response = problem_response(
            413,
            f"The request is larger than {self._config.max_upload_mb:g} MB.",
            {"Connection": "close"},
        )
        await error_response(scope, receive, send)


def first_header_values(scope: Scope) -> dict[bytes, bytes]:
    """Headers by their names in lower case; of one that comes twice, the first."""
    return dict(reversed(scope["headers"]))


@lru_cache(256)
def is_loopback_host(host: bytes) -> bool:
    """Whether a Host header names an address that only this machine reaches."""
    return is_loopback(_hostname(host))


def _hostname(host: bytes) -> str:
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _is_read_only(scope: Scope) -> bool:
    """Whether a request neither searches nor encodes nor changes anything."""
    if scope["method"] == "OPTIONS":
        return True
    return scope["method"] in ("GET", "HEAD") and bool(READ_ONLY_PATHS.fullmatch(scope["path"]))
