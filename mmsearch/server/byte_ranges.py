"""Range requests (RFC 9110, section 14).

Only a single range of bytes is supported. A ``Range`` header with several ranges, another unit or
invalid syntax is ignored, and the answer is the whole content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

from mmsearch.server.errors import problem_response

_UNIT = "bytes="
_SINGLE_RANGE = re.compile(r"(\d*)-(\d*)", re.ASCII)
_MAX_DIGITS = 18
"""Maximum number of digits of a position; longer ones become 18 nines, beyond any content."""


def canonical_range(value: str) -> str | None:
    """Return a ``Range`` in its shortest form, such as ``bytes=0-99``, or None to ignore it."""
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
    """Return the requested part (206), an error if it is beyond the end (416), or the whole (200).

    Args:
        content: The whole content.
        range_header: Value of the ``Range`` header, or None.
        media_type: Media type of the content.
        headers: Further headers of the answer.
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
            f"The content has {len(content):,} bytes and ends before the requested range.",
            {**headers, "Content-Range": f"bytes */{len(content)}"},
        )
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type)
