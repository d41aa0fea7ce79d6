"""What is asked through a framework, as a line of the query language.

It may have been written by a model, or by anyone: it must not name files of this machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.api import parse_query
from mmsearch.client._requests import as_url
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.queries import Filters, Query


def escape_query(texts: Sequence[str]) -> str:
    """A line of the query language that means texts as they stand, whatever signs they hold."""
    escaped = (text.strip().replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    # Even in quotes, a path would be one without the space.
    return " + ".join(f'" {text}"' for text in escaped if text)


def build_query(
    query_text: str,
    *,
    images: Sequence[str] = (),
    filters: Filters | None = None,
    mode: str | None = None,
    hint: str,
) -> Query:
    """The query of an index from a line that names no files; URLs only a server fetches.

    Args:
        query_text: Of the query language.
        images: Files that the framework itself was given; an index refuses URLs among them.
        filters: Which pictures may be found.
        mode: See `mmsearch.Index.search`.
        hint: What else can be done, for people.

    Raises:
        InvalidQueryError: The line names a file or a URL, or asks for nothing.
    """
    urls = [image for image in images if as_url(image) is not None]
    files = [image for image in images if image not in urls]
    query = parse_query(query_text, images=files, urls=urls, filters=filters, mode=mode)
    if sum(term.text is None for term in query.terms) > len(images):
        raise InvalidQueryError(
            "The text of a query cannot name files, nor an index fetch URLs.", hint
        )
    return query
