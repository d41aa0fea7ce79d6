"""Reading requests from connections: llhttp's parser, with limits to size, time and number.

The parser takes and keeps as many headers as anybody sends, and uvicorn waits for as long as
anybody keeps a connection: neither may cost others their answers.
"""

from __future__ import annotations

import asyncio
import math
from functools import cache

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from mmsearch.server.errors import problem_response
from mmsearch.server.request_target import to_origin_form

MAX_HEADER_BYTES = 65_536
"""Bytes of a request before its body, or between two parts of it."""

HEADERS_TIMEOUT_S = 20.0
"""So long a client may take for all that comes before a body."""

STALL_TIMEOUT_S = 30.0
"""So long it may send nothing of a body, or take nothing of an answer."""

MAX_CONNECTIONS = 1000
"""At once, where the system allows so many."""


@cache
def connection_limit() -> int:
    """Connections that may be open: half of the files that this process may open are for others."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return MAX_CONNECTIONS
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft_limit < 0 else min(MAX_CONNECTIONS, soft_limit // 2)


class LimitedHttpProtocol(HttpToolsProtocol):
    """Ends connections whose clients send without end, or let the server wait without end."""

    _header_bytes = 0
    _deadline_s = math.inf
    _stalled_since_s: float | None = None
    _parse_error = "What came is no HTTP/1.1 request, or one that could be read in two ways."

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._deadline_s = self.loop.time() + HEADERS_TIMEOUT_S
        if len(self.connections) > connection_limit() and not self._close_idle_connection():
            self._send_error(
                503, f"{connection_limit()} connections are open already. Ask again in a while."
            )

    def data_received(self, data: bytes) -> None:
        """Bytes from the network."""
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
        """The headers end."""
        self._header_bytes = 0
        self._deadline_s = self.loop.time() + STALL_TIMEOUT_S
        try:
            self.url = to_origin_form(self.url, self.headers, self.parser.get_http_version())
        except ValueError as error:
            # The parser hands every fault on as one of its own, without the sentence.
            self._parse_error = str(error)
            raise
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._header_bytes = 0
        self._deadline_s = self.loop.time() + STALL_TIMEOUT_S
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._header_bytes = 0
        self._deadline_s = math.inf
        super().on_message_complete()

    def resume_writing(self) -> None:
        """The client has taken some of an answer."""
        self._stalled_since_s = None
        super().resume_writing()

    @property
    def is_idle(self) -> bool:
        """Whether all that was asked is answered."""
        cycle: RequestResponseCycle | None = self.cycle
        is_answered = cycle is not None and cycle.response_complete and self._deadline_s == math.inf
        return is_answered and not self.transport.is_closing()

    def close_if_stalled(self) -> None:
        """End the connection if the client has let the server wait for too long."""
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
        """Whether the server itself has not asked for more yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return self.flow.read_paused or (
            cycle is not None and not cycle.response_complete and cycle.waiting_for_100_continue
        )

    def _close_idle_connection(self) -> bool:
        """End a connection that rests, if there is one."""
        for connection in self.connections:
            if isinstance(connection, LimitedHttpProtocol) and connection.is_idle:
                connection.transport.close()
                return True
        return False

    def _time_out(self) -> None:
        has_started = self._header_bytes or self.cycle is not None
        if has_started:
            self._send_error(408, "The request did not come in time.")
        else:
            # Browsers connect before they have anything to ask.
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What came is no request."""
        self._send_error(400, self._parse_error)

    def _send_error(self, status: int, detail: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # A second answer would be read as a part of the first.
            self.transport.abort()
            return
        response = problem_response(status, detail, {"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(response.body))
        self.transport.close()
