"""What SQLite can take in one statement, and in one value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

MAX_SQL_PARAMETERS = 900
"""Values in one statement; SQLite builds before 3.32 take at most 999."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """``items`` in pieces that fit into one statement."""
    for start in range(0, len(items), MAX_SQL_PARAMETERS):
        yield items[start : start + MAX_SQL_PARAMETERS]


def storable(value: Any) -> Any:
    """Text that UTF-8 can carry: a lone surrogate, as in names that are no text, becomes '?'."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
