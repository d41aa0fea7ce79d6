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

WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""Before each further attempt, where the server says nothing about it."""

LONGEST_WAIT_S = 30.0
"""A server that asks for more patience than that is left alone."""


@dataclass(frozen=True)
class Reply:
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
    def accepted(self) -> bool:
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


def error_of(reply: Reply, url: str, *, with_token: bool) -> MMSearchError:
    """The error that a response tells.

    Args:
        reply: A response that was not accepted.
        url: The server's.
        with_token: Whether a token was sent.

    Returns:
        Of the class that it has locally, if it is one of `mmsearch.core.errors`; else a
        `UsageError` for what cannot be meant, and a `ServerError` for the rest.
    """
    document = _document(reply)
    detail = document.get("detail")
    said = detail if isinstance(detail, str) and detail else _unsaid(reply, url)
    kind = document.get("kind")
    if reply.status == 401:
        hint = "It does not know the one that was given." if with_token else "Give it as token=..."
        return UnauthorizedError(said, hint, status=reply.status, kind=kind)
    known = vars(errors).get(kind) if isinstance(kind, str) else None
    if isinstance(known, type) and issubclass(known, MMSearchError):
        return known(said, status=reply.status, kind=kind)
    if reply.status in (400, 413, 422):
        return UsageError(said, status=reply.status, kind=kind)
    return ServerError(said, status=reply.status, kind=kind)


def wait_s(reply: Reply, error: MMSearchError, attempt: int) -> float | None:
    """How long to wait before asking once more; None: it is of no use.

    Args:
        reply: A response that was not accepted.
        error: What it tells.
        attempt: How many went before it.
    """
    # Weights that cannot be fetched now will not be there in a second.
    if reply.status not in (429, 503) or isinstance(error, ModelUnavailableError):
        return None
    if attempt >= len(WAITS_S):
        return None
    asked = reply.headers.get("retry-after", "")
    wait = float(asked) if asked.isascii() and asked.isdecimal() else WAITS_S[attempt]
    return wait if wait <= LONGEST_WAIT_S else None


def _document(reply: Reply) -> Mapping[str, Any]:
    try:
        document = json.loads(reply.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _unsaid(reply: Reply, url: str) -> str:
    try:
        phrase = f" ({HTTPStatus(reply.status).phrase})"
    except ValueError:
        phrase = ""
    return f"The server at {url} answers with status {reply.status}{phrase}."
