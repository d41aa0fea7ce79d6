"""Which addresses a server may connect to when it fetches what others name."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

BLOCKED_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            # Made of an IPv4 address that a relay would reach: 6to4, its relays, and Teredo.
            "2002::/16",
            "192.88.99.0/24",
            "2001::/32",
            # Not all versions of Python know that nobody lives there.
            "192.0.0.0/24",
            "2001:db8::/32",
            "3fff::/20",
        ),
    )
)

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that was ever given to anybody; other prefixes have meanings of their own."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 as networks without it see it (RFC 6052)."""


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, which every machine reaches alike.

    What stands for an IPv4 address is public if that one is.

    Args:
        address: IPv4 or IPv6 in its usual notation.
    """
    if "%" in address:
        return False
    try:
        ip = _unwrap_ipv4(ipaddress.ip_address(address))
    except ValueError:
        return False
    # An IPv6 network holds no IPv4 address, and the other way round.
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
    """The addresses of a name, or of an address in any notation.

    Raises:
        OSError: It has none.
    """
    loop = asyncio.get_running_loop()
    address_infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in address_infos))


class AddressBlockedError(Exception):
    """A name leads where nothing is fetched from."""


@dataclass(frozen=True)
class AddressPolicy:
    """From where is fetched: by default, from web servers of the internet.

    Attributes:
        resolve: The addresses of a host.
        is_allowed: Whether an address may be connected to.
        ports: That may be.
        tls: Whose certificates are trusted; None: those that this machine trusts.
    """

    resolve: Callable[[str, int], Awaitable[Sequence[str]]] = resolve
    is_allowed: Callable[[str], bool] = is_public
    ports: frozenset[int] = frozenset({80, 443})
    tls: ssl.SSLContext | None = None

    async def resolve_allowed(self, host: str, port: int) -> Sequence[str]:
        """Where to connect for a host: these very addresses, for its name may soon mean others.

        Raises:
            AddressBlockedError: It has no address, one of them may not be connected to, or the port
                may not.
        """
        try:
            resolved = await self.resolve(host, port) if port in self.ports else ()
        # A label that is too long for a name is no OSError.
        except (OSError, UnicodeError) as error:
            raise AddressBlockedError(host) from error
        if not resolved or not all(map(self.is_allowed, resolved)):
            raise AddressBlockedError(host)
        return resolved
