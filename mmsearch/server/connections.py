"""Reading requests from connections: llhttp's parser, with a limit to what is no body."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from mmsearch.server.problems import problem

MOST_HEADERS = 65_536
"""Bytes of a request before its body, or between two parts of it."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections on which headers, or trailers, come without end.

    The parser itself takes and keeps as many as anybody sends.
    """

    _outside = 0

    def data_received(self, data: bytes) -> None:
        """Bytes from the network."""
        self._outside += len(data)
        super().data_received(data)
        if self._outside > MOST_HEADERS and not self.transport.is_closing():
            self._refuse(431, f"The headers are larger than {MOST_HEADERS:,} bytes.")

    def send_400_response(self, msg: str) -> None:
        """What came is no request."""
        self._refuse(
            400, "What came is no HTTP/1.1 request, or one that could be read in two ways."
        )

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

    def on_headers_complete(self) -> None:
        """The headers end."""
        self._outside = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._outside = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._outside = 0
        super().on_message_complete()
