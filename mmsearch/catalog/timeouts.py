"""Connections with a timeout for each statement, which also stop at the caller's deadline.

SQLite calls a progress handler after every N steps of its virtual machine
(https://www.sqlite.org/c3ref/progress_handler.html); if the handler returns true, the statement
ends with SQLITE_INTERRUPT.
"""

from __future__ import annotations

import sqlite3
import threading
from time import monotonic
from typing import Any

from mmsearch.core import deadlines
from mmsearch.core.errors import MMSearchError, StateError

QUERY_TIMEOUT_S = 30.0
"""Timeout of a reader's statement, in seconds."""

MAINTENANCE_TIMEOUT_S = 3600.0
"""Timeout of a statement of a writer or a check, in seconds; it may read every row."""

PROGRESS_CHECK_STEPS = 1_000_000
"""Steps between two calls of the handler, some tens of milliseconds. The handler has to wait for
the GIL, which other threads may hold for five milliseconds."""

_interrupted = threading.local()


class TimeoutConnection(sqlite3.Connection):
    """A sqlite3 connection with a timeout for each statement."""

    _timeout_s = QUERY_TIMEOUT_S
    _deadline_s = 0.0

    def set_timeout(self, timeout_s: float) -> None:
        """Set the timeout of each statement, in seconds."""
        self._timeout_s = timeout_s
        self.set_progress_handler(self._is_expired, PROGRESS_CHECK_STEPS)

    def start_timer(self) -> None:
        """Start the timeout of a statement."""
        self._deadline_s = monotonic() + self._timeout_s

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Run a statement with the timeout."""
        self._deadline_s = monotonic() + self._timeout_s
        return super().execute(*arguments)

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that starts the timeout with each statement."""
        return super().cursor(factory or _TimeoutCursor)

    def _is_expired(self) -> bool:
        if monotonic() > self._deadline_s:
            _interrupted.limit_s = self._timeout_s
            return True
        if deadlines.is_expired():
            _interrupted.limit_s = None
            return True
        return False


class _TimeoutCursor(sqlite3.Cursor):
    def execute(self, *arguments: Any) -> _TimeoutCursor:
        self.connection.start_timer()  # type: ignore[attr-defined]
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> _TimeoutCursor:
        self.connection.start_timer()  # type: ignore[attr-defined]
        return super().executemany(*arguments)


def interrupt_error(path: object) -> MMSearchError | KeyboardInterrupt:
    """Return the error for a statement of this thread that ended with SQLITE_INTERRUPT.

    Args:
        path: The database, for error messages.
    """
    if not hasattr(_interrupted, "limit_s"):
        # A signal handler raised inside the progress handler, and SQLite swallowed the exception.
        return KeyboardInterrupt()
    limit_s = _interrupted.limit_s
    del _interrupted.limit_s
    if limit_s is None:
        return deadlines.deadline_error()
    return StateError(
        f"Reading {path} took longer than {limit_s:,.0f} seconds.",
        "Try again if the disk was busy, or run 'mmsearch check' to see if the index is damaged.",
    )
