"""Reading requests from connections: llhttp's parser, with a limit to what is no body."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
            self.transport.abort()

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
