"""What a server allows."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

DEFAULT_DEADLINE_S = 30.0


@dataclass(frozen=True)
class ServerConfig:
    """What a server allows.

    Attributes:
        host: The address it binds.
        token: Who asks must know it; None: whoever reaches the server may ask.
        allowed_origins: Other web sites whose pages may ask.
        max_upload_mb: Megabytes of a request's body.
        requests_per_s: For one client, of those that search, encode or change something; 0: as
            many as it likes.
        max_concurrent: Requests under way; further ones are refused.
        deadline_s: Seconds until a request that has no answer yet gets a 503.
        allow_indexing: Whether known folders may be indexed again.
        allow_url_queries: Whether pictures of queries are fetched from URLs.
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
    """Whether only this machine reaches what is bound there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def resolve_token(
    host: str, configured_token: str | None, on_message: Callable[[str], None]
) -> str | None:
    """The token of a server: whoever reaches it from elsewhere must know one.

    Args:
        host: The address that it binds.
        configured_token: By who starts it, if anything.
        on_message: Receives one that is made up.
    """
    if configured_token or is_loopback(host):
        return configured_token or None
    token = generate_token()
    on_message(f"Token: {token}")
    return token


def generate_token() -> str:
    """One that cannot be guessed."""
    return secrets.token_urlsafe(24)
