"""Static assets, compressed and with an ETag.

Only static assets are compressed. An answer to a query contains a client's words next to data of
the server, and its compressed size would reveal whether they match (as in the BREACH attack).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

_CODING_PATTERN = re.compile(
    r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([\d.]+)\s*)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True)
class Asset:
    """Content that never changes while the server runs.

    Attributes:
        content: The uncompressed content.
        media_type: Media type of the content.
    """

    content: bytes
    media_type: str

    @cached_property
    def _compressed(self) -> bytes | None:
        compressed = gzip.compress(self.content, mtime=0)
        return compressed if len(compressed) < len(self.content) else None

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()[:32]

    def response(self, request: Request) -> Response:
        """Return the content in a coding that the request accepts."""
        content, etag, headers = self.content, self._digest, {"Cache-Control": "no-cache"}
        if self._compressed is not None:
            headers["Vary"] = "Accept-Encoding"
            if accepts_gzip(",".join(request.headers.getlist("accept-encoding"))):
                content, etag = self._compressed, f"{etag}-gzip"
                headers["Content-Encoding"] = "gzip"
        headers["ETag"] = f'"{etag}"'
        return Response(content, media_type=self.media_type, headers=headers)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return True if an ``Accept-Encoding`` header allows gzip (RFC 9110, section 12.5.3)."""
    quality: dict[str, float] = {}
    for part in accept_encoding.split(","):
        coding = _CODING_PATTERN.fullmatch(part)
        if coding is not None:
            quality[coding[1].lower()] = _parse_quality(coding[2])
    gzip_quality = quality.get("gzip", quality.get("x-gzip", quality.get("*", 0.0)))
    return gzip_quality > 0


def _parse_quality(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
