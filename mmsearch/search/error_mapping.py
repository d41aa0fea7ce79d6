"""Many items at once: an error stays in the place of what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from mmsearch.core.errors import EncoderMismatchError, MMSearchError

Item = TypeVar("Item")
Made = TypeVar("Made")


def each(
    work: Callable[[Item], Made], items: Sequence[Item | MMSearchError]
) -> list[Made | MMSearchError]:
    """What becomes of each.

    Args:
        work: Done for each that has not failed before.
        items: What is worked on, or why there is nothing.

    Raises:
        EncoderMismatchError: No item is at fault if the encoder is another one; it ends them all.
    """
    made: list[Made | MMSearchError] = []
    for item in items:
        if isinstance(item, MMSearchError):
            made.append(item)
            continue
        try:
            made.append(work(item))
        except EncoderMismatchError:
            raise
        except MMSearchError as error:
            made.append(error)
    return made
