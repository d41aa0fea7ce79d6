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

from mmsearch.server.errors import problem
from mmsearch.server.targets import origin_form

MOST_HEADERS = 65_536
"""Bytes of a request before its body, or between two parts of it."""

HEADERS_WITHIN_S = 20.0
"""So long a client may take for all that comes before a body."""

PAUSES_S = 30.0
"""So long it may send nothing of a body, or take nothing of an answer."""

MOST_CONNECTIONS = 1000
"""At once, where the system allows so many."""


@cache
def most_connections() -> int:
    """Connections that may be open: half of the files that this process may open are for others."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which has no such limit
    except ImportError:
        return MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft < 0 else min(MOST_CONNECTIONS, soft // 2)


class BoundedProtocol(HttpToolsProtocol):
    """Ends connections whose clients send without end, or let the server wait without end."""

    _outside = 0
    _due_s = math.inf
    _stuck_s: float | None = None
    _fault = "What came is no HTTP/1.1 request, or one that could be read in two ways."

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._due_s = self.loop.time() + HEADERS_WITHIN_S
        if len(self.connections) > most_connections() and not self._make_room():
            self._refuse(
                503, f"{most_connections()} connections are open already. Ask again in a while."
            )

    def data_received(self, data: bytes) -> None:
        """Bytes from the network."""
        if self._due_s == math.inf:
            self._due_s = self.loop.time() + HEADERS_WITHIN_S
        self._outside += len(data)
        super().data_received(data)
        if self._outside > MOST_HEADERS and not self.transport.is_closing():
            if len(getattr(self, "url", b"")) > MOST_HEADERS // 2:
                self._refuse(414, f"The URL is longer than {MOST_HEADERS // 2:,} bytes.")
            else:
                self._refuse(431, f"The headers are larger than {MOST_HEADERS:,} bytes.")

    def on_headers_complete(self) -> None:
        """The headers end."""
        self._outside = 0
        self._due_s = self.loop.time() + PAUSES_S
        try:
            self.url = origin_form(self.url, self.headers, self.parser.get_http_version())
        except ValueError as error:
            # The parser hands every fault on as one of its own, without the sentence.
            self._fault = str(error)
            raise
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._outside = 0
        self._due_s = self.loop.time() + PAUSES_S
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._outside = 0
        self._due_s = math.inf
        super().on_message_complete()

    def resume_writing(self) -> None:
        """The client has taken some of an answer."""
        self._stuck_s = None
        super().resume_writing()

    @property
    def rests(self) -> bool:
        """Whether all that was asked is answered."""
        cycle: RequestResponseCycle | None = self.cycle
        answered = cycle is not None and cycle.response_complete and self._due_s == math.inf
        return answered and not self.transport.is_closing()

    def end_if_slow(self) -> None:
        """End the connection if the client has let the server wait for too long."""
        now_s = self.loop.time()
        if self.flow.write_paused or self.transport.is_closing():
            self._stuck_s = now_s if self._stuck_s is None else self._stuck_s
            if now_s > self._stuck_s + PAUSES_S:
                self.transport.abort()
        elif self._is_not_read():
            self._due_s = max(self._due_s, now_s + PAUSES_S)
        elif now_s > self._due_s:
            self._give_up()

    def _is_not_read(self) -> bool:
        """Whether the server itself has not asked for more yet."""
        cycle: RequestResponseCycle | None = self.cycle
        return self.flow.read_paused or (
            cycle is not None and not cycle.response_complete and cycle.waiting_for_100_continue
        )

    def _make_room(self) -> bool:
        """End a connection that rests, if there is one."""
        for other in self.connections:
            if isinstance(other, BoundedProtocol) and other.rests:
                other.transport.close()
                return True
        return False

    def _give_up(self) -> None:
        has_begun = self._outside or self.cycle is not None
        if has_begun:
            self._refuse(408, "The request did not come in time.")
        else:
            # Browsers connect before they have anything to ask.
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What came is no request."""
        self._refuse(400, self._fault)

    def _refuse(self, status: int, detail: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            # A second answer would be read as a part of the first.
            self.transport.abort()
            return
        answer = problem(status, detail, {"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % header for header in answer.raw_headers)
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()
