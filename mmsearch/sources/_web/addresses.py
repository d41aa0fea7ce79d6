"""URLs and addresses that untrusted pictures may be fetched from.

All checks use the result of one parser, so no URL is parsed in two ways.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self
from urllib.parse import quote, urljoin, urlsplit

from mmsearch.core.display import display_path

BLOCKED_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            # Addresses that relays translate to an embedded IPv4 address: 6to4, its relays, Teredo.
            "2002::/16",
            "192.88.99.0/24",
            "2001::/32",
            # Reserved networks that not all versions of Python know as such.
            "192.0.0.0/24",
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All IPv6 addresses allocated so far; other prefixes have special meanings."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as IPv6-only networks see them (RFC 6052)."""


def is_public(address: str) -> bool:
    """Return True if an address is a public address of the internet.

    An IPv6 address that represents an IPv4 address is public if the IPv4 address is.

    Args:
        address: IPv4 or IPv6 address in its usual notation.
    """
    if "%" in address:
        return False
    try:
        ip = _unwrap_ipv4(ipaddress.ip_address(address))
    except ValueError:
        return False
    # `in` is False for an address and a network of different IP versions.
    is_special = (
        any(ip in network for network in BLOCKED_NETWORKS) or ip.is_multicast or ip.is_reserved
    )
    is_allocated = ip.version == 4 or ip in GLOBAL_UNICAST
    return ip.is_global and is_allocated and not is_special


def _unwrap_ipv4(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else address


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host name, or of an address in any notation.

    Raises:
        OSError: The host has no address.
    """
    loop = asyncio.get_running_loop()
    address_infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in address_infos))


class AddressBlockedError(Exception):
    """Raised for a host or port that the policy does not allow.

    Args:
        reason: The reason as a clause, for the operator.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class AddressPolicy:
    """Rules for connections; by default, only public web servers are allowed.

    Attributes:
        resolve: Returns the addresses of a host and port.
        is_allowed: Returns True if the server may connect to an address.
        ports: Allowed ports.
        tls: Context with the trusted certificates; None for those that this machine trusts.
    """

    resolve: Callable[[str, int], Awaitable[Sequence[str]]] = resolve
    is_allowed: Callable[[str], bool] = is_public
    ports: Container[int] = frozenset({80, 443})
    tls: ssl.SSLContext | None = None

    async def resolve_allowed(self, host: str, port: int) -> Sequence[str]:
        """Resolve a host once and return its addresses if all of them are allowed.

        Callers must connect to these addresses, because the name may soon resolve to others.

        Raises:
            AddressBlockedError: The host has no address, or one of its addresses or the port is
                not allowed.
        """
        if port not in self.ports:
            raise AddressBlockedError(f"port {port} is not one of a public web server")
        try:
            resolved = await self.resolve(host, port)
        # A label that is too long for a name raises UnicodeError.
        except (OSError, UnicodeError) as error:
            raise AddressBlockedError("the name of its server is not known") from error
        if not resolved:
            raise AddressBlockedError("the name of its server is not known")
        if not all(map(self.is_allowed, resolved)):
            raise AddressBlockedError("the address of its server is not public")
        return resolved


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
