"""Texts that every interface shows to people: paths without control characters, labels of hits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmsearch.core.types import Text

WEAKER_MATCHES = "Weaker matches"
"""Text of the divider above hits without a label."""


def display_path(path: bytes | str | Path) -> str:
    """Return a path or another text as one printable line.

    Control characters, characters that change the writing direction, other invisible characters
    and undecodable bytes are escaped.
    """
    text = os.fsdecode(path)
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogateescape").decode()
        if not "\udc80" <= char <= "\udcff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in text
    )


def replace_unprintable(text: str) -> str:
    """Return a text of the same length with U+FFFD in place of unprintable characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)


def format_match(band: str, confidence: float, *, calibrated: bool) -> str:
    """Return the label of a hit, such as ``likely 83%``.

    The label is empty if the hit is neither likely nor possible, or if the model is not calibrated:
    a percentage would say more than is known.

    Args:
        band: Band of the confidence.
        confidence: Probability that the picture matches the query.
        calibrated: True if confidences are fitted for the model.
    """
    if not calibrated or band not in ("likely", "possible"):
        return ""
    # Rounded down, so that the percentage is never that of the band above.
    percent = int(confidence * 100 + 1e-9)
    return f"{band} {percent}%"


def format_folded(count: int) -> str:
    """Return the number of other pictures that a hit stands for: ``+3``, or empty without any."""
    return f"+{count:,}" if count else ""


def divider_position(ranks: Sequence[int], labels: Sequence[str]) -> int | None:
    """Return the number of hits above the divider between labeled hits and weaker matches.

    Args:
        ranks: Rank of each hit, in the order in which the hits are shown.
        labels: Label of each hit, from `format_match`.

    Returns:
        None without a divider: no hit has a label, none follows the last one that has, or the hits
        are not in the order of their ranks.
    """
    position = max((place for place, label in enumerate(labels, 1) if label), default=0)
    in_order = list(ranks) == sorted(ranks)
    return position if in_order and 0 < position < len(labels) else None


def format_place(texts: Iterable[Text]) -> str | None:
    """Return where a picture was taken, such as ``Lisbon, Portugal``; None if no text says it.

    Args:
        texts: The texts of the picture. What its file says counts before what coordinates give.
    """
    own: list[str] = []
    made: list[str] = []
    for text in texts:
        if text.kind == "place":
            (made if text.source == "gps" else own).extend(text.text.split("; "))
    if own and made:
        from mmsearch.core.places import lookup  # noqa: PLC0415 - few pictures have both

        if all(found and found[0].kind != "city" for found in map(lookup, own)):
            own, made = made, own
    # All four are location, city, state and country.
    values = list(dict.fromkeys([*(own[1:] if len(own) >= 4 else own), *made]))
    if not values:
        return None
    return values[0] if len(values) == 1 else f"{values[0]}, {values[-1]}"


def format_position(start_ms: int | None, page: int | None) -> str:
    """Return where an item is in its content: ``1:02:03``, ``p. 7``, or empty for all of it."""
    if page is not None:
        return f"p. {page}"
    return "" if start_ms is None else format_time(start_ms)


def format_time(time_ms: int) -> str:
    """Return a time in a film or a sound: ``0:42``, or ``1:02:03`` from an hour on."""
    minutes, seconds = divmod(time_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def excerpt(
    matched: Mapping[str, Any], length: int, *, with_origin: bool = True
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return an excerpt of a text around its first match, and the spans of the matches in it.

    Args:
        matched: A `MatchedText` as a JSON object.
        length: Length of the excerpt in characters, without ellipses and the origin.
        with_origin: True to say before a text that a model read or saw it in the picture, which may
            be wrong, or when it is said.
    """
    text, spans = matched["text"], matched["spans"]
    first = spans[0][0] if spans else 0
    start = max(0, min(first - length // 3, len(text) - length))
    end = start + length
    snippet = text[start:end]
    prefix, suffix = "…" if start else "", "…" if end < len(text) else ""
    if with_origin and matched.get("kind") == "ocr":
        prefix = f"written: {prefix}"
    elif with_origin and matched.get("source") == "captions":
        prefix = f"described: {prefix}"
    elif with_origin and matched.get("start_ms") is not None:
        prefix = f"{format_time(matched['start_ms'])}: {prefix}"
    offset = len(prefix) - start
    shown_spans = tuple(
        (a + offset, min(b, end) + offset) for a, b in spans if a >= start and a < end
    )
    return f"{prefix}{snippet}{suffix}", shown_spans
