"""Adapter to httpx, which is an optional dependency."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mmsearch.client._errors import Response
from mmsearch.client._requests import Endpoint, Request
from mmsearch.core.arguments import describe_value
from mmsearch.core.errors import MissingExtraError, StateError, UnreachableError, UsageError

if TYPE_CHECKING:
    import httpx

_ERRNO_PREFIX = re.compile(r"^\[Errno -?[0-9]+\] ")


def import_httpx() -> ModuleType:
    """Import and return httpx.

    Raises:
        MissingExtraError: httpx is not installed.
    """
    try:
        import httpx  # noqa: PLC0415 - an optional dependency that only the client needs
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("The client", "httpx", "client") from error
    return httpx


def client_options(endpoint: Endpoint) -> dict[str, Any]:
    """Return the arguments that both kinds of httpx client are created with."""
    return {
        "base_url": endpoint.url,
        "headers": endpoint.headers,
        "timeout": endpoint.timeout_s,
        # Requests to this machine must not go through a proxy.
        "trust_env": not endpoint.is_local,
    }


def check_transport(transport: object, method: str) -> None:
    """Check that an object can replace the network.

    Raises:
        UsageError: It lacks the method of httpx's transports.
    """
    if transport is not None and not hasattr(transport, method):
        raise UsageError(
            f"transport must be a transport of httpx, got {describe_value(transport)}.",
            "Leave it out to use the network.",
        )


def events_timeout(endpoint: Endpoint) -> httpx.Timeout:
    """Return the timeout for an event stream, which may be silent for any length of time."""
    timeout: httpx.Timeout = import_httpx().Timeout(endpoint.timeout_s, read=None)
    return timeout


WRITE_TIMEOUT_S = 600.0
"""Minimum seconds to wait for the answer to a request that writes: writes wait for each other."""


def request_options(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return the arguments of httpx for a request, except the method and the URL."""
    options = request.httpx_kwargs()
    if request.is_write:
        read_s = max(endpoint.timeout_s, WRITE_TIMEOUT_S)
        options["timeout"] = import_httpx().Timeout(endpoint.timeout_s, read=read_s)
    return options


def to_response(response: httpx.Response, content: bytes) -> Response:
    """Convert a response of httpx."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, content, headers)


def closed_error() -> StateError:
    """Return the error for a method called on a closed client."""
    return StateError("This client is closed.", "Create a new one.")


@contextmanager
def map_transport_errors(endpoint: Endpoint) -> Iterator[None]:
    """Convert the exceptions of httpx to those of mmsearch.

    Raises:
        UnreachableError: The server does not respond, or not in time.
        UsageError: The URL is invalid.
    """
    http = import_httpx()
    try:
        yield
    except http.TimeoutException as error:
        raise UnreachableError(
            endpoint.unreachable_message(f"no response for {endpoint.timeout_s:g} seconds"),
            "Try again, or set a longer timeout with timeout_s=...",
        ) from error
    except http.RequestError as error:
        reason = _ERRNO_PREFIX.sub("", str(error)).rstrip(".") or type(error).__name__
        raise UnreachableError(
            endpoint.unreachable_message(reason), "Check that `mmsearch serve` is running there."
        ) from error
    except http.InvalidURL as error:
        raise UsageError(
            f"Invalid server URL {endpoint.url!r}.", "Use a URL such as http://127.0.0.1:7788."
        ) from error
