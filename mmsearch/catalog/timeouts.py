"""Connections whose statements end: after a time of their own, or at the caller's deadline.

SQLite calls a progress handler after so many steps of its virtual machine
(https://www.sqlite.org/c3ref/progress_handler.html); one that returns true ends the statement with
SQLITE_INTERRUPT.
"""

from __future__ import annotations

import sqlite3
import threading
from time import monotonic
from typing import Any

from mmsearch.core import deadlines
from mmsearch.core.errors import MMSearchError, StateError

QUERY_TIMEOUT_S = 30.0
"""Seconds that a statement of a reader may take."""

MAINTENANCE_TIMEOUT_S = 3600.0
"""Seconds that a statement of a writer may take, or one of a check: it may read every row."""

PROGRESS_CHECK_STEPS = 1_000_000
"""Steps between two calls of the handler, some tens of milliseconds: it has to wait for Python's
lock, which others may hold for five."""

_interrupted = threading.local()


class TimeoutConnection(sqlite3.Connection):
    """A connection of sqlite3 whose statements take a limited time each."""

    _timeout_s = QUERY_TIMEOUT_S
    _deadline_s = 0.0

    def set_timeout(self, timeout_s: float) -> None:
        """Let each statement take so many seconds."""
        self._timeout_s = timeout_s
        self.set_progress_handler(self._is_expired, PROGRESS_CHECK_STEPS)

    def start_timer(self) -> None:
        """Start the time of a statement."""
        self._deadline_s = monotonic() + self._timeout_s

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """Run a statement within the limit."""
        self._deadline_s = monotonic() + self._timeout_s
        return super().execute(*arguments)

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor that starts the time of each statement."""
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
    """Return why SQLite has ended a statement of this thread with SQLITE_INTERRUPT.

    Args:
        path: The database, for messages.
    """
    if not hasattr(_interrupted, "limit_s"):
        # A signal's handler raised in the progress handler, from which SQLite lets nothing out.
        return KeyboardInterrupt()
    limit_s = _interrupted.limit_s
    del _interrupted.limit_s
    if limit_s is None:
        return deadlines.deadline_error()
    return StateError(
        f"Reading {path} took longer than {limit_s:,.0f} seconds.",
        "Ask again if its disk was busy; 'mmsearch check' says whether it is damaged.",
    )
