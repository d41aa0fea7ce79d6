"""Where the client meets httpx, which is an extra."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mmsearch.client._endpoint import Endpoint
from mmsearch.client._errors import Response
from mmsearch.core.errors import MissingExtraError, StateError, UnreachableError, UsageError

if TYPE_CHECKING:
    import httpx

_ERRNO_PREFIX = re.compile(r"^\[Errno -?[0-9]+\] ")


def import_httpx() -> ModuleType:
    """The library that speaks HTTP.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import httpx  # noqa: PLC0415 - an extra, and nothing else needs it
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "The client needs the Python package 'httpx', which is not installed.",
            "Install it with: pip install 'mmsearch[client]'",
        ) from error
    return httpx


def client_options(endpoint: Endpoint) -> dict[str, Any]:
    """What both of httpx's clients are made with."""
    return {
        "base_url": endpoint.url,
        "headers": endpoint.headers,
        "timeout": endpoint.timeout_s,
        # What goes to this machine is no business of a proxy.
        "trust_env": not endpoint.is_local,
    }


def events_timeout(endpoint: Endpoint) -> httpx.Timeout:
    """A job that has nothing to tell may be silent for as long as it likes."""
    timeout: httpx.Timeout = import_httpx().Timeout(endpoint.timeout_s, read=None)
    return timeout


def to_response(response: httpx.Response, content: bytes) -> Response:
    """A response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, content, headers)


def closed_error() -> StateError:
    """A client that was closed is asked for something."""
    return StateError("This client is closed.", "Open another one.")


@contextmanager
def map_transport_errors(endpoint: Endpoint) -> Iterator[None]:
    """Let what the network does be told in a sentence.

    Raises:
        UnreachableError: Nobody answers, or not in time.
        UsageError: The URL is none.
    """
    http = import_httpx()
    try:
        yield
    except http.TimeoutException as error:
        raise UnreachableError(
            endpoint.unreachable_message(f"it was silent for {endpoint.timeout_s:g} seconds"),
            "Try it again, or allow more with timeout_s=...",
        ) from error
    except http.RequestError as error:
        reason = _ERRNO_PREFIX.sub("", str(error)).rstrip(".") or type(error).__name__
        raise UnreachableError(
            endpoint.unreachable_message(reason), "Is `mmsearch serve` running there?"
        ) from error
    except http.InvalidURL as error:
        raise UsageError(
            f"{endpoint.url!r} is no URL of a server.", "Write one such as http://127.0.0.1:7788."
        ) from error
