"""CPUs and memory limit of this process, and a parallel map over several threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Made = TypeVar("Made")


def parallel_map(function: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Apply a function to every item, in the calling thread and in helper threads.

    The calling thread takes one item after another. Up to one helper for each further processor
    does the same, unless it is busy with another call. Helpers save time only if the function
    releases the GIL.

    Args:
        function: Applied to each item, in several threads at once.
        items: The items, taken in their order.

    Returns:
        The results in the order of the items. The first error stops the work and is raised.
    """
    pending = deque(enumerate(items))
    results: dict[int, Made] = {}

    def run_pending() -> None:
        try:
            while True:
                # Not "while pending": another thread may take the last item after the check.
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
        # Helpers that have not started would find nothing to do.
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [error for helper in started if (error := helper.exception()) is not None]
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(items))]


def _submit_to_helpers(run_pending: Callable[[], None], count: int) -> list[Future[None]]:
    helpers: list[Future[None]] = []
    # A pool refuses work once the main thread has ended.
    with suppress(RuntimeError):
        helpers.extend(_helper_pool().submit(run_pending) for _ in range(count))
    return helpers


@cache
def _helper_pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - single queries do not use it

    return ThreadPoolExecutor(max(1, available_cpus() - 1), thread_name_prefix="mmsearch-helper")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_helper_pool.cache_clear)


_max_cpus: int | None = None


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return count if _max_cpus is None else min(count, _max_cpus)


def limit_cpus(count: int) -> None:
    """Set the maximum of `available_cpus`, for a process that shares its host with its like."""
    global _max_cpus  # noqa: PLW0603 - CPUs belong to the process
    _max_cpus = count


def available_memory_mb() -> int | None:
    """Return the memory that processes may use together, in megabytes; None if it is unknown.

    That of the computer, or the limit of the container.
    """
    sizes = []
    with suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        # Without a limit, the first one says "max".
        with suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text(encoding="ascii")))
    return min(sizes) // 1_000_000 if sizes else None


def limit_memory(extra_bytes: int) -> None:
    """Make allocations of this process fail beyond a limit; memory already in use does not count.

    Enforced by the Linux kernel; ignored on macOS and Windows.

    Args:
        extra_bytes: Bytes of address space that the process may allocate from now on.
    """
    with suppress(ImportError, OSError):
        import resource  # noqa: PLC0415 - not available on Windows

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit_bytes = pages * resource.getpagesize() + extra_bytes
        _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
        if hard_limit != resource.RLIM_INFINITY:
            limit_bytes = min(limit_bytes, hard_limit)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard_limit))
