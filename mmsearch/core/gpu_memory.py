"""Work on a device whose memory runs out: what is kept for later is handed back, and half is tried.

The parts that share a GPU know nothing of each other, and torch keeps memory that FAISS then lacks.
So whoever keeps some says here how it is handed back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mmsearch.core.errors import DeviceMemoryError

Result = TypeVar("Result")

_OOM_PATTERNS = ("out of memory", "alloc_failed", "alloc fail")
"""Of CUDA, cuBLAS and cuDNN, torch, and FAISS (StandardGpuResources.cpp), in lower case."""

_release_callbacks: list[Callable[[], None]] = []


def on_low_memory(release: Callable[[], None]) -> None:
    """Remember how memory is handed back that one part of the program keeps for later."""
    _release_callbacks.append(release)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of a library says that the memory of a device does not suffice."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return any(pattern in str(error).lower() for pattern in _OOM_PATTERNS)


def run_halving_on_oom(
    run: Callable[[slice], Result], count: int, *, device: str, item_name: str
) -> list[Result]:
    """Work on items, at once or, where that is too much for the device, in smaller parts.

    After each failure the memory that anyone keeps is handed back; an item alone is tried twice.

    Args:
        run: Does the work on some of the items, by their places.
        count: Of the items.
        device: For people.
        item_name: One item, for people: ``one picture``.

    Returns:
        What ``run`` returned, for parts in the order of the items.

    Raises:
        DeviceMemoryError: One item does not fit.
    """
    results: list[Result] = []
    num_done, size, retried_single = 0, count, False
    while num_done < count:
        batch = slice(num_done, min(num_done + size, count))
        result = _run_or_none(run, batch)
        if result is not None:
            results.append(result[0])
            num_done, retried_single = batch.stop, False
            continue
        for release in _release_callbacks:
            release()
        size = batch.stop - batch.start
        if size == 1 and retried_single:
            raise DeviceMemoryError(
                f"The memory of device {device!r} is full: {item_name} does not fit.",
                "End what else uses it, or use the processor: --device cpu, or MMSEARCH_DEVICE=cpu"
                " for a server.",
                device=device,
            )
        retried_single = size == 1
        size = max(1, size // 2)
    return results


def _run_or_none(run: Callable[[slice], Result], batch: slice) -> tuple[Result] | None:
    """None if memory ran out. By then the error is gone, and the frames with what they held."""
    try:
        return (run(batch),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
