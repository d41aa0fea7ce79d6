"""Server configuration: address, token, limits and the proxies in front."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mmsearch.core.errors import ForbiddenError, Hint, UsageError

DEFAULT_DEADLINE_S = 30.0

DEFAULT_TRUSTED_PROXIES = ("127.0.0.1", "::1")

FIRST_SEGMENTS = frozenset(
    {
        "docs",
        "healthz",
        "mcp",
        "metrics",
        "openapi.json",
        "readyz",
        "session",
        "static",
        "suggest",
        "v1",
    }
)
"""First segments of the server's own paths. A root path must not begin with one of them: the server
could not tell whether a proxy has removed it from the path of a request."""

_ROOT_PATH_PATTERN = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_MAX_ROOT_PATH_LENGTH = 200


@dataclass(frozen=True)
class ServerConfig:
    """Address, token, limits and proxies of a server.

    Attributes:
        host: Address to bind.
        token: Token that requests must carry; None if no token is needed.
        allowed_origins: Origins of other web sites whose pages may send requests.
        max_upload_mb: Maximum size of a request body, and of a picture, in megabytes.
        max_bulk_mb: Maximum size of a request that adds many pictures, which is read as a stream.
        requests_per_s: Rate limit per client for requests that search, encode or change
            something; 0 for no limit.
        max_concurrent: Maximum number of concurrent requests; further ones are refused.
        deadline_s: Seconds after which a request without an answer gets a 503.
        allow_indexing: True if clients may add, change and delete pictures by ids of their own, and
            start jobs that update known sources.
        allow_url_queries: True if queries and additions may name pictures by URL, which the server
            fetches.
        root_path: Path below which a proxy serves this server, such as ``/photos``; "" for none;
            None to read it from the ``X-Forwarded-Prefix`` header of trusted proxies.
        trusted_proxies: IP addresses and networks whose ``X-Forwarded-*`` headers count, or ``*``
            for any.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    allowed_origins: tuple[str, ...] = ()
    max_upload_mb: float = 50.0
    max_bulk_mb: float = 2000.0
    requests_per_s: float = 0.0
    max_concurrent: int = 512
    deadline_s: float = DEFAULT_DEADLINE_S
    allow_indexing: bool = True
    allow_url_queries: bool = False
    root_path: str | None = None
    trusted_proxies: tuple[str, ...] = DEFAULT_TRUSTED_PROXIES

    def check_indexing(self) -> None:
        """Check that clients may change indexes.

        Raises:
            ForbiddenError: They may not.
        """
        if not self.allow_indexing:
            raise ForbiddenError(
                "Indexing is turned off on this server.",
                Hint(
                    "{}.",
                    "Its operator decides whether clients may change the index",
                    "Start it without --no-indexing",
                ),
            )


def is_root_path(text: str) -> bool:
    """Return True if a text is a path, below which the server can be served.

    Such a path can be put into links, headers and cookies as it is.
    """
    segments = text.split("/")
    return (
        _ROOT_PATH_PATTERN.fullmatch(text) is not None
        and len(text) <= _MAX_ROOT_PATH_LENGTH
        and not {".", ".."}.intersection(segments)
        and segments[1] not in FIRST_SEGMENTS
    )


def parse_root_path(text: str | None) -> str | None:
    """Return the value of ``--root-path`` as in `ServerConfig`; a slash alone means no path.

    Raises:
        UsageError: The text is not a path, or begins like the server's own paths.
    """
    if not text:
        return None
    if text == "/":
        return ""
    if is_root_path(text):
        return text
    first_segment = text[1:].split("/")[0]
    if first_segment in FIRST_SEGMENTS:
        raise UsageError(
            f"--root-path {text!r} begins like a path of the server itself.",
            "Choose one that does not begin with "
            f"{', '.join(f'/{name}' for name in sorted(FIRST_SEGMENTS))}.",
        )
    raise UsageError(
        f"Invalid --root-path {text!r}.",
        "Use a path such as /photos: a slash before each name, none at the end, and names of"
        f" unaccented letters, digits, '.', '_', '~' and '-', up to {_MAX_ROOT_PATH_LENGTH}"
        " characters in all.",
    )


def parse_trusted_proxies(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses and networks of proxies, separated by commas or given one by one.

    Args:
        texts: Values of ``--trusted-proxy``; without any, this machine is trusted.

    Raises:
        UsageError: A value is neither an IP address nor a network.
    """
    values = [value for text in texts for value in text.replace(",", " ").split()]
    if "*" in values:
        return ("*",)
    proxies = []
    for value in values:
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise UsageError(
                f"--trusted-proxy {value!r} is not an IP address or network.",
                "Use an address such as 192.168.1.5, a network such as 172.16.0.0/12, or '*' for"
                " any client.",
            ) from None
        proxies.append(str(network) if "/" in value else value)
    return tuple(proxies) or DEFAULT_TRUSTED_PROXIES


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
