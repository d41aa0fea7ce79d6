"""Transports: standard input and output for an assistant that started this process, and HTTP."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from mmsearch.core.errors import OutputError
from mmsearch.server.config import ServerConfig
from mmsearch.server.deadline import DeadlineMiddleware
from mmsearch.server.forwarded import ForwardedMiddleware
from mmsearch.server.security import SecurityMiddleware
from mmsearch.server.serve import serve_app

MCP_PATH = "/mcp"


def serve_stdio(server: Server[Any]) -> None:
    """Answer requests from standard input on standard output until either is closed.

    Meanwhile, anything else written to standard output goes to standard error.

    Raises:
        OutputError: Standard output cannot be written.
    """

    async def run() -> None:
        async with stdio_server() as (read_stream, write_stream):
            await server.run(read_stream, write_stream, server.create_initialization_options())

    try:
        asyncio.run(run())
    except BaseExceptionGroup as group:
        os_errors, other = group.split(OSError)
        if os_errors is None or other is not None:
            raise
        error = _first_error(os_errors)
        # An assistant closes its pipes when it ends.
        if not isinstance(error, BrokenPipeError):
            raise OutputError.from_os_error(error) from error


def _first_error(group: BaseExceptionGroup[OSError]) -> OSError:
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first


def serve_http(server: Server[Any], config: ServerConfig, port: int) -> AbstractContextManager[str]:
    """Serve over HTTP (the protocol's "streamable HTTP") until the context ends.

    The context yields the URL without `MCP_PATH`.

    Args:
        server: The protocol server that answers requests.
        config: Host, token, limits and proxies.
        port: Port to listen on; 0 picks a free one.

    Raises:
        UsageError: The address cannot be bound.
    """
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        # Without sessions, clients can continue when the server is restarted.
        stateless_http=True,
        json_response=True,
        # `SecurityMiddleware` checks Host and Origin, and knows when they do not matter.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    secured_app = SecurityMiddleware(DeadlineMiddleware(app, config.deadline_s), config)
    return serve_app(
        ForwardedMiddleware(secured_app, config),
        config.host,
        port,
        lifespan="on",
    )
