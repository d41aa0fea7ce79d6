"""How often each client may ask."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

CLIENTS = 4096
"""Clients whose requests are counted."""

ALSO = "also_counts"
"""Where a request keeps what counts more of its kind."""


class RateLimit:
    """Each client may ask so often, and save up one second's worth (a token bucket).

    Args:
        per_s: Requests a second; 0: no limit.
        clock: Seconds.
    """

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Count a request from an address; how long it comes too early, 0 if it does not."""
        if not self._per_s:
            return 0.0
        client = counted_as(address)
        now = self._clock()
        most = max(1.0, self._per_s)
        left, since = self._left.pop(client, (most, now))
        left = min(most, left + (now - since) * self._per_s)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        if len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_s

    def add(self, address: str, requests: int) -> None:
        """Count so many more, which came with one that was let through: the next ones wait."""
        client = counted_as(address)
        if self._per_s and client in self._left:
            left, since = self._left[client]
            self._left[client] = (left - requests, since)


def counted(request: Request, things: int) -> None:
    """Let a request that asks for several things at once count as so many requests."""
    also = getattr(request.state, ALSO, None)
    if also is not None:
        also(things - 1)


def counted_as(address: str) -> str:
    """What stands for all addresses that one client can choose among: in IPv6 a network of 64 bits.

    Args:
        address: As the server sees it; anything else stands for itself.
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return known.packed[:8].hex(":", 2)
