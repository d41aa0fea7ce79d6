"""One writer at a time."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mmsearch.core.errors import IndexLockedError, UsageError
from mmsearch.core.files import PRIVATE_FILE_MODE, create_file, open_regular_file
from mmsearch.storage.layout import IndexLayout

_MAX_HOLDER_BYTES = 10_000
"""Bytes that are read of what the holder of a lock says of itself."""


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Be the one writer of an index.

    The lock is the kernel's (flock): it goes with the process, however that ends.

    Args:
        layout: The index.
        wait_s: How long to wait for another writer.

    Raises:
        DamagedFileError: The folder of the index holds links.
        IndexLockedError: Another writer holds it; the message says which.
        UsageError: The time to wait is not a number.
    """
    import filelock  # noqa: PLC0415 - only writers need it

    if math.isnan(wait_s):
        raise UsageError(f"The time to wait for another writer is {wait_s}.", "Give seconds.")
    layout.reject_links()
    # Who may take the lock may stop all others: only the owner.
    lock = filelock.FileLock(layout.lock, timeout=wait_s, mode=PRIVATE_FILE_MODE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise IndexLockedError(
            f"Index {layout.name!r} is being written by {_describe_holder(layout)}.",
            "Wait until it has finished, or stop it; queries work meanwhile.",
        ) from None
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # It only serves messages: a full disk must not keep anyone from removing an index.
        with suppress(OSError), create_file(layout.lock_holder) as file:
            file.write(json.dumps(holder).encode())
        yield
    finally:
        with suppress(OSError):
            layout.lock_holder.unlink()
        lock.release()


def _describe_holder(layout: IndexLayout) -> str:
    try:
        with open_regular_file(layout.lock_holder, follow_links=False) as file:
            holder = json.loads(file.read(_MAX_HOLDER_BYTES))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
