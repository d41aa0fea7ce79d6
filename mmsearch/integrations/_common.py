"""Queries, options and metadata of hits, shared by the retrievers of all frameworks.

A language model or an untrusted user may have written the query text, so it must not name files of
this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mmsearch.api import Index, parse_query
from mmsearch.client import AsyncClient, Client
from mmsearch.client._requests import as_url
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, UsageError
from mmsearch.core.filters import Filters
from mmsearch.core.query import Query
from mmsearch.core.results import Hit


def escape_query(texts: Sequence[str]) -> str:
    """Return a line of the query language that searches for texts literally."""
    escaped = (text.strip().replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    # The leading space matters: even a quoted path would name a file without it.
    return " + ".join(f'" {text}"' for text in escaped if text)


def build_query(
    query_text: str,
    *,
    images: Sequence[str] = (),
    filters: Filters | None = None,
    mode: str | None = None,
    hint: str,
) -> Query:
    """Return the query of an index for a line that must not name files or URLs.

    Args:
        query_text: A line of the query language.
        images: Picture files passed to the framework itself. An index refuses URLs among them,
            which only a server can fetch.
        filters: Filters for the pictures to search.
        mode: Search mode; see `mmsearch.Index.search`.
        hint: Next step, for the error message.

    Raises:
        InvalidQueryError: The line names a file or a URL, or the query is empty.
    """
    urls = [image for image in images if as_url(image) is not None]
    files = [image for image in images if image not in urls]
    query = parse_query(query_text, images=files, urls=urls, filters=filters, mode=mode)
    if sum(term.text is None for term in query.terms) > len(images):
        raise InvalidQueryError("The text of a query cannot name files or URLs.", hint)
    return query


DESCRIPTIVE_TEXT_KINDS = ("title", "description", "caption")
"""Kinds of texts that describe what a picture shows."""


def hit_metadata(hit: Hit, url: str = "") -> dict[str, Any]:
    """Return the metadata of a hit as values that JSON can represent.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.

    Returns:
        The members of `Hit.to_dict`, with ``path`` for display, the strings of its ``texts`` and
        that of the text that ``matched`` (or None); without ``copies``; for a server also the URLs
        ``original`` and ``thumbnail``.
    """
    metadata = hit.to_dict() | {
        "band": str(hit.band),
        "path": display_path(hit.path),
        "texts": [text.text for text in hit.texts],
        "matched": None if hit.matched is None else hit.matched.text,
    }
    links = metadata.pop("links", {})
    del metadata["copies"]
    return metadata | {
        name: link_url(url, links[name]) for name in ("original", "thumbnail") if name in links
    }


def link_url(url: str, link: str) -> str:
    """Return the URL of a link in an answer of a server.

    Args:
        url: URL of the server, which may be below a path of its host.
        link: An absolute path, which contains that path if the server knows it.
    """
    path = urlsplit(url).path
    if path and link.startswith(f"{path}/"):
        url = url.removesuffix(path)
    return f"{url}{link}"


def hit_text(hit: Hit) -> str:
    """Return the descriptive texts of a picture, or its path if it has none.

    The result does not depend on the query.
    """
    texts = dict.fromkeys(text.text for text in hit.texts if text.kind in DESCRIPTIVE_TEXT_KINDS)
    return "\n".join(texts) or display_path(hit.path)


def check_source(source: object, filters: object) -> None:
    """Check that a retriever can search a source with filters.

    Raises:
        UsageError: The source is not an index or client, or does not accept these filters.
    """
    if not isinstance(source, Index | Client | AsyncClient):
        raise UsageError(
            f"A retriever cannot search a {type(source).__name__}.",
            "Pass an mmsearch.Index, a Client or an AsyncClient as source.",
        )
    if isinstance(source, Index) and not isinstance(filters, Filters | None):
        raise UsageError(
            "An index does not accept a mapping as filters.",
            "Create the filters with mmsearch.parse_filters, such as orientation='portrait'.",
        )


def check_options(k: object, mode: object, min_score: object, min_confidence: object) -> None:
    """Check the types of search options.

    Raises:
        UsageError: An option has the wrong type, or k is below 1.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise UsageError(f"k must be a whole number above 0, got {k!r}.", "Pass one such as 10.")
    if not isinstance(mode, str | None):
        raise UsageError(f"mode must be a string, got {mode!r}.", "Use vector, text or hybrid.")
    for name, value in (("min_score", min_score), ("min_confidence", min_confidence)):
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise UsageError(f"{name} must be a number, got {value!r}.", "Pass a number or None.")


def check_text(text: object) -> None:
    """Check that a query is a string.

    Raises:
        InvalidQueryError: The query has another type.
    """
    if not isinstance(text, str):
        raise InvalidQueryError(
            f"A query must be a string, not a {type(text).__name__}.",
            "Describe a picture in words.",
        )
