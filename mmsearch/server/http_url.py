"""Parser of untrusted http URLs; all checks use its result, so no URL is parsed in two ways."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from mmsearch.core.display import display_path

MAX_DISPLAY_LENGTH = 200
"""Maximum number of characters of a URL in a message."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_CONTROL_PATTERN = re.compile(r"[\x00-\x1f\x7f]")
_HOST_PATTERN = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
_SAFE_CHARACTERS = "%:@!$&'()*+,;=~/"


@dataclass(frozen=True)
class HttpUrl:
    """A parsed http or https URL.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Host name in ASCII, or an IP address; IPv6 without brackets.
        port: Explicit port, or the default of the scheme.
        target: Path and query, in ASCII.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL.

        Raises:
            ValueError: The URL is not a valid http or https URL, or has a user name or password.
        """
        if _CONTROL_PATTERN.search(url):
            raise ValueError
        parts = urlsplit(url.strip(" "))
        port = DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
        host = parts.hostname or ""
        if not port or "@" in parts.netloc or parts.scheme not in DEFAULT_PORTS:
            raise ValueError
        if "[" in parts.netloc:
            host = str(ipaddress.IPv6Address(host))
        elif not host.isascii():
            host = host.encode("idna").decode()
        if not _HOST_PATTERN.fullmatch(host) and ":" not in host:
            raise ValueError
        query = f"?{quote(parts.query, safe=_SAFE_CHARACTERS + '?')}" if parts.query else ""
        return cls(
            parts.scheme, host, port, quote(parts.path or "/", safe=_SAFE_CHARACTERS) + query
        )

    @property
    def authority(self) -> str:
        """Host, with the port if it is not the default one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def join(self, location: str) -> HttpUrl:
        """Return the target of a redirect from this URL.

        Raises:
            ValueError: See `parse`.
        """
        return HttpUrl.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", location))


def display_url(url: str) -> str:
    """Return a URL for a message: quoted, escaped and shortened."""
    return repr(
        display_path(url if len(url) <= MAX_DISPLAY_LENGTH else f"{url[:MAX_DISPLAY_LENGTH]}...")
    )
