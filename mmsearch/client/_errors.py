"""Conversion of problem documents (RFC 9457) to the exceptions that the server raised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mmsearch.core import errors
from mmsearch.core.errors import (
    MMSearchError,
    ModelUnavailableError,
    ServerError,
    UnauthorizedError,
    UsageError,
)

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each retry, unless the server sends a ``Retry-After`` header."""

MAX_RETRY_DELAY_S = 30.0
"""Longest ``Retry-After`` to wait for, in seconds. The request is not retried if it is longer."""


@dataclass(frozen=True)
class Response:
    """An HTTP response.

    Attributes:
        status: HTTP status code.
        content: The body.
        headers: Header values by name in lower case.
    """

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """True if the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Parse the body.

        Raises:
            ServerError: The body is not JSON.
        """
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise ServerError(
                "The server's response is not JSON.",
                "Check that the URL is that of an mmsearch server.",
                status=self.status,
            ) from error


def to_error(response: Response, url: str, *, has_token: bool) -> MMSearchError:
    """Return the exception that an error response describes.

    Args:
        response: A response that is not a success.
        url: URL of the server.
        has_token: True if a token was sent.

    Returns:
        An exception of the same class as on the server if `mmsearch.core.errors` has it, else a
        `UsageError` for an invalid request (status 400, 413 or 422) and a `ServerError` for any
        other status.
    """
    return parse_problem(
        _read_problem(response),
        url,
        has_token=has_token,
        status=response.status,
    )


def parse_problem(
    document: Mapping[str, Any], url: str, *, has_token: bool = False, status: int | None = None
) -> MMSearchError:
    """Return the exception that a problem document describes; see `to_error`.

    Args:
        document: The document; may be empty.
        url: URL of the server.
        has_token: True if a token was sent.
        status: Status of the response; None for that of the document.
    """
    status = document.get("status", 500) if status is None else status
    detail = document.get("detail")
    message = detail if isinstance(detail, str) and detail else _default_message(status, url)
    kind = document.get("kind")
    if status == 401:
        hint = "The token that was sent is wrong." if has_token else "Pass it as token=..."
        return UnauthorizedError(message, hint, status=status, kind=kind)
    error_class = vars(errors).get(kind) if isinstance(kind, str) else None
    if isinstance(error_class, type) and issubclass(error_class, MMSearchError):
        return error_class(message, status=status, kind=kind)
    if status in (400, 413, 422):
        return UsageError(message, status=status, kind=kind)
    return ServerError(message, status=status, kind=kind)


def retry_delay_s(response: Response, error: MMSearchError, attempt: int) -> float | None:
    """Return the seconds to wait before a retry, or None if the request is not retried.

    Args:
        response: A response that is not a success.
        error: The exception that it describes.
        attempt: Number of attempts before this one.
    """
    # Weights that cannot be fetched now will not be available in a second.
    if response.status not in (429, 503) or isinstance(error, ModelUnavailableError):
        return None
    if attempt >= len(RETRY_DELAYS_S):
        return None
    retry_after = response.headers.get("retry-after", "")
    delay_s = (
        float(retry_after)
        if retry_after.isascii() and retry_after.isdecimal()
        else RETRY_DELAYS_S[attempt]
    )
    return delay_s if delay_s <= MAX_RETRY_DELAY_S else None


def _read_problem(response: Response) -> Mapping[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _default_message(status: int, url: str) -> str:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    return f"The server at {url} responded with status {status}{phrase}."
