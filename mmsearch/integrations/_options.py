"""Checks of the arguments of retrievers."""

from __future__ import annotations

from mmsearch.api import Index
from mmsearch.client import AsyncClient, Client
from mmsearch.core.errors import InvalidQueryError, UsageError
from mmsearch.core.filters import Filters


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
