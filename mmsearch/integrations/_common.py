"""Queries, options and metadata of hits, shared by the retrievers of all frameworks.

A language model or an untrusted user may have written the query text, so it must not name files of
this machine. It is taken literally unless the program asks for the query language.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from mmsearch.api import Index, parse_query
from mmsearch.api.parsing import parse_mode
from mmsearch.client import AsyncClient, Client
from mmsearch.client._requests import as_url
from mmsearch.core.arguments import PictureIds, check_value, to_filters, to_int, to_picture_ids
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.filters import NO_FILTERS
from mmsearch.core.query import Query, Term
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import Hit
from mmsearch.search.query_parser import check_terms


def build_query(
    texts: Sequence[str],
    *,
    literal: bool,
    images: Sequence[str] = (),
    filters: object = None,
    mode: str | None = None,
    like: PictureIds = (),
    unlike: PictureIds = (),
    hint: str,
) -> Query:
    """Return the query for texts that must not name files or URLs.

    Args:
        texts: Descriptions, or lines of the query language.
        literal: True if they are descriptions.
        images: Picture files passed to the framework itself. An index refuses URLs among them,
            which only a server can fetch.
        filters: Filters for the pictures to search, or a mapping of them.
        mode: Search mode; see `mmsearch.Index.search`.
        like: Hits that are right, or their ids.
        unlike: Hits that are wrong, or their ids.
        hint: Next step, for the error message.

    Raises:
        InvalidQueryError: A line names a file or a URL, or the query is empty.
    """
    urls = [image for image in images if as_url(image) is not None]
    files = [image for image in images if image not in urls]
    if literal:
        terms = [Term(text.strip()) for text in texts if text.strip()]
    else:
        terms = [term for text in texts if text.strip() for term in parse_query(text).terms]
    if any(term.text is None for term in terms):
        raise InvalidQueryError("The text of a query cannot name files or URLs.", hint)
    pictures = [Term(image=expand_user(file)) for file in files] + [Term(url=url) for url in urls]
    clicks = [
        Term(picture=picture_id, weight=weight)
        for ids, weight in ((like, 1.0), (unlike, -1.0))
        for picture_id in dict.fromkeys(to_picture_ids(ids))
    ]
    return Query(
        check_terms([*pictures, *terms, *clicks]),
        NO_FILTERS if filters is None else to_filters(filters),
        parse_mode(mode),
    )


DESCRIPTIVE_TEXT_KINDS = ("title", "description", "caption", "page", "subtitle", "transcript")
"""Kinds of texts that describe what a picture shows, or are written or said in it."""


def hit_metadata(hit: Hit, url: str = "") -> dict[str, Any]:
    """Return the metadata of a hit as values that JSON can represent.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.

    Returns:
        The members of `Hit.to_dict` without ``copies`` and ``moments``, with ``path`` and
        ``position`` for display, the strings of its ``texts`` and that of the text that ``matched``
        (or None), and the paths of the ``duplicates`` that it stands for. A moment of a film has
        ``start_s`` and ``end_s``; for a server there are also the URLs ``original`` and
        ``thumbnail``.
    """
    metadata = hit.to_dict() | {
        "band": str(hit.band),
        "path": hit.location,
        "position": hit.position,
        "texts": [text.text for text in hit.texts],
        "matched": None if hit.matched is None else hit.matched.text,
        "duplicates": [duplicate.location for duplicate in hit.duplicates],
    }
    links = metadata.pop("links", {})
    del metadata["copies"], metadata["moments"]
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
    return "\n".join(texts) or hit.location


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
    check_value("filters", filters, "FilterValues | None")


def check_options(
    k: object,
    mode: object,
    min_score: object,
    min_confidence: object,
    *,
    fold: object = True,
    like: object = (),
    unlike: object = (),
) -> None:
    """Check search options.

    Raises:
        UsageError: An option has the wrong type, k is below 1, or the mode is unknown.
    """
    try:
        is_positive = to_int(k) > 0
    except (TypeError, ValueError):
        is_positive = False
    if not is_positive:
        raise UsageError(f"k must be a whole number above 0, got {k!r}.", "Pass one such as 10.")
    parse_mode(check_value("mode", mode, "str | None", "Use vector, text or hybrid."))
    check_value("min_score", min_score, "float | None", "Pass a number or None.")
    check_value("min_confidence", min_confidence, "float | None", "Pass a number or None.")
    check_value("fold", fold, "bool", "Pass True or False.")
    for name, ids in (("like", like), ("unlike", unlike)):
        check_value(name, ids, "PictureIds", "Pass hits or their ids.")


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


def require_index(index: object) -> Index:
    """Return the index of a store.

    Raises:
        UsageError: It is not an index.
    """
    if not isinstance(index, Index):
        raise UsageError(
            f"A vector store cannot write to a {type(index).__name__}.",
            "Pass an mmsearch.Index, such as open_index('products').",
        )
    return index


def require_all_added(report: IndexReport) -> None:
    """Raise an error if pictures of an addition could not be read.

    Raises:
        SourceError: There are such pictures. The others were added.
    """
    if report.failed:
        first = report.failed[0]
        raise SourceError(
            f"{len(report.failed):,} pictures cannot be read, such as that of"
            f" {display_path(first.path)!r}: {first.reason}.",
            "The others were added.",
        )
