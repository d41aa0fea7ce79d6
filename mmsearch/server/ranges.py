"""Parts of an answer that is at hand as a whole, RFC 9110, section 14."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def in_part(
    content: bytes, wanted: str | None, media_type: str, headers: Mapping[str, str]
) -> Response:
    """The part that is wanted: 206, or 416 where there is none; else the whole.

    Args:
        content: The whole.
        wanted: The value of ``Range``; what is not one range of bytes is passed over.
        media_type: Of the content.
        headers: Of the answer.
    """
    headers = {**headers, "Accept-Ranges": "bytes"}
    asked = _ONE_RANGE.fullmatch(wanted or "")
    if asked is None or not any(asked.groups()):
        return Response(content, media_type=media_type, headers=headers)
    first, last = asked.groups()
    if first:
        start, end = int(first), int(last or len(content)) + 1
    else:
        start, end = max(0, len(content) - int(last)), len(content)
    end = min(end, len(content))
    if start >= end:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return Response(status_code=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type)
