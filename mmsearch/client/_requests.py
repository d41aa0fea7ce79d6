"""Address of an index on a server, and requests to it, as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from mmsearch.core.arguments import (
    FilterValues,
    PictureIds,
    Texts,
    check_arguments,
    check_no_options,
    check_value,
    to_filters,
    to_picture_id,
    to_picture_ids,
    to_texts,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.filter_parser import format_condition
from mmsearch.core.filters import FILTERS, NO_FILTERS, Filters
from mmsearch.core.query import HITS_LIMIT, Mode, Query
from mmsearch.core.results import Hit
from mmsearch.modalities._memory import encode_image
from mmsearch.search.query_parser import quote_text


@dataclass(frozen=True)
class Request:
    """An HTTP request.

    Attributes:
        method: HTTP method.
        path: Path of the URL on the server.
        params: Query parameters of the URL.
        content: Body of JSON Lines.
        is_write: True if the server may take long, because it writes.
        body: JSON body, or None for a request without one.
        form: Form fields, sent alone or together with ``picture``.
        picture: Content of a picture file to upload.
        speech: Content of a sound file to upload, with ``form``.
    """

    method: str
    path: str
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str | list[str]] = field(default_factory=dict)
    picture: bytes | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    is_write: bool = False
    speech: bytes | None = field(default=None, repr=False)

    def httpx_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments for httpx, except the method, the URL and the timeout."""
        if self.content is not None:
            headers = {"Content-Type": "application/x-ndjson"}
            return {"params": dict(self.params), "content": self.content, "headers": headers}
        if self.picture is not None:
            return {"data": dict(self.form), "files": {"picture": ("picture", self.picture)}}
        if self.speech is not None:
            return {"data": dict(self.form), "files": {"speech": ("speech", self.speech)}}
        if self.form:
            return {"data": dict(self.form)}
        if self.body is None:
            return {"params": dict(self.params)}
        # A lone surrogate, which UTF-8 cannot hold, is escaped.
        content = json.dumps(self.body).encode()
        return {"content": content, "headers": {"Content-Type": "application/json"}}


@check_arguments("Client.search")
def build_search_body(
    query: str | Query,
    *,
    syntax: bool = False,
    without: Texts = (),
    like: PictureIds = (),
    unlike: PictureIds = (),
    like_url: Texts = (),
    filters: FilterValues | None = None,
    mode: str | None = None,
    min_score: float | None = None,
    min_confidence: float | None = None,
    fold: bool = True,
    literal: bool = False,
    literal_words: Texts = (),
) -> dict[str, Any]:
    """Return the JSON body of a search; see `mmsearch.Client.search`.

    Raises:
        UsageError: An argument has the wrong type, or a parsed query contains what a server does
            not accept.
    """
    if isinstance(query, Query):
        check_no_options(syntax=syntax, without=without, filters=filters, mode=mode)
        body = _build_query_body(query)
    else:
        if mode is not None and mode not in tuple(Mode):
            raise InvalidQueryError(f"Unknown mode {mode!r}.", f"Known: {', '.join(Mode)}.")
        body = {
            "query": query if syntax else quote_text(query),
            "not": list(to_texts(without)),
            "like": [],
            "like_url": [],
            "filters": build_filters_body(filters),
            "mode": mode,
        }
    body["like"] += to_picture_ids(like)
    # Older servers do not know it.
    if disliked := [*body.pop("unlike", ()), *to_picture_ids(unlike)]:
        body["unlike"] = disliked
    body["like_url"] += to_texts(like_url)
    body |= {"min_score": min_score, "min_confidence": min_confidence}
    quoted = [phrase for term in getattr(query, "terms", ()) for phrase in term.literal_words]
    words = list(dict.fromkeys([*quoted, *to_texts(literal_words)]))
    # A server of an earlier version does not know these members.
    if not fold:
        body["fold"] = False
    if literal:
        body["literal"] = True
    return body | {"literal_words": words} if words else body


def _build_query_body(query: Query) -> dict[str, Any]:
    """Return the members of a body that a parsed query determines.

    Raises:
        UsageError: The query names a file, or weighs a picture of the index.
    """
    parts: list[str] = []
    like: list[int] = []
    unlike: list[int] = []
    for term in query.terms:
        weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):.10f}:"
        sign = "-" if term.weight < 0 else "+"
        if term.image is not None:
            raise UsageError(
                f"A query to a server cannot name the file {display_path(term.image)}.",
                "Send it with client.similar(FILE, query=...).",
            )
        if term.picture is not None:
            if abs(term.weight) != 1:
                raise UsageError(
                    "A query to a server cannot weigh pictures of the index.",
                    "Leave out the weight.",
                )
            (like if term.weight > 0 else unlike).append(term.picture)
        elif term.url is not None:
            parts.append(f"{sign} {weight}image:{term.url}")
        else:
            parts.append(f"{sign} {weight}{quote_text(term.text or '')}")
    return {
        "query": " ".join(parts).removeprefix("+ "),
        "not": [],
        "like": like,
        "unlike": unlike,
        "like_url": [],
        "filters": build_filters_body(query.filters),
        "mode": query.mode and str(query.mode),
        "blend": query.blend,
        "prompts": query.prompts and list(query.prompts),
    }


def build_picture_form(query: str | Query, **options: Any) -> dict[str, str | list[str]]:
    """Return the form fields that accompany an uploaded picture.

    Args:
        query: The query text or a parsed query; may be empty.
        **options: The options of `build_search_body`, except ``like_url``.

    Raises:
        UsageError: See `build_search_body`.
    """
    body = build_search_body(query, **options)
    form = {"query": body["query"], "not": body["not"], "filters": json.dumps(body["filters"])}
    names = ("mode", "min_score", "min_confidence", "fold", "literal")
    optional = {name: body.get(name) for name in names}
    if "literal_words" in body:
        form["literal_words"] = body["literal_words"]
    clicks = {name: list(map(str, body.get(name, ()))) for name in ("like", "unlike")}
    form |= {name: ids for name, ids in clicks.items() if ids}
    return form | {name: str(value) for name, value in optional.items() if value is not None}


def build_filters_body(filters: Mapping[str, Any] | Filters | None) -> dict[str, Any]:
    """Return filters in the form that the server accepts; those that are not set are left out.

    Raises:
        InvalidQueryError: A filter is unknown or invalid.
    """
    checked = NO_FILTERS if filters is None else to_filters(filters)
    body: dict[str, Any] = {}
    for spec in FILTERS:
        value = getattr(checked, spec.keyword)
        if value == getattr(NO_FILTERS, spec.keyword):
            continue
        if spec.kind == "condition":
            value = format_condition(value)
        elif spec.kind == "circle":
            value = str(value)
        body[spec.name] = list(value) if spec.multiple else value
    return body


def as_url(image: object) -> str | None:
    """Return ``image`` if it is an HTTP URL, else None."""
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        return image
    return None


def read_picture(image: object) -> bytes:
    """Return the content of a picture file.

    Args:
        image: The content itself, a path on this machine, a Pillow image, or a uint8 array.

    Raises:
        SourceError: The file or the image cannot be read.
        UsageError: The picture is of another type.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if (content := encode_image(image)) is not None:
        return content
    path = expand_user(check_value("image", image, "StrPath", "See help(mmsearch.Client.similar)."))
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{display_path(path)} cannot be read: {error.strerror}.") from error


def read_recording(sound: object) -> bytes:
    """Return the content of a sound file.

    Args:
        sound: The content itself, or a path on this machine.

    Raises:
        SourceError: The file cannot be read.
        UsageError: The recording is of another type.
    """
    if isinstance(sound, bytes | bytearray):
        return bytes(sound)
    hint = "See help(mmsearch.Client.search_speech)."
    path = expand_user(check_value("sound", sound, "StrPath", hint))
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{display_path(path)} cannot be read: {error.strerror}.") from error


def name_pictures(indexes: Texts | None, options: dict[str, Any]) -> dict[str, list[str]]:
    """Return the members of a request to several indexes; take the pictures out of its options.

    Args:
        indexes: Names of the indexes; None for a request to the index of the client.
        options: Options of the request, such as ``like``.

    Returns:
        The names, and pictures as ``holiday:12``.
    """
    if indexes is None:
        return {}
    pictures = {name: to_picture_names(options.pop(name, ())) for name in ("like", "unlike")}
    known = {name: texts for name, texts in pictures.items() if texts}
    return {"indexes": list(to_texts(indexes)), **known}


def to_picture_names(pictures: Any) -> list[str]:
    """Return pictures of several indexes as texts such as ``holiday:12``.

    Args:
        pictures: One or several of what `picture_name` takes; an id remains, and a server refuses
            it.
    """
    is_one = pictures is None or picture_name(pictures) is not None or isinstance(pictures, int)
    every = ([] if pictures is None else [pictures]) if is_one else pictures
    return [picture_name(each) or str(to_picture_id(each)) for each in every]


def picture_name(picture: Any) -> str | None:
    """Return a picture of several indexes as a text such as ``holiday:12``; None for another.

    Args:
        picture: A hit, or the name of an index and the id in it, as a pair or such a text.
    """
    if isinstance(picture, str):
        return picture if _PICTURE_NAME.fullmatch(picture) else None
    if isinstance(picture, Hit):
        return None if picture.index is None else f"{picture.index}:{picture.id}"
    is_pair = isinstance(picture, tuple) and len(picture) == 2 and isinstance(picture[0], str)
    return f"{picture[0]}:{picture[1]}" if is_pair else None


def check_k(k: int) -> None:
    """Check that k is a number of hits that a server can return.

    Raises:
        InvalidQueryError: k is out of range.
    """
    if not 1 <= k <= HITS_LIMIT:
        raise InvalidQueryError(
            f"A server cannot return {k} hits.", f"Use a k from 1 to {HITS_LIMIT}."
        )


def _quote(part: str | int) -> str:
    try:
        # Segments of dots would be removed from the path.
        return quote(str(part), safe="") if str(part).strip(".") else "%2E" * len(str(part))
    except UnicodeEncodeError:
        raise UsageError(f"{part!r} has a character that UTF-8 does not have.") from None


_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f]")

_PICTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:[0-9]+")

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
    @check_arguments("Client")
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
        return "".join(["/v1/indexes", *(f"/{_quote(part)}" for part in (self.index, *parts))])

    def shared_path(self, indexes: Texts | None, *parts: str) -> str:
        """Return the URL path of a search in the index, or in several as one."""
        return self.path(*parts) if indexes is None else "/".join(["/v1", *parts])

    def unreachable_message(self, reason: str) -> str:
        """Return the message for a server that does not respond."""
        return f"The server at {self.url} cannot be reached: {reason}."
