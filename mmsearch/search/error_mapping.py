"""Mapping a function over items, with errors kept as results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mmsearch.core.errors import EncoderMismatchError, MMSearchError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_with_errors(
    fn: Callable[[Item], Result], items: Sequence[Item | MMSearchError]
) -> list[Result | MMSearchError]:
    """Return the result of ``fn`` for each item, or the error that it raised.

    Args:
        fn: Called for each item that is not an error.
        items: Items to map; errors are returned unchanged, in their places.

    Raises:
        EncoderMismatchError: The encoder does not match. This affects all items, so it is raised.
    """
    results: list[Result | MMSearchError] = []
    for item in items:
        if isinstance(item, MMSearchError):
            results.append(item)
            continue
        try:
            results.append(fn(item))
        except EncoderMismatchError:
            raise
        except MMSearchError as error:
            results.append(error)
    return results
