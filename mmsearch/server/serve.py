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
from mmsearch.server.app import guarded, make_app
from mmsearch.server.connection_limits import BoundedProtocol
from mmsearch.server.state import Service

STARTS_WITHIN_S = 30.0

ENDS_WITHIN_S = 2
"""Requests that take longer are cut off when the server ends; see `mmsearch.resident.shutdown`."""

KEEPS_S = 75
"""So long a connection may rest between requests: longer than clients keep it (httpx 5 s, nginx
60 s), for whoever asks just when the other side ends it gets no answer."""

TICKS_A_LOOK = 10
"""Tenths of a second between two looks for clients that are too slow."""


class _Server(uvicorn.Server):
    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_LOOK == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.end_if_slow()
        return await super().on_tick(counter)


def running(service: Service, port: int) -> AbstractContextManager[str]:
    """Answer requests until the context ends; those under way are answered first.

    Args:
        service: Answers them.
        port: 0: any that is free.

    Returns:
        A context that yields the server's address, as a URL.

    Raises:
        UsageError: The address cannot be bound.
    """
    return answering(guarded(make_app(service)), service.rules.host, port)


@contextmanager
def answering(
    app: ASGIApp, host: str, port: int, *, lifespan: Literal["on", "off"] = "off"
) -> Iterator[str]:
    """As `running`, for any application.

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
    listener = _bound(host, port)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            server_header=False,
            lifespan=lifespan,
            http=BoundedProtocol,
            ws="none",
            timeout_keep_alive=KEEPS_S,
            timeout_graceful_shutdown=ENDS_WITHIN_S,
        )
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="mmsearch-http"
    )
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Whether a line of the log says more than that requests were cut off when the server ended."""
    kind = record.exc_info[0] if record.exc_info else None
    is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not (is_cancelled or str(record.msg).startswith("Cancel %s running task"))


def _bound(host: str, port: int) -> socket.socket:
    """Bound here, not in the server's thread: a port that is taken is said at once."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
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
