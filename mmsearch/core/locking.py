"""One writer at a time."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mmsearch.core.errors import IndexLockedError
from mmsearch.core.layout import IndexLayout


@contextmanager
def writer_lock(layout: IndexLayout, wait_s: float = 0.0) -> Iterator[None]:
    """Be the one writer of an index.

    The lock is the kernel's (flock): it goes with the process, however that ends.

    Args:
        layout: The index.
        wait_s: How long to wait for another writer.

    Raises:
        IndexLockedError: Another writer holds it; the message says which.
    """
    import filelock  # noqa: PLC0415 - only writers need it

    lock = filelock.FileLock(layout.lock, timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise IndexLockedError(
            f"Index {layout.name!r} is being written by {_holder(layout)}.",
            "Wait until it has finished, or stop it; queries work meanwhile.",
        ) from None
    try:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # It only serves messages: a full disk must not keep anyone from removing an index.
        with suppress(OSError):
            layout.lock_holder.write_text(json.dumps(facts))
        yield
    finally:
        with suppress(OSError):
            layout.lock_holder.unlink()
        lock.release()


def _holder(layout: IndexLayout) -> str:
    try:
        facts = json.loads(layout.lock_holder.read_text())
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
