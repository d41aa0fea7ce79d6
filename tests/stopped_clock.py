"""A clock for the modules under test, which stands still until it is moved."""

from types import ModuleType

import pytest


class StoppedClock:
    """Stands in for the module ``time``.

    Attributes:
        now_s: What it shows.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def stop_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> StoppedClock:
    """Let a module read a clock that stands still, and return the clock."""
    clock = StoppedClock()
    monkeypatch.setattr(module, "time", clock)
    return clock
