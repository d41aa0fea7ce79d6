"""An assistant elsewhere asks over HTTP (the protocol's "streamable HTTP")."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

from mmsearch.server.config import Rules
from mmsearch.server.deadline import Deadline
from mmsearch.server.security import Guard
from mmsearch.server.serve import answering

PATH = "/mcp"


def answering_http(server: Server[Any], rules: Rules, port: int) -> AbstractContextManager[str]:
    """Answer over HTTP until the context ends; it yields the address, without `PATH`.

    Args:
        server: Answers.
        rules: What is allowed.
        port: 0: any that is free.

    Raises:
        UsageError: The address cannot be bound.
    """
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        # Nothing is remembered between calls: clients go on when this is started again.
        stateless_http=True,
        json_response=True,
        # The guard looks at Host and Origin, and knows when they do not matter.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    return answering(Guard(Deadline(app, rules.deadline_s), rules), rules.host, port, lifespan="on")
