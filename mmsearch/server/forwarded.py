"""ASGI middleware for reverse proxies, which may serve the application below a path.

A proxy either removes the path from requests or passes it on: both work. Behind this middleware,
``scope["path"]`` always begins with ``scope["root_path"]``, which is "" if there is no such path.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from mmsearch.server.config import ServerConfig, is_root_path

_MAPPED_IPV4_PREFIX = "::ffff:"
"""Prefix of an IPv4 client's address on a socket for IPv6."""


class ForwardedMiddleware:
    """ASGI middleware that finds out the address that a client has used, and the client's own.

    Args:
        app: The application with all other middleware.
        config: Root path and trusted proxies.
    """

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._config = config
        # The types of uvicorn and Starlette for one interface differ.
        uvicorn_app: Any = app
        self._proxy_headers: Any = ProxyHeadersMiddleware(uvicorn_app, list(config.trusted_proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"].startswith("/"):
            client = scope.get("client")
            if client and client[0].startswith(_MAPPED_IPV4_PREFIX):
                scope["client"] = (client[0].removeprefix(_MAPPED_IPV4_PREFIX), client[1])
            root_path = self._find_root_path(scope)
            path = scope["path"]
            if root_path and path == root_path:
                path = f"{root_path}/"
            elif not path.startswith(f"{root_path}/"):
                path = f"{root_path}{path}"
            scope.update(root_path=root_path, path=path)
        await self._proxy_headers(scope, receive, send)

    def _find_root_path(self, scope: Scope) -> str:
        if self._config.root_path is not None:
            return self._config.root_path
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-prefix"]
        client = scope.get("client")
        if not values or not client or client[0] not in self._proxy_headers.trusted_hosts:
            return ""
        # Each proxy appends a value, and a client may have sent one: the last is the proxy's own.
        prefix: str = values[-1].decode("latin-1").rpartition(",")[2].strip(" ")
        return prefix if is_root_path(prefix) else ""


def get_root_path(scope: Scope) -> str:
    """Return the path below which a request's client sees the server; "" for none."""
    root_path: str = scope.get("root_path", "")
    return root_path


def get_route_path(scope: Scope) -> str:
    """Return the path of a request without the root path."""
    path: str = scope["path"]
    return path.removeprefix(get_root_path(scope))
