"""Parts of an answer, RFC 9110, section 14.

One range of bytes is answered. A ``Range`` that asks for several, in another unit, or in no valid
form is ignored: the answer is then the whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

from mmsearch.server.errors import problem_response

_UNIT = "bytes="
_SINGLE_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_MAX_DIGITS = 18
"""Larger numbers count as this many nines: no content has so many bytes."""


def canonical_range(value: str) -> str | None:
    """Return a ``Range`` in its shortest form, such as ``bytes=0-99``; None if it is ignored."""
    if value[: len(_UNIT)].lower() != _UNIT:
        return None
    parts = [part.strip(" \t") for part in value[len(_UNIT) :].split(",")]
    ranges = [part for part in parts if part]
    match = _SINGLE_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if match is None or not any(match.groups()):
        return None
    first, last = (_clamp_digits(digits) for digits in match.groups())
    if first and last and int(first) > int(last):
        return None
    return f"{_UNIT}{first}-{last}"


def _clamp_digits(digits: str) -> str:
    stripped = digits.lstrip("0") or digits[:1]
    return stripped if len(stripped) <= _MAX_DIGITS else "9" * _MAX_DIGITS


def range_response(
    content: bytes, range_header: str | None, media_type: str, headers: Mapping[str, str]
) -> Response:
    """Return the part that is wanted: 206, or 416 if the content ends before it; else the whole.

    Args:
        content: The whole.
        range_header: The value of ``Range``, if any.
        media_type: Of the content.
        headers: Of the answer.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    canonical = canonical_range(range_header or "")
    if canonical is None:
        return Response(content, media_type=media_type, headers=headers)
    first, last = canonical.removeprefix(_UNIT).split("-")
    if first:
        start, end = int(first), int(last or len(content)) + 1
    else:
        start, end = max(0, len(content) - int(last)), len(content)
    end = min(end, len(content))
    if start >= end:
        return problem_response(
            416,
            f"The content has {len(content):,} bytes, and ends before the range that is asked for.",
            {**headers, "Content-Range": f"bytes */{len(content)}"},
        )
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type)
