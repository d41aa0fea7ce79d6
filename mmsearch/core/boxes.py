"""Places of texts in pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class LineBox(NamedTuple):
    """Rectangle of the upright picture in which a line of a text stands; in JSON an array.

    Attributes:
        start: First character of the line in the text.
        end: Character after the last one.
        left: Distance from the left edge as a share of the width of the picture, 0 to 1.
        top: Distance from the upper edge as a share of the height.
        right: Distance of the right side from the left edge.
        bottom: Distance of the lower side from the upper edge.
    """

    start: int
    end: int
    left: float
    top: float
    right: float
    bottom: float


def parse_boxes(values: Iterable[Iterable[Any]]) -> tuple[LineBox, ...]:
    """Return the boxes of a JSON array.

    Raises:
        TypeError: They have another form.
        ValueError: They are not in a picture, or a box has another number of values.
    """
    boxes = []
    for start, end, *sides in values:
        left, top, right, bottom = (float(side) for side in sides)
        # Comparisons with NaN are false.
        if not (0 <= start <= end and 0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
            raise ValueError("a box is outside of its picture")
        boxes.append(LineBox(int(start), int(end), left, top, right, bottom))
    return tuple(boxes)


def dump_boxes(boxes: Iterable[LineBox]) -> str | None:
    """Return boxes as JSON text, or None without boxes."""
    return json.dumps(list(boxes), separators=(",", ":")) if boxes else None


def load_boxes(text: str | None) -> tuple[LineBox, ...]:
    """Return the boxes of a JSON text of a catalog; those of a damaged one are lost."""
    if text is None:
        return ()
    try:
        return parse_boxes(json.loads(text))
    except (TypeError, ValueError, RecursionError):
        return ()


def matching_boxes(
    boxes: Iterable[LineBox], spans: Iterable[tuple[int, int]]
) -> tuple[LineBox, ...]:
    """Return the boxes of lines that hold one of some spans of the text."""
    spans = tuple(spans)
    return tuple(
        box for box in boxes if any(start < box.end and end > box.start for start, end in spans)
    )
