"""Connections of a server that stops soon: each ends with its next answer."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.server.state import ServerState


class DrainMiddleware:
    """Asks clients to connect again while the server drains.

    A balancer that keeps connections would send a request just when the server closes them, and
    could not tell if it was answered.

    Args:
        app: The application.
        server_state: State of the server.
    """

    def __init__(self, app: ASGIApp, server_state: ServerState) -> None:
        self._app = app
        self._server_state = server_state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        is_draining = self._server_state.draining.is_set() and scope["type"] == "http"
        await self._app(scope, receive, send_closing if is_draining else send)
