"""Writer lock of an index."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mmsearch.core.errors import IndexLockedError, UsageError
from mmsearch.core.files import PRIVATE_FILE_MODE, create_file, open_regular_file
from mmsearch.storage.layout import IndexLayout

if TYPE_CHECKING:
    from mmsearch.core.protocols import Lock

_MAX_HOLDER_BYTES = 10_000
"""Maximum number of bytes read from the file that describes the holder of a lock."""


class IndexFileLock:
    """Writer lock of an index in a folder, as a `Lock`: the kernel holds it (flock).

    Args:
        layout: The index.
    """

    def __init__(self, layout: IndexLayout) -> None:
        import filelock  # noqa: PLC0415 - only writers need it

        self._layout = layout
        # Anyone who can take the lock can block all writers, so only the owner may.
        self._lock = filelock.FileLock(layout.lock, mode=PRIVATE_FILE_MODE)

    @property
    def holder(self) -> str | None:
        """Process, host and start of the holder; None without a readable description."""
        try:
            with open_regular_file(self._layout.lock_holder, follow_links=False) as file:
                holder = json.loads(file.read(_MAX_HOLDER_BYTES))
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock; see `Lock.acquire`.

        Raises:
            DamagedFileError: The folder of the index contains links.
            IndexLockedError: Another writer holds the lock; the message names it.
            UsageError: ``timeout_s`` is not a number.
        """
        import filelock  # noqa: PLC0415 - only writers need it

        if math.isnan(timeout_s):
            raise UsageError(
                f"The time to wait for another writer is {timeout_s}.", "Give seconds."
            )
        self._layout.reject_links()
        try:
            self._lock.acquire(timeout=timeout_s)
        except filelock.Timeout:
            raise IndexLockedError(
                f"Index {self._layout.name!r} is being written by "
                f"{self.holder or 'another process'}.",
                "Wait until it finishes, or stop it; queries still work.",
            ) from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # The file is only for messages: a full disk must not prevent the removal of an index.
        with suppress(OSError), create_file(self._layout.lock_holder) as file:
            file.write(json.dumps(holder).encode())

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._layout.lock_holder.unlink()
            self._lock.release()


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the writer lock of an index.

    Args:
        layout: The index.
        wait_s: Maximum seconds to wait for another writer.

    Raises:
        DamagedFileError: The folder of the index contains links.
        IndexLockedError: Another writer holds the lock; the message names it.
        UsageError: ``wait_s`` is not a number.
    """
    lock: Lock = IndexFileLock(layout)
    lock.acquire(wait_s)
    try:
        yield
    finally:
        lock.release()
