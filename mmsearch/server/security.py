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

from mmsearch.server.auth import knows_token
from mmsearch.server.config import Rules, is_loopback
from mmsearch.server.errors import problem
from mmsearch.server.rate_limit import ALSO, RateLimit

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Say nothing about pictures, and are asked by machines that know no token."""

WAY_IN = frozenset({("GET", "/"), ("POST", "/session")})
"""Where a browser shows that it knows the token; `/` shows no more than a form until it did."""

STATIC = "/static/"
"""The page's style and scripts, which are the same for everyone."""

SHOWING = re.compile(rf"{STATIC}.*|/v1/indexes(/[^/]+(/(pictures|jobs)(/.*)?)?)?")
"""Paths that, with GET, show what is there: a page of hits asks for a picture of each of them."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Nothing that is answered is a page that may load or run anything; a page says its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}

_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class _TooLargeError(Exception):
    """The body is larger than allowed."""


class Guard:
    """Refuses what the rules do not allow.

    Args:
        app: Answers the rest.
        rules: What is allowed.
        clock: Seconds, for tests.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._rules = rules
        self._rate = RateLimit(rules.requests_per_s, clock)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                said = {name.lower() for name, _ in own}
                message["headers"] = own + [pair for pair in _HEADERS if pair[0] not in said]
            await send(message)

        headers = first_values(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        self._under_way += 1
        try:
            await self._limited(scope, headers, receive, send_guarded)
        finally:
            self._under_way -= 1

    def _refusal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        if not self._is_meant(headers.get(b"host", b"")):
            return problem(421, "This server does not answer to that name.")
        if not self._may_come_from(headers):
            return problem(403, "Pages of other web sites may not ask this server.")
        if scope["path"] in OPEN_PATHS:
            return None
        stranger = self._stranger(scope)
        # Who guesses at the token is counted, whatever the guess asks for.
        too_often = None if stranger is None and _only_shows(scope) else self._too_often(scope)
        return too_often or self._too_much() or stranger

    def _too_often(self, scope: Scope) -> Response | None:
        address = scope["client"][0] if scope.get("client") else ""
        wait_s = self._rate.wait_s(address)
        if not wait_s:
            scope.setdefault("state", {})[ALSO] = partial(self._rate.add, address)
            return None
        return problem(429, "This client asks too often.", {"Retry-After": str(int(wait_s) + 1)})

    def _too_much(self) -> Response | None:
        if self._under_way >= self._rules.at_once:
            return problem(
                503, f"{self._rules.at_once} requests are under way. Ask again in a while."
            )
        return None

    def _stranger(self, scope: Scope) -> Response | None:
        method, path = scope["method"], scope["path"]
        connection = HTTPConnection(scope)
        preflight = method == "OPTIONS" and "access-control-request-method" in connection.headers
        asks = "GET" if method == "HEAD" else method
        way_in = (asks, path) in WAY_IN or (asks == "GET" and path.startswith(STATIC))
        if preflight or way_in or knows_token(self._rules.token, connection):
            return None
        return problem(
            401,
            "This server asks for its token.",
            {"WWW-Authenticate": 'Bearer realm="mmsearch"'},
        )

    def _is_meant(self, host: bytes) -> bool:
        """A page whose name was made to point here would else read what only this machine may."""
        if self._rules.token is not None or not is_loopback(self._rules.host):
            return True
        return names_this_machine(host) or _named(host) == self._rules.host

    def _may_come_from(self, headers: Mapping[bytes, bytes]) -> bool:
        """Browsers say where a request comes from, and send some without asking first."""
        said = headers.get(b"origin")
        if said is None:
            # A link that someone follows is no way to read the answer.
            elsewhere = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
            return not elsewhere or headers.get(b"sec-fetch-mode") == b"navigate"
        origin = said.decode("latin-1")
        if origin in self._rules.origins:
            return True
        try:
            return urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
        except ValueError:
            return False

    async def _limited(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        limit = int(self._rules.upload_mb * 1e6)
        declared = headers.get(b"content-length", b"0")
        # Python refuses to read numbers of thousands of digits.
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            await self._refuse_size(scope, receive, send)
            return
        got, refused = 0, False

        async def receive_limited() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > limit:
                    raise _TooLargeError
            return message

        async def send_unless_too_large(message: Message) -> None:
            # Whoever reads a body may take the end of it for an error of the body.
            nonlocal refused
            if got <= limit:
                await send(message)
            elif not refused:
                refused = True
                await self._refuse_size(scope, receive, send)

        try:
            await self._app(scope, receive_limited, send_unless_too_large)
        except _TooLargeError:
            if not refused:
                await self._refuse_size(scope, receive, send)

    async def _refuse_size(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = problem(
            413,
            f"The request is larger than {self._rules.upload_mb:g} MB.",
            {"Connection": "close"},
        )
        await refusal(scope, receive, send)


def first_values(scope: Scope) -> dict[bytes, bytes]:
    """Headers by their names in lower case; of one that comes twice, the first."""
    return dict(reversed(scope["headers"]))


@lru_cache(256)
def names_this_machine(host: bytes) -> bool:
    """Whether a Host header names an address that only this machine reaches."""
    return is_loopback(_named(host))


def _named(host: bytes) -> str:
    try:
        return urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return ""


def _only_shows(scope: Scope) -> bool:
    """Whether a request neither searches nor encodes nor changes anything."""
    if scope["method"] == "OPTIONS":
        return True
    return scope["method"] in ("GET", "HEAD") and bool(SHOWING.fullmatch(scope["path"]))
