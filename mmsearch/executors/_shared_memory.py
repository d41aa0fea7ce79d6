"""Memory that a process shares with its workers, so that arrays need not travel through pipes.

It has no name: the parent opens it, workers map it by way of /proc, and the kernel frees it with
the last of them, however they end. Where there is no such thing (not on Linux, or without /proc),
arrays travel with the rest of a result, by pickle.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final, Self

import numpy as np

SLOT_BYTES: Final = 1 << 20
"""Of addresses: memory is taken only where it is written to, 150 kB for a picture of 224 pixels."""

ALIGNMENT: Final = 64


@dataclass(frozen=True)
class ArrayRef:
    """Stands in a result for an array in shared memory, ``at`` bytes from its beginning."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class SharedMemorySlots:
    """The parent's side. May be used by several threads."""

    def __init__(self, file: int, count: int) -> None:
        self._file = file
        self._memory = mmap.mmap(file, count * SLOT_BYTES)
        self._free = list(range(count))
        self._lock = Lock()

    @classmethod
    def create(cls, count: int) -> Self | None:
        """Room for the results of ``count`` tasks; None where memory cannot be shared so."""
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
        """Where workers find it while it is not closed."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def acquire(self) -> int | None:
        """A slot for one task; None if there is none left."""
        with self._lock:
            return self._free.pop() if self._free else None

    def release(self, slot: int) -> None:
        """Free the slot of a task that has ended, or whose worker has."""
        with self._lock:
            self._free.append(slot)

    def load(self, result: Any) -> Any:
        """A result of `WorkerMemorySlots.store`, with copies of its arrays."""
        if type(result) is tuple:
            return tuple(self._load_array(item) for item in result)
        return self._load_array(result)

    def _load_array(self, item: Any) -> Any:
        if not isinstance(item, ArrayRef):
            return item
        return np.ndarray(item.shape, item.dtype, self._memory, item.offset).copy()

    def close(self) -> None:
        """No worker can find it any more; what lies in it can still be read."""
        os.close(self._file)


class WorkerMemorySlots:
    """A worker's side."""

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(file, 0)
        finally:
            os.close(file)

    @classmethod
    def open(cls, path: str | None) -> Self | None:
        """None if there are none, or if they cannot be reached."""
        if path is None:
            return None
        try:
            return cls(path)
        except OSError:
            return None

    def store(self, result: Any, slot: int) -> Any:
        """Leave an array, or those in a tuple, in a slot as far as they fit."""
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
