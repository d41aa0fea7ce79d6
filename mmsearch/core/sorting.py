"""Orders of the hits of a result: by score, date, name or size of the file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from mmsearch.core.errors import InvalidQueryError

if TYPE_CHECKING:
    from mmsearch.core.results import Hit

SORTS: Final = {
    "score": "best match first",
    "date": "oldest first",
    "-date": "newest first",
    "name": "by name",
    "-name": "by name, reversed",
    "size": "smallest file first",
    "-size": "largest file first",
}
"""The orders and their labels on the web page."""


def check_sort(order: str) -> str:
    """Return the name of an order after checking it.

    Raises:
        InvalidQueryError: There is no order with that name.
    """
    if order not in SORTS:
        raise InvalidQueryError(f"Unknown sort order {order!r}.", f"Known: {', '.join(SORTS)}.")
    return order


def sort_hits(hits: Iterable[Hit], order: str) -> list[Hit]:
    """Return hits in one of the orders of `SORTS`.

    Pictures without a date come last in both orders by date. Hits that are equal in an order stay
    in the order of their scores.

    Args:
        hits: The hits, best first.
        order: Name of the order.

    Raises:
        InvalidQueryError: There is no order with that name.
    """
    ranked = list(hits)
    if check_sort(order) == "score":
        return ranked
    key = _KEYS[order.removeprefix("-")]
    keyed = [(key(hit), hit) for hit in ranked]
    known = [item for item in keyed if item[0] is not None]
    # Also in reverse, a sort keeps the order of equal hits.
    known.sort(key=itemgetter(0), reverse=order.startswith("-"))
    return [hit for _, hit in known] + [hit for value, hit in keyed if value is None]


def _name_key(hit: Hit) -> list[list[tuple[int, int, str]]]:
    """Return a key that ignores case and how letters are composed, and counts 9 before 10."""
    path = unicodedata.normalize("NFC", str(hit.path)).casefold()
    return [
        [
            (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)
            for part in re.split(r"([0-9]+)", name)
            if part
        ]
        for name in re.split(r"[/\\]", path)
    ]


_KEYS: Final[dict[str, Callable[[Hit], Any]]] = {
    "date": lambda hit: hit.taken_at,
    "name": _name_key,
    "size": lambda hit: hit.size_bytes,
}
