"""Named points of a commit at which a test can kill the process.

``MMSEARCH_FAULT=file_renamed:3`` sends SIGKILL to the process when it reaches that point for the
third time. Without the variable, a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class FailPoint(StrEnum):
    """Steps of writing an index, in their order."""

    FILE_OPENED = "file_opened"
    FILE_WRITTEN = "file_written"
    FILE_SYNCED = "file_synced"
    FILE_SENT = "file_sent"
    FILE_RECEIVED = "file_received"
    FILE_RENAMED = "file_renamed"
    FILE_PUBLISHED = "file_published"
    CATALOG_MADE = "catalog_made"
    CATALOG_NAMED = "catalog_named"
    TRANSACTION_BEGUN = "transaction_begun"
    TRANSACTION_READY = "transaction_ready"
    TRANSACTION_COMMITTED = "transaction_committed"
    ORPHAN_REMOVED = "orphan_removed"
    CATALOG_CLOSED = "catalog_closed"


def _parse_environment() -> tuple[str, int]:
    point, _, count = os.environ.get("MMSEARCH_FAULT", "").partition(":")
    return point, int(count or 1)


_ARMED_POINT, _HITS_LEFT = _parse_environment()


def hit_failpoint(point: FailPoint) -> None:
    """Kill the process if this is the armed failpoint and its last remaining hit."""
    global _HITS_LEFT  # noqa: PLW0603 - a countdown per process
    if point != _ARMED_POINT:
        return
    _HITS_LEFT -= 1
    if not _HITS_LEFT:
        os.kill(os.getpid(), signal.SIGKILL)
