"""HTTP servers that run in threads of their own, as context managers."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from mmsearch.core.errors import UsageError
from mmsearch.core.files import os_error_reason
from mmsearch.server.http_protocol import LimitedHttpProtocol

STARTUP_TIMEOUT_S = 30.0

SHUTDOWN_TIMEOUT_S = 2
"""Seconds that running requests may take during shutdown; see `mmsearch.cli.shutdown`."""

KEEP_ALIVE_S = 75
"""Keep-alive timeout in seconds: longer than that of clients (httpx 5 s, nginx 60 s), because a
request sent while the server closes the connection gets no answer."""

CHECK_EVERY_TICKS = 10
"""Number of server ticks (0.1 s) between two checks for clients that are too slow."""


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % CHECK_EVERY_TICKS == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, LimitedHttpProtocol):
                    connection.close_if_stalled()
        return await super().on_tick(counter)


@contextmanager
def serve_app(
    app: ASGIApp, host: str, port: int, *, lifespan: Literal["on", "off"] = "off"
) -> Iterator[str]:
    """Serve an ASGI application until the context ends; running requests are completed first.

    Args:
        app: The application, with its security middleware.
        host: The address to bind.
        port: Port to bind; 0 for any free port.
        lifespan: "on" if the application handles the ASGI lifespan events, else "off".

    Yields:
        The server's address, as a URL.

    Raises:
        UsageError: The address cannot be bound.
    """
    with _bind(host, port) as listener, run_in_thread(app, listener, lifespan=lifespan):
        url_host = f"[{host}]" if ":" in host else host
        yield f"http://{url_host}:{listener.getsockname()[1]}"


@contextmanager
def run_in_thread(
    app: ASGIApp,
    listener: socket.socket,
    protocol: type[LimitedHttpProtocol] = LimitedHttpProtocol,
    *,
    lifespan: Literal["on", "off"] = "off",
    grace_s: int = SHUTDOWN_TIMEOUT_S,
) -> Iterator[None]:
    """Serve an ASGI application on a listening socket until the context ends.

    Args:
        app: The application.
        listener: The socket.
        protocol: Protocol of the connections.
        lifespan: "on" if the application handles the ASGI lifespan events, else "off".
        grace_s: Seconds that running requests may take at the end.
    """
    server = _Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            # `ForwardedMiddleware` reads the headers of proxies.
            proxy_headers=False,
            lifespan=lifespan,
            http=protocol,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=grace_s,
        )
    )
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancellation)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="mmsearch-http"
    )
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    """Return False for log records of requests that were cancelled during shutdown."""
    error_type = record.exc_info[0] if record.exc_info else None
    is_cancelled = error_type is not None and issubclass(error_type, asyncio.CancelledError)
    return not (is_cancelled or str(record.msg).startswith("Cancel %s running task"))


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket.

    It is bound here, not in the server's thread, so that a port in use is reported at once.
    """
    try:
        (family, socket_type, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, socket_type, protocol)
    except OSError as error:
        raise UsageError(
            f"{host} is not an address of this machine: {os_error_reason(error)}.",
            "Use 127.0.0.1 for this machine alone, or 0.0.0.0 for others.",
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Port {port} of {host} cannot be used: {error.strerror}.",
            "Choose another one with --port, or 0 for any.",
        ) from error
    return listener
