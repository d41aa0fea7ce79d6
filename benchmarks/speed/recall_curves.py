"""Speed at a target recall: search for the setting, and interpolation between two settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

STEP, STRIDE = 1.1, 8
"""Factor from one setting to the next, and positions per step of the search for a recall, which
about doubles the setting."""


@dataclass(frozen=True)
class Bracket:
    """Neighbouring settings around a target, as positions in a list from cheap to expensive.

    Attributes:
        low: Setting that misses the target; equal to ``high`` if the cheapest setting reaches it.
        high: Setting that reaches the target.
        low_recall: Recall at ``low``.
        high_recall: Recall at ``high``.
    """

    low: int
    high: int
    low_recall: float
    high_recall: float

    def interpolate_rate(self, target: float, low_rate: float, high_rate: float) -> float:
        """Return queries per second at the target; the log of the rate is linear in the recall."""
        if self.low == self.high or self.low_recall >= self.high_recall:
            return high_rate
        share = (target - self.low_recall) / (self.high_recall - self.low_recall)
        return math.exp(math.log(low_rate) * (1 - share) + math.log(high_rate) * share)


def find_bracket(
    recall_of: Callable[[int], float], num_settings: int, target: float
) -> Bracket | None:
    """Return the settings around a target, found by strides from the cheap end and then bisection.

    Args:
        recall_of: Function that returns the recall at a position; it must be non-decreasing.
        num_settings: Number of settings.
        target: Recall to reach.

    Returns:
        The neighbouring settings, or None if the last setting does not reach the target.
    """
    low, high = -1, 0
    low_recall, high_recall = 0.0, recall_of(0)
    while high_recall < target:
        if high == num_settings - 1:
            return None
        low, low_recall = high, high_recall
        high = min(high + STRIDE, num_settings - 1)
        high_recall = recall_of(high)
    while high - low > 1 and low >= 0:
        middle = (low + high) // 2
        middle_recall = recall_of(middle)
        if middle_recall >= target:
            high, high_recall = middle, middle_recall
        else:
            low, low_recall = middle, middle_recall
    if low < 0:
        return Bracket(high, high, high_recall, high_recall)
    return Bracket(low, high, low_recall, high_recall)


def geometric_steps(first: int, last: int, step: float = STEP) -> list[int]:
    """Return integers from ``first`` to ``last``, each about ``step`` times the previous one."""
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(min(last, max(numbers[-1] + 1, round(numbers[-1] * step))))
    return numbers
