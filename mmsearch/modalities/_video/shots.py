"""Shots of a film: where small frames, one a second, change at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_MOMENTS: Final = 600
"""Number of moments of a film at most; they are spread over its whole length."""

FULL_S: Final = 1800
"""Seconds from the start that are decoded whole; further on, key frames stand for what follows."""

SMALL_WIDTH: Final = 32
SMALL_HEIGHT: Final = 18
"""Size of the small frames that are compared."""

CUT: Final = 0.1
"""Mean difference of two small frames, from 0 to 1, above which a new shot begins."""

MOMENT_S: Final = 10
"""Seconds of a long shot for which one frame stands."""

BLACK: Final = 24
"""Level from 0 to 255 that no pixel of a black frame exceeds."""

_FADE_SECONDS: Final = 5
_DETOUR: Final = 1.15


@dataclass(frozen=True)
class Span:
    """Consecutive samples that one of them stands for.

    Attributes:
        start: Number of the first sample.
        end: Number of the sample after the last one.
        middle: Number of the sample that stands for them; None if all are black.
    """

    start: int
    end: int
    middle: int | None


def find_spans(frames: NDArray[np.uint8]) -> list[Span]:
    """Return the spans of a film, which follow each other, given its samples.

    A shot is one span, or several of about `MOMENT_S` samples.

    Args:
        frames: uint8 (n, `SMALL_HEIGHT`, `SMALL_WIDTH`, 3), one frame a second.
    """
    levels = frames.astype(np.int16)
    black = frames.reshape(len(frames), -1).max(axis=1, initial=0) <= BLACK
    cuts = _find_cuts(levels)
    spans = []
    for start, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        count = max(1, round((end - start) / MOMENT_S))
        edges = [start + (end - start) * place // count for place in range(count + 1)]
        for first, last in pairwise(edges):
            spans.append(Span(first, last, _choose(black, first, last)))
    return spans


def keep_longest(spans: Sequence[Span], count: int) -> list[Span]:
    """Return the longest spans, in their order; of equal ones the first."""
    longest = sorted(spans, key=lambda span: span.start - span.end)[:count]
    return sorted(longest, key=lambda span: span.start)


def _find_cuts(levels: NDArray[np.int16]) -> list[int]:
    """Return the numbers of the samples with which shots begin, without the first."""
    steps = np.abs(np.diff(levels, axis=0)).mean(axis=(1, 2, 3)) / 255
    changes = (np.flatnonzero(steps > CUT) + 1).tolist()
    cuts: list[int] = []
    while changes:
        # Consecutive changes are one if they lead straight from one picture to another.
        count = next(
            (n for n in range(1, len(changes)) if changes[n] != changes[0] + n), len(changes)
        )
        count = next(
            n
            for n in range(min(count, _FADE_SECONDS), 0, -1)
            if n == 1 or _is_fade(levels, steps, changes[0] - 1, changes[0] + n - 1)
        )
        cuts.append(changes[count // 2])
        del changes[:count]
    return cuts


def _is_fade(levels: NDArray[np.int16], steps: NDArray[np.float64], start: int, end: int) -> bool:
    """Return True if the samples between two are mixtures of both."""
    direct = float(np.abs(levels[end] - levels[start]).mean()) / 255
    return float(steps[start:end].sum()) <= _DETOUR * direct


def _choose(black: NDArray[np.bool_], start: int, end: int) -> int | None:
    """Return the sample nearest to the middle that is not black."""
    middle = (start + end) // 2
    bright = [number for number in range(start, end) if not black[number]]
    return min(bright, key=lambda number: (abs(number - middle), number), default=None)
