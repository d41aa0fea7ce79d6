"""HTTP transport for remote assistants (the protocol's "streamable HTTP")."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

from mmsearch.server.config import ServerConfig
from mmsearch.server.deadline import DeadlineMiddleware
from mmsearch.server.security import SecurityMiddleware
from mmsearch.server.serve import serve_app

MCP_PATH = "/mcp"


def serve_http(server: Server[Any], config: ServerConfig, port: int) -> AbstractContextManager[str]:
    """Serve over HTTP until the context ends; the context yields the URL without `MCP_PATH`.

    Args:
        server: The protocol server that answers requests.
        config: Host, token and limits.
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
    return serve_app(
        SecurityMiddleware(DeadlineMiddleware(app, config.deadline_s), config),
        config.host,
        port,
        lifespan="on",
    )
