"""Work that is shared among threads: the caller's own, and some that wait for work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from mmsearch.core.hardware import available_cpus

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Made = TypeVar("Made")


def parallel_map(function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """What becomes of each item.

    The calling thread takes one item after the other; as many others as there are processors for
    do the same, unless they have work of somebody else. They are worth it if the work lets go of
    the interpreter's lock.

    Args:
        function: Done for each, in several threads at once.
        items: Taken in their order.

    Returns:
        In the order of the items. The first error that is met ends the work.
    """
    pending = deque(enumerate(items))
    results: dict[int, Made] = {}

    def run_pending() -> None:
        try:
            while True:
                # Not "while left": another thread may take the last item after that look.
                try:
                    index, item = pending.popleft()
                except IndexError:
                    return
                results[index] = function(item)
        except BaseException:
            pending.clear()
            raise

    helpers = _submit_to_helpers(run_pending, min(available_cpus(), len(items)) - 1)
    try:
        run_pending()
    finally:
        # Those that have not begun would find nothing to do.
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in started if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(items))]


def _submit_to_helpers(run_pending: Callable[[], None], count: int) -> list[Future[None]]:
    helpers: list[Future[None]] = []
    # Once the main thread has ended, there are none.
    with suppress(RuntimeError):
        helpers.extend(_helper_pool().submit(run_pending) for _ in range(count))
    return helpers


@cache
def _helper_pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - one query needs none

    return ThreadPoolExecutor(max(1, available_cpus() - 1), thread_name_prefix="mmsearch-helper")


if hasattr(os, "register_at_fork"):
    # Threads do not come along.
    os.register_at_fork(after_in_child=_helper_pool.cache_clear)
