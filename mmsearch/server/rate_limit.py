"""How often each client may ask."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

MAX_CLIENTS = 4096
"""Clients whose requests are counted."""

CHARGE_STATE_KEY = "also_counts"
"""Where a request keeps what counts more of its kind."""


class RateLimit:
    """Each client may ask so often, and save up one second's worth (a token bucket).

    Args:
        requests_per_s: Requests a second; 0: no limit.
        clock: Seconds.
    """

    def __init__(self, requests_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, address: str) -> float:
        """Count a request from an address; how long it comes too early, 0 if it does not."""
        if not self._requests_per_s:
            return 0.0
        client = client_key(address)
        now = self._clock()
        capacity = max(1.0, self._requests_per_s)
        tokens, updated_s = self._buckets.pop(client, (capacity, now))
        tokens = min(capacity, tokens + (now - updated_s) * self._requests_per_s)
        is_allowed = tokens >= 1
        self._buckets[client] = (tokens - 1 if is_allowed else tokens, now)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - tokens) / self._requests_per_s

    def add(self, address: str, requests: int) -> None:
        """Count so many more, which came with one that was let through: the next ones wait."""
        client = client_key(address)
        if self._requests_per_s and client in self._buckets:
            tokens, updated_s = self._buckets[client]
            self._buckets[client] = (tokens - requests, updated_s)


def charge(request: Request, request_count: int) -> None:
    """Let a request that asks for several things at once count as so many requests."""
    add_charge = getattr(request.state, CHARGE_STATE_KEY, None)
    if add_charge is not None:
        add_charge(request_count - 1)


def client_key(address: str) -> str:
    """What stands for all addresses that one client can choose among: in IPv6 a network of 64 bits.

    Args:
        address: As the server sees it; anything else stands for itself.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return ip.packed[:8].hex(":", 2)
