"""Many items at once: an error stays in the place of what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mmsearch.core.errors import EncoderMismatchError, MMSearchError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_with_errors(
    fn: Callable[[Item], Result], items: Sequence[Item | MMSearchError]
) -> list[Result | MMSearchError]:
    """What becomes of each.

    Args:
        fn: Done for each that has not failed before.
        items: What is worked on, or why there is nothing.

    Raises:
        EncoderMismatchError: No item is at fault if the encoder is another one; it ends them all.
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
