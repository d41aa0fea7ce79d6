"""What a server allows."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

DEADLINE_S = 30.0


@dataclass(frozen=True)
class Rules:
    """What a server allows.

    Attributes:
        host: The address it binds.
        token: Who asks must know it; None: whoever reaches the server may ask.
        origins: Other web sites whose pages may ask.
        upload_mb: Megabytes of a request's body.
        requests_per_s: For one client, of those that search, encode or change something; 0: as
            many as it likes.
        at_once: Requests under way; further ones are refused.
        deadline_s: Seconds until a request that has no answer yet gets a 503.
        indexing: Whether known folders may be indexed again.
        url_queries: Whether pictures of queries are fetched from URLs.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    upload_mb: float = 50.0
    requests_per_s: float = 0.0
    at_once: int = 512
    deadline_s: float = DEADLINE_S
    indexing: bool = True
    url_queries: bool = False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def token_for(host: str, given: str | None, say: Callable[[str], None]) -> str | None:
    """The token of a server: whoever reaches it from elsewhere must know one.

    Args:
        host: The address that it binds.
        given: By who starts it, if anything.
        say: Receives one that is made up.
    """
    if given or is_loopback(host):
        return given or None
    token = new_token()
    say(f"Token: {token}")
    return token


def new_token() -> str:
    """One that cannot be guessed."""
    return secrets.token_urlsafe(24)
