"""Work on a device whose memory runs out: what is kept for later is handed back, and half is tried.

The parts that share a GPU know nothing of each other, and torch keeps memory that FAISS then lacks.
So whoever keeps some says here how it is handed back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mmsearch.core.errors import DeviceMemoryError

Result = TypeVar("Result")

_SIGNS = ("out of memory", "alloc_failed", "alloc fail")
"""Of CUDA, cuBLAS and cuDNN, torch, and FAISS (StandardGpuResources.cpp), in lower case."""

_hand_back: list[Callable[[], None]] = []


def when_short(hand_back: Callable[[], None]) -> None:
    """Remember how memory is handed back that one part of the program keeps for later."""
    _hand_back.append(hand_back)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of a library says that the memory of a device does not suffice."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return any(sign in str(error).lower() for sign in _SIGNS)


def in_halves(
    run: Callable[[slice], Result], count: int, *, device: str, what: str
) -> list[Result]:
    """Work on items, at once or, where that is too much for the device, in smaller parts.

    After each failure the memory that anyone keeps is handed back; an item alone is tried twice.

    Args:
        run: Does the work on some of the items, by their places.
        count: Of the items.
        device: For people.
        what: One item, for people: ``one picture``.

    Returns:
        What ``run`` returned, for parts in the order of the items.

    Raises:
        DeviceMemoryError: One item does not fit.
    """
    results: list[Result] = []
    done, size, tried_alone = 0, count, False
    while done < count:
        part = slice(done, min(done + size, count))
        result = _attempt(run, part)
        if result is not None:
            results.append(result[0])
            done, tried_alone = part.stop, False
            continue
        for hand_back in _hand_back:
            hand_back()
        size = part.stop - part.start
        if size == 1 and tried_alone:
            raise DeviceMemoryError(
                f"The memory of device {device!r} is full: {what} does not fit.",
                "End what else uses it, or use the processor: --device cpu, or MMSEARCH_DEVICE=cpu"
                " for a server.",
                device=device,
            )
        tried_alone = size == 1
        size = max(1, size // 2)
    return results


def _attempt(run: Callable[[slice], Result], part: slice) -> tuple[Result] | None:
    """None if memory ran out. By then the error is gone, and the frames with what they held."""
    try:
        return (run(part),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
