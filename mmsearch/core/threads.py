"""Work that is shared among threads: the caller's own, and some that wait for work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from mmsearch.core.hardware import processors

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Made = TypeVar("Made")


def shared(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """What becomes of each item.

    The calling thread takes one item after the other; as many others as there are processors for
    do the same, unless they have work of somebody else. They are worth it if the work lets go of
    the interpreter's lock.

    Args:
        work: Done for each, in several threads at once.
        items: Taken in their order.

    Returns:
        In the order of the items. The first error that is met ends the work.
    """
    left = deque(enumerate(items))
    made: dict[int, Made] = {}

    def take() -> None:
        try:
            while True:
                # Not "while left": another thread may take the last item after that look.
                try:
                    number, item = left.popleft()
                except IndexError:
                    return
                made[number] = work(item)
        except BaseException:
            left.clear()
            raise

    helpers = _helped(take, min(processors(), len(items)) - 1)
    try:
        take()
    finally:
        # Those that have not begun would find nothing to do.
        begun = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in begun if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
    return [made[number] for number in range(len(items))]


def _helped(take: Callable[[], None], count: int) -> list[Future[None]]:
    helpers: list[Future[None]] = []
    # Once the main thread has ended, there are none.
    with suppress(RuntimeError):
        helpers.extend(_helpers().submit(take) for _ in range(count))
    return helpers


@cache
def _helpers() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - one query needs none

    return ThreadPoolExecutor(max(1, processors() - 1), thread_name_prefix="mmsearch-helper")


if hasattr(os, "register_at_fork"):
    # Threads do not come along.
    os.register_at_fork(after_in_child=_helpers.cache_clear)
