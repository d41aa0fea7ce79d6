"""Conversion of queries from a framework into queries of an index.

A language model or an untrusted user may have written the query text, so it must not name files of
this machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.api import parse_query
from mmsearch.client._requests import as_url
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.filters import Filters
from mmsearch.core.query import Query


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
