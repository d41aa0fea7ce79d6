"""Where the client meets httpx, which is an extra."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mmsearch.client._endpoint import Address
from mmsearch.client._errors import Reply
from mmsearch.core.errors import MissingExtraError, StateError, UnreachableError, UsageError

if TYPE_CHECKING:
    import httpx

_NUMBER = re.compile(r"^\[Errno -?[0-9]+\] ")


def http_library() -> ModuleType:
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


def connection(address: Address) -> dict[str, Any]:
    """What both of httpx's clients are made with."""
    return {
        "base_url": address.url,
        "headers": address.headers,
        "timeout": address.timeout_s,
        # What goes to this machine is no business of a proxy.
        "trust_env": not address.local,
    }


def events_timeout(address: Address) -> httpx.Timeout:
    """A job that has nothing to tell may be silent for as long as it likes."""
    timeout: httpx.Timeout = http_library().Timeout(address.timeout_s, read=None)
    return timeout


def reply_of(response: httpx.Response, content: bytes) -> Reply:
    """A response."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, content, headers)


def closed() -> StateError:
    """A client that was closed is asked for something."""
    return StateError("This client is closed.", "Open another one.")


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Let what the network does be told in a sentence.

    Raises:
        UnreachableError: Nobody answers, or not in time.
        UsageError: The URL is none.
    """
    http = http_library()
    try:
        yield
    except http.TimeoutException as error:
        raise UnreachableError(
            address.silence(f"it was silent for {address.timeout_s:g} seconds"),
            "Try it again, or allow more with timeout_s=...",
        ) from error
    except http.RequestError as error:
        reason = _NUMBER.sub("", str(error)).rstrip(".") or type(error).__name__
        raise UnreachableError(
            address.silence(reason), "Is `mmsearch serve` running there?"
        ) from error
    except http.InvalidURL as error:
        raise UsageError(
            f"{address.url!r} is no URL of a server.", "Write one such as http://127.0.0.1:7788."
        ) from error
