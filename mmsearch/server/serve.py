"""A server in a thread of its own, for as long as something else wants it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from mmsearch.core.errors import UsageError
from mmsearch.server.app import make_app, wrap_with_middleware
from mmsearch.server.connection_limits import LimitedHttpProtocol
from mmsearch.server.state import ServerState

STARTUP_TIMEOUT_S = 30.0

SHUTDOWN_TIMEOUT_S = 2
"""Requests that take longer are cut off when the server ends; see `mmsearch.resident.shutdown`."""

KEEP_ALIVE_S = 75
"""So long a connection may rest between requests: longer than clients keep it (httpx 5 s, nginx
60 s), for whoever asks just when the other side ends it gets no answer."""

CHECK_EVERY_TICKS = 10
"""Tenths of a second between two looks for clients that are too slow."""


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % CHECK_EVERY_TICKS == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, LimitedHttpProtocol):
                    connection.close_if_stalled()
        return await super().on_tick(counter)


def serve_in_thread(server_state: ServerState, port: int) -> AbstractContextManager[str]:
    """Answer requests until the context ends; those under way are answered first.

    Args:
        server_state: Answers them.
        port: 0: any that is free.

    Returns:
        A context that yields the server's address, as a URL.

    Raises:
        UsageError: The address cannot be bound.
    """
    return serve_app(wrap_with_middleware(make_app(server_state)), server_state.config.host, port)


@contextmanager
def serve_app(
    app: ASGIApp, host: str, port: int, *, lifespan: Literal["on", "off"] = "off"
) -> Iterator[str]:
    """As `serve_in_thread`, for any application.

    Args:
        app: Answers; a guard stands before it.
        host: The address to bind.
        port: 0: any that is free.
        lifespan: Whether it wants to know when the server starts and ends.

    Yields:
        The server's address, as a URL.

    Raises:
        UsageError: The address cannot be bound.
    """
    listener = _bind(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan=lifespan,
            http=LimitedHttpProtocol,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
    )
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancellation)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="mmsearch-http"
    )
    thread.start()
    try:
        url_host = f"[{host}]" if ":" in host else host
        yield f"http://{url_host}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    """Whether a line of the log says more than that requests were cut off when the server ended."""
    error_type = record.exc_info[0] if record.exc_info else None
    is_cancelled = error_type is not None and issubclass(error_type, asyncio.CancelledError)
    return not (is_cancelled or str(record.msg).startswith("Cancel %s running task"))


def _bind(host: str, port: int) -> socket.socket:
    """Bound here, not in the server's thread: a port that is taken is said at once."""
    try:
        (family, socket_type, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, socket_type, protocol)
    except OSError as error:
        raise UsageError(f"{host} is not an address of this machine: {error}.") from error
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
