"""Parts of an answer, RFC 9110, section 14.

One range of bytes is answered. A ``Range`` that asks for several, in another unit, or in no valid
form is ignored: the answer is then the whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

from mmsearch.server.errors import problem

_UNIT = "bytes="
_ONE_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_MOST_DIGITS = 18
"""Larger numbers count as this many nines: no content has so many bytes."""


def canonical_range(value: str) -> str | None:
    """Return a ``Range`` in its shortest form, such as ``bytes=0-99``; None if it is ignored."""
    if value[: len(_UNIT)].lower() != _UNIT:
        return None
    parts = [part.strip(" \t") for part in value[len(_UNIT) :].split(",")]
    ranges = [part for part in parts if part]
    asked = _ONE_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if asked is None or not any(asked.groups()):
        return None
    first, last = (_number(digits) for digits in asked.groups())
    if first and last and int(first) > int(last):
        return None
    return f"{_UNIT}{first}-{last}"


def _number(digits: str) -> str:
    short = digits.lstrip("0") or digits[:1]
    return short if len(short) <= _MOST_DIGITS else "9" * _MOST_DIGITS


def in_part(
    content: bytes, wanted: str | None, media_type: str, headers: Mapping[str, str]
) -> Response:
    """Return the part that is wanted: 206, or 416 if the content ends before it; else the whole.

    Args:
        content: The whole.
        wanted: The value of ``Range``, if any.
        media_type: Of the content.
        headers: Of the answer.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    canonical = canonical_range(wanted or "")
    if canonical is None:
        return Response(content, media_type=media_type, headers=headers)
    first, last = canonical.removeprefix(_UNIT).split("-")
    if first:
        start, end = int(first), int(last or len(content)) + 1
    else:
        start, end = max(0, len(content) - int(last)), len(content)
    end = min(end, len(content))
    if start >= end:
        return problem(
            416,
            f"The content has {len(content):,} bytes, and ends before the range that is asked for.",
            {**headers, "Content-Range": f"bytes */{len(content)}"},
        )
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type)
