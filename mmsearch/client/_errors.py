"""Problem documents (RFC 9457) as the errors that they were on the server."""

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
"""Before each further attempt, where the server says nothing about it."""

MAX_RETRY_DELAY_S = 30.0
"""A server that asks for more patience than that is left alone."""


@dataclass(frozen=True)
class Response:
    """A response.

    Attributes:
        status: HTTP's.
        content: The body.
        headers: By name in lower case.
    """

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body.

        Raises:
            ServerError: It is no JSON.
        """
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise ServerError(
                "The server's answer is no JSON.",
                "Is it an mmsearch server? Look at the URL.",
                status=self.status,
            ) from error


def to_error(response: Response, url: str, *, has_token: bool) -> MMSearchError:
    """The error that a response tells.

    Args:
        response: A response that was not accepted.
        url: The server's.
        has_token: Whether a token was sent.

    Returns:
        Of the class that it has locally, if it is one of `mmsearch.core.errors`; else a
        `UsageError` for what cannot be meant, and a `ServerError` for the rest.
    """
    document = _parse_problem(response)
    detail = document.get("detail")
    message = detail if isinstance(detail, str) and detail else _default_message(response, url)
    kind = document.get("kind")
    if response.status == 401:
        hint = "It does not know the one that was given." if has_token else "Give it as token=..."
        return UnauthorizedError(message, hint, status=response.status, kind=kind)
    error_class = vars(errors).get(kind) if isinstance(kind, str) else None
    if isinstance(error_class, type) and issubclass(error_class, MMSearchError):
        return error_class(message, status=response.status, kind=kind)
    if response.status in (400, 413, 422):
        return UsageError(message, status=response.status, kind=kind)
    return ServerError(message, status=response.status, kind=kind)


def retry_delay_s(response: Response, error: MMSearchError, attempt: int) -> float | None:
    """How long to wait before asking once more; None: it is of no use.

    Args:
        response: A response that was not accepted.
        error: What it tells.
        attempt: How many went before it.
    """
    # Weights that cannot be fetched now will not be there in a second.
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


def _parse_problem(response: Response) -> Mapping[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _default_message(response: Response, url: str) -> str:
    try:
        phrase = f" ({HTTPStatus(response.status).phrase})"
    except ValueError:
        phrase = ""
    return f"The server at {url} answers with status {response.status}{phrase}."
