"""HTTP protocol of the server: uvicorn with checks of the request target and limits.

The llhttp parser keeps any number of headers, and uvicorn waits for a slow client without limit.
With limits on header size, time and connections, such clients cannot exhaust the server.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable
from functools import cache

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from mmsearch.server.errors import problem_response

MAX_HEADER_BYTES = 65_536
"""Maximum number of bytes before a request's body, or between two chunks of it."""

HEADERS_TIMEOUT_S = 20.0
"""Seconds that a client may take to send the request line and headers."""

STALL_TIMEOUT_S = 30.0
"""Seconds that a client may pause while it sends a body or reads an answer."""

MAX_CONNECTIONS = 1000
"""Maximum number of open connections, if the system allows that number."""


@cache
def connection_limit() -> int:
    """Return the maximum number of open connections.

    Connections may use at most half of the files that this process may open.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return MAX_CONNECTIONS
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft_limit < 0 else min(MAX_CONNECTIONS, soft_limit // 2)


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP protocol that closes connections of clients that send too much or are too slow."""

    _header_bytes = 0
    _deadline_s = math.inf
    _stalled_since_s: float | None = None
    _parse_error = "The request is not valid HTTP/1.1, or it is ambiguous."

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the header timeout; refuse the connection if too many are open."""
        super().connection_made(transport)
        self._deadline_s = self.loop.time() + HEADERS_TIMEOUT_S
        if len(self.connections) > connection_limit() and not self._close_idle_connection():
            self._send_error(
                503, f"{connection_limit()} connections are already open. Try again later."
            )

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and enforce the header size limit."""
        if self._deadline_s == math.inf:
            self._deadline_s = self.loop.time() + HEADERS_TIMEOUT_S
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            if len(getattr(self, "url", b"")) > MAX_HEADER_BYTES // 2:
                self._send_error(414, f"The URL is longer than {MAX_HEADER_BYTES // 2:,} bytes.")
            else:
                self._send_error(431, f"The headers are larger than {MAX_HEADER_BYTES:,} bytes.")

    def on_headers_complete(self) -> None:
        """Check the request target, and start the body timeout."""
        self._header_bytes = 0
        self._deadline_s = self.loop.time() + STALL_TIMEOUT_S
        try:
            self.url = to_origin_form(self.url, self.headers, self.parser.get_http_version())
        except ValueError as error:
            # The parser replaces the exception by one of its own, without this message.
            self._parse_error = str(error)
            raise
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Restart the body timeout."""
        self._header_bytes = 0
        self._deadline_s = self.loop.time() + STALL_TIMEOUT_S
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the timeout at the end of the request."""
        self._header_bytes = 0
        self._deadline_s = math.inf
        super().on_message_complete()

    def resume_writing(self) -> None:
        """Reset the stall timer, because the client has read a part of the answer."""
        self._stalled_since_s = None
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """True if all received requests are answered."""
        cycle: RequestResponseCycle | None = self.cycle
        is_answered = cycle is not None and cycle.response_complete and self._deadline_s == math.inf
        return is_answered and not self.transport.is_closing()

    def close_if_stalled(self) -> None:
        """Close the connection if the client has exceeded a timeout."""
        now_s = self.loop.time()
        if self.flow.write_paused or self.transport.is_closing():
            self._stalled_since_s = (
                now_s if self._stalled_since_s is None else self._stalled_since_s
            )
            if now_s > self._stalled_since_s + STALL_TIMEOUT_S:
                self.transport.abort()
        elif self._is_reading_paused():
            self._deadline_s = max(self._deadline_s, now_s + STALL_TIMEOUT_S)
        elif now_s > self._deadline_s:
            self._time_out()

    def _is_reading_paused(self) -> bool:
        """Return True if the client waits for the server to read more of the request."""
        cycle: RequestResponseCycle | None = self.cycle
        return self.flow.read_paused or (
            cycle is not None and not cycle.response_complete and cycle.waiting_for_100_continue
        )

    def _close_idle_connection(self) -> bool:
        """Close an idle connection, and return True if there was one."""
        for connection in self.connections:
            if isinstance(connection, LimitedHttpProtocol) and connection.is_idle:
                connection.transport.close()
                return True
        return False

    def _time_out(self) -> None:
        has_started = self._header_bytes or self.cycle is not None
        if has_started:
            self._send_error(408, "The request did not arrive in time.")
        else:
            # Browsers open connections in advance, before they have a request.
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request with the message of its error."""
        self._send_error(400, self._parse_error)

    def _send_error(self, status: int, detail: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # The client would read a second answer as a part of the first.
            self.transport.abort()
            return
        response = problem_response(status, detail, {"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(response.body))
        self.transport.close()


_HOST_PATTERN = re.compile(
    rb"(?:\[[0-9a-f:.]+\]|[-\w.~!$&'()*+,;=%]*)(?::\d*)?", re.IGNORECASE | re.ASCII
)
_ABSOLUTE_PATTERN = re.compile(rb"([a-z][a-z0-9+.-]*)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def to_origin_form(target: bytes, headers: Iterable[tuple[bytes, bytes]], version: str) -> bytes:
    """Return the path and query of a request target.

    Args:
        target: Target in the request line.
        headers: Headers of the request, with names in lower case.
        version: HTTP version, such as ``1.1``.

    Raises:
        ValueError: The request has no host, several hosts or an invalid one. The message is a
            sentence for the client.
    """
    hosts = [value.strip() for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise ValueError("The request has several Host headers. Send one.")
    if not hosts and version != "1.0":
        raise ValueError("The request has no Host header. HTTP/1.1 requires one.")
    if hosts and not _HOST_PATTERN.fullmatch(hosts[0]):
        raise ValueError("The request's Host header is not a name or address with a port.")
    absolute = _ABSOLUTE_PATTERN.match(target)
    if absolute is None:
        return target
    scheme, host, path_and_query = absolute.groups()
    if scheme.lower() != b"http":
        raise ValueError("The request's URL is not an http URL.")
    if not hosts or _without_default_port(host) != _without_default_port(hosts[0]):
        raise ValueError("The request's URL and its Host header name different hosts.")
    return path_and_query if path_and_query.startswith(b"/") else b"/" + path_and_query


def _without_default_port(host: bytes) -> bytes:
    return host.lower().removesuffix(b":80").removesuffix(b":")
