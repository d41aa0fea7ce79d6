"""Helpers for SQLite's limits on statements and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

MAX_SQL_PARAMETERS = 900
"""Maximum number of parameters in one statement; SQLite before 3.32 allows at most 999."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield ``items`` in chunks that fit into one statement."""
    for start in range(0, len(items), MAX_SQL_PARAMETERS):
        yield items[start : start + MAX_SQL_PARAMETERS]


def storable(value: Any) -> Any:
    """Return text that can be encoded as UTF-8, and other values unchanged.

    Lone surrogates, as in file names with invalid UTF-8, become '?'.
    """
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
