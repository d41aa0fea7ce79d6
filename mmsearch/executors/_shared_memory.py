"""Shared memory between a process and its workers, so that arrays need not pass through pipes.

The memory is anonymous: the parent creates it, workers map it through /proc, and the kernel frees
it when the last of these processes ends, even after a crash. Where it is not available (not on
Linux, or without /proc), arrays are pickled with the rest of a result.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Self

import numpy as np

SLOT_BYTES: Final = 1 << 20
"""Address space per slot.

Only pages that are written to take memory: 150 kB for a picture of 224 pixels.
"""

ALIGNMENT: Final = 64


@dataclass(frozen=True)
class ArrayRef:
    """Placeholder in a result for an array at ``offset`` bytes into the shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class SharedMemorySlots:
    """The parent's side of the shared memory; thread-safe."""

    def __init__(self, file: int, count: int) -> None:
        self._file = file
        self._memory = mmap.mmap(file, count * SLOT_BYTES)
        self._free = list(range(count))
        self._lock = Lock()

    @classmethod
    def create(cls, count: int) -> Self | None:
        """Create slots for the results of ``count`` tasks; return None if this is not supported."""
        if not hasattr(os, "memfd_create"):
            return None
        file = os.memfd_create("mmsearch-slots")
        try:
            os.ftruncate(file, count * SLOT_BYTES)
            return cls(file, count)
        except OSError:
            os.close(file)
            return None

    @property
    def path(self) -> str:
        """Path through which workers map the memory until it is closed."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def acquire(self) -> int | None:
        """Return a free slot for one task; None if all are in use."""
        with self._lock:
            return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        """Free the slot of a task that has ended, or whose worker process has ended."""
        with self._lock:
            self._free.append(slot)

    def load(self, result: Any) -> Any:
        """Return a result of `WorkerMemorySlots.store` with copies of its arrays."""
        if type(result) is tuple:
            return tuple(self._load_array(item) for item in result)
        return self._load_array(result)

    def _load_array(self, item: Any) -> Any:
        if not isinstance(item, ArrayRef):
            return item
        return np.ndarray(item.shape, item.dtype, self._memory, item.offset).copy()

    def close(self) -> None:
        """Close the file, so that no worker can open it; results can still be loaded."""
        os.close(self._file)


class WorkerMemorySlots:
    """A worker's side of the shared memory."""

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(file, 0)
        finally:
            os.close(file)

    @classmethod
    def open(cls, path: str | None) -> Self | None:
        """Map the slots at a path; return None if there is no path or it cannot be opened."""
        if path is None:
            return None
        try:
            return cls(path)
        except OSError:
            return None

    def store(self, result: Any, slot: int) -> Any:
        """Move the arrays of a result into a slot.

        Args:
            result: An array, a tuple, or anything else, which is returned as it is.
            slot: Number of the slot.

        Returns:
            The result with an `ArrayRef` in place of each array that fits into the slot.
        """
        if type(result) is not tuple:
            return self._store_array(result, slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)
        offset, items = slot * SLOT_BYTES, []
        for item in result:
            items.append(self._store_array(item, offset, (slot + 1) * SLOT_BYTES))
            if isinstance(items[-1], ArrayRef):
                offset += -(-item.nbytes // ALIGNMENT) * ALIGNMENT
        return tuple(items)

    def _store_array(self, item: Any, offset: int, end: int) -> Any:
        if not isinstance(item, np.ndarray) or item.dtype.hasobject or offset + item.nbytes > end:
            return item
        np.ndarray(item.shape, item.dtype, self._memory, offset)[...] = item
        return ArrayRef(offset, item.shape, item.dtype)
