"""Deadline of the current context.

A deadline is a reading of `time.monotonic`, in seconds. It is stored in a `contextvars` context:
a task inherits the deadline of the task that starts it. Other threads have a deadline only if they
run in a copy of the context.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mmsearch.core.errors import DeadlineError

_DEADLINE_S: ContextVar[float] = ContextVar("deadline_s", default=math.inf)


def deadline_s() -> float:
    """Return the deadline, or infinity without one."""
    return _DEADLINE_S.get()


def seconds_left() -> float | None:
    """Return the time until the deadline, 0 if it has passed, or None without a deadline."""
    at_s = _DEADLINE_S.get()
    return None if at_s == math.inf else max(at_s - time.monotonic(), 0.0)


def is_expired() -> bool:
    """Return True if the deadline has passed."""
    return time.monotonic() > _DEADLINE_S.get()


def deadline_error() -> DeadlineError:
    """Return the error for work that did not finish in time."""
    return DeadlineError(
        "The request took longer than the server allows.",
        "Request less, or retry when the server is less busy.",
    )


@contextmanager
def deadline(at_s: float) -> Iterator[None]:
    """Set the deadline within this context; an earlier deadline stays in force.

    Args:
        at_s: A reading of `time.monotonic`.
    """
    token = _DEADLINE_S.set(min(at_s, _DEADLINE_S.get()))
    try:
        yield
    finally:
        _DEADLINE_S.reset(token)


def override_deadline(at_s: float) -> None:
    """Replace the deadline, even by a later one, until the innermost `deadline` ends.

    Args:
        at_s: A reading of `time.monotonic`.
    """
    _DEADLINE_S.set(at_s)
