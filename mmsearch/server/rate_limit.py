"""Rate limit per client."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

MAX_CLIENTS = 4096
"""Maximum number of clients whose requests are counted."""

CHARGE_STATE_KEY = "also_counts"
"""Key in a request's state of the function that charges further requests to its client."""


class RateLimit:
    """Token bucket per client with a capacity of one second's requests, but at least one.

    Args:
        requests_per_s: Maximum rate in requests per second; 0 for no limit.
        clock: Returns the time in seconds.
    """

    def __init__(self, requests_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def acquire(self, address: str) -> float:
        """Count a request from an address; return the seconds to wait, or 0 if it is allowed."""
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
        """Charge further requests to the client of an allowed request; later requests wait."""
        client = client_key(address)
        if self._requests_per_s and client in self._buckets:
            tokens, updated_s = self._buckets[client]
            self._buckets[client] = (tokens - requests, updated_s)


def charge(request: Request, request_count: int) -> None:
    """Charge a batch request as ``request_count`` requests."""
    add_charge = getattr(request.state, CHARGE_STATE_KEY, None)
    if add_charge is not None:
        add_charge(request_count - 1)


def client_key(address: str) -> str:
    """Return the key of all addresses that one client can use: for IPv6, its /64 network.

    Args:
        address: Client address; text that is not an IP address is returned unchanged.
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
