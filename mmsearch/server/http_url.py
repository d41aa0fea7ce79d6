"""URLs that others name, taken apart once: nothing else reads them in another way."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from mmsearch.core.display import display_path

MAX_DISPLAY_LENGTH = 200
"""Characters of a URL in a sentence."""

DEFAULT_PORTS = {"http": 80, "https": 443}

_CONTROL_PATTERN = re.compile(r"[\x00-\x1f\x7f]")
_HOST_PATTERN = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")
_SAFE_CHARACTERS = "%:@!$&'()*+,;=~/"


@dataclass(frozen=True)
class HttpUrl:
    """Where something is on the web.

    Attributes:
        scheme: ``http`` or ``https``.
        host: In ASCII, an IPv6 address without brackets.
        port: Said or usual.
        target: Path and query, in ASCII.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The parts of a URL.

        Raises:
            ValueError: It is not one of http or https, or holds a name or password.
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
        """Host, and the port if it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def join(self, location: str) -> HttpUrl:
        """Where a redirect leads.

        Raises:
            ValueError: See `parse`.
        """
        return HttpUrl.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", location))


def display_url(url: str) -> str:
    """A URL as sentences name it."""
    return repr(
        display_path(url if len(url) <= MAX_DISPLAY_LENGTH else f"{url[:MAX_DISPLAY_LENGTH]}...")
    )
