"""Address of an index on a server, and requests to it, as plain values."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.filters import FILTERS, Filters
from mmsearch.core.query import HITS_LIMIT
from mmsearch.core.results import Item


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes:
        method: HTTP method.
        path: Path of the URL on the server.
        params: Query parameters of the URL.
        body: JSON body, or None for a request without one.
        form: Form fields, sent alone or together with ``picture``.
        picture: Content of a picture file to upload.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str | list[str]] = field(default_factory=dict)
    picture: bytes | None = field(default=None, repr=False)

    def httpx_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments for httpx, except the method and the URL.

        Raises:
            UsageError: The body cannot be serialized as JSON.
        """
        if self.picture is not None:
            return {"data": dict(self.form), "files": {"picture": ("picture", self.picture)}}
        if self.form:
            return {"data": dict(self.form)}
        if self.body is None:
            return {"params": dict(self.params)}
        content = _to_json(self.body).encode()
        return {"content": content, "headers": {"Content-Type": "application/json"}}


def build_search_body(
    query: str,
    *,
    without: Iterable[str] = (),
    like: Iterable[int | Item] = (),
    like_url: Iterable[str] = (),
    filters: Mapping[str, Any] | Filters | None = None,
    mode: str | None = None,
    min_score: float | None = None,
    min_confidence: float | None = None,
) -> dict[str, Any]:
    """Return the JSON body of a search; see `mmsearch.Client.search`.

    Raises:
        UsageError: The filters contain a parsed condition instead of its text.
    """
    return {
        "query": query,
        "not": list(without),
        "like": [picture_id(picture) for picture in like],
        "like_url": list(like_url),
        "filters": build_filters_body(filters),
        "mode": mode,
        "min_score": min_score,
        "min_confidence": min_confidence,
    }


def build_picture_form(query: str, **options: Any) -> dict[str, str | list[str]]:
    """Return the form fields that accompany an uploaded picture.

    Args:
        query: The query text; may be empty.
        **options: The options of `build_search_body`, except ``like`` and ``like_url``.

    Raises:
        UsageError: The filters cannot be serialized.
    """
    body = build_search_body(query, **options)
    form = {"query": query, "not": body["not"], "filters": _to_json(body["filters"])}
    optional = {name: body[name] for name in ("mode", "min_score", "min_confidence")}
    return form | {name: str(value) for name, value in optional.items() if value is not None}


def build_filters_body(filters: Mapping[str, Any] | Filters | None) -> dict[str, Any]:
    """Return filters in the form that the server accepts.

    Raises:
        UsageError: The filters contain a parsed condition instead of its text.
    """
    if not isinstance(filters, Filters):
        return dict(filters or {})
    if filters.where is not None:
        raise UsageError(
            "A parsed condition cannot be sent.",
            "Pass the filters as a mapping: {'where': 'width > 2*height'}.",
        )
    values = {spec: getattr(filters, spec.keyword) for spec in FILTERS}
    return {
        spec.name: list(value)
        if spec.multiple
        else str(value)
        if spec.kind == "circle" and value is not None
        else value
        for spec, value in values.items()
        if spec.kind != "condition"
    }


def picture_id(picture: int | Item) -> int:
    """Return the id of a picture."""
    return picture.id if isinstance(picture, Item) else picture


def as_url(image: object) -> str | None:
    """Return ``image`` if it is an HTTP URL, else None."""
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        return image
    return None


def read_picture(image: bytes | str | os.PathLike[str]) -> bytes:
    """Return the content of a picture file.

    Args:
        image: The content itself, or a path on this machine.

    Raises:
        SourceError: The file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    path = expand_user(image)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{display_path(path)} cannot be read: {error.strerror}.") from error


def check_k(k: int) -> None:
    """Check that k is a number of hits that a server can return.

    Raises:
        InvalidQueryError: k is out of range.
    """
    if not 1 <= k <= HITS_LIMIT:
        raise InvalidQueryError(
            f"A server cannot return {k} hits.", f"Use a k from 1 to {HITS_LIMIT}."
        )


def _to_json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The request cannot be serialized: {error}.",
            "Use strings, finite numbers, and lists of them.",
        ) from error


_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f]")

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Endpoint:
    """The address of an index on a server.

    Attributes:
        url: URL of the server, without a trailing slash.
        index: Name of the index.
        token: Access token; None if the server needs none.
        timeout_s: Seconds to wait for the server.
    """

    url: str
    index: str
    token: str | None = field(repr=False)
    timeout_s: float

    @classmethod
    def parse(cls, url: str, index: str, token: str | None, timeout_s: float) -> Endpoint:
        """Return an endpoint after checking the URL and the token.

        Raises:
            UsageError: The URL or the token is invalid.
        """
        try:
            url_parts = urlsplit(url)
            has_host = bool(url_parts.hostname) and url_parts.port != 0
            is_valid = (
                url_parts.scheme in ("http", "https") and has_host and not _INVISIBLE.search(url)
            )
        except ValueError:
            is_valid = False
        if not is_valid or url_parts.query or url_parts.fragment:
            raise UsageError(
                f"Invalid server URL {url!r}.", "Use a URL such as http://127.0.0.1:7788."
            )
        if url_parts.username is not None or url_parts.password is not None:
            raise UsageError(
                "The URL contains a user name or a password.", "Pass a token as token=..."
            )
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("The token contains characters that are not allowed in a token.")
        return cls(url.rstrip("/"), index, token, timeout_s)

    @property
    def is_local(self) -> bool:
        """True if the server runs on this machine, so that no proxy is needed."""
        return urlsplit(self.url).hostname in LOOPBACK_HOSTS

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {"Accept": "application/json, */*", **token}

    def path(self, *parts: str | int) -> str:
        """Return the URL path of a resource of the index."""
        return "".join(
            ["/v1/indexes", *(f"/{quote(str(part), safe='')}" for part in (self.index, *parts))]
        )

    def unreachable_message(self, reason: str) -> str:
        """Return the message for a server that does not respond."""
        return f"The server at {self.url} cannot be reached: {reason}."
