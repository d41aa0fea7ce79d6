"""Server configuration: address, token and limits."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

DEFAULT_DEADLINE_S = 30.0


@dataclass(frozen=True)
class ServerConfig:
    """Address, token and limits of a server.

    Attributes:
        host: Address to bind.
        token: Token that requests must carry; None if no token is needed.
        allowed_origins: Origins of other web sites whose pages may send requests.
        max_upload_mb: Maximum size of a request body, in megabytes.
        requests_per_s: Rate limit per client for requests that search, encode or change
            something; 0 for no limit.
        max_concurrent: Maximum number of concurrent requests; further ones are refused.
        deadline_s: Seconds after which a request without an answer gets a 503.
        allow_indexing: True if clients may start jobs that index known folders again.
        allow_url_queries: True if queries may name pictures by URL, which the server fetches.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    max_upload_mb: float = 50.0
    requests_per_s: float = 0.0
    max_concurrent: int = 512
    deadline_s: float = DEFAULT_DEADLINE_S
    allow_indexing: bool = True
    allow_url_queries: bool = False


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def resolve_token(
    host: str, configured_token: str | None, on_message: Callable[[str], None]
) -> str | None:
    """Return the token of a server, and generate one if other machines can reach it.

    Args:
        host: Address that the server binds.
        configured_token: Token that the user configured, if any.
        on_message: Called with a line that shows a generated token.
    """
    if configured_token or is_loopback(host):
        return configured_token or None
    token = generate_token()
    on_message(f"Token: {token}")
    return token


def generate_token() -> str:
    """Return a random token that cannot be guessed."""
    return secrets.token_urlsafe(24)
