"""An assistant elsewhere asks over HTTP (the protocol's "streamable HTTP")."""

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
    """Answer over HTTP until the context ends; it yields the address, without `MCP_PATH`.

    Args:
        server: Answers.
        config: What is allowed.
        port: 0: any that is free.

    Raises:
        UsageError: The address cannot be bound.
    """
    app = server.streamable_http_app(
        streamable_http_path=MCP_PATH,
        # Nothing is remembered between calls: clients go on when this is started again.
        stateless_http=True,
        json_response=True,
        # The guard looks at Host and Origin, and knows when they do not matter.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return serve_app(
        SecurityMiddleware(DeadlineMiddleware(app, config.deadline_s), config),
        config.host,
        port,
        lifespan="on",
    )
