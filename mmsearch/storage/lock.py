"""Writer lock of an index."""

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
"""Maximum number of bytes read from the file that describes the holder of a lock."""


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the writer lock of an index.

    The kernel holds the lock (flock) and releases it when the process ends, even after a crash.

    Args:
        layout: The index.
        wait_s: Maximum seconds to wait for another writer.

    Raises:
        DamagedFileError: The folder of the index contains links.
        IndexLockedError: Another writer holds the lock; the message names it.
        UsageError: ``wait_s`` is not a number.
    """
    import filelock  # noqa: PLC0415 - only writers need it

    if math.isnan(wait_s):
        raise UsageError(f"The time to wait for another writer is {wait_s}.", "Give seconds.")
    layout.reject_links()
    # Anyone who can take the lock can block all writers, so only the owner may.
    lock = filelock.FileLock(layout.lock, timeout=wait_s, mode=PRIVATE_FILE_MODE)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise IndexLockedError(
            f"Index {layout.name!r} is being written by {_describe_holder(layout)}.",
            "Wait until it finishes, or stop it; queries still work.",
        ) from None
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # The file is only for messages: a full disk must not prevent the removal of an index.
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
