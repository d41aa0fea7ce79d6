"""Answers that are the same for everyone: compressed, with a tag, whole or in part.

Only they are compressed. An answer to a query holds a stranger's words beside what the server
keeps, and its size would tell of both.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

from mmsearch.server.ranges import in_part

_CODING = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([\d.]+)\s*)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Asset:
    """A content that never changes while the server runs.

    Attributes:
        content: As it is without compression.
        media_type: Of the content.
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
        """Return the content in a coding that a request accepts, whole or in part."""
        content, tag, headers = self.content, self._digest, {"Cache-Control": "no-cache"}
        if self._compressed is not None:
            headers["Vary"] = "Accept-Encoding"
            if accepts_gzip(",".join(request.headers.getlist("accept-encoding"))):
                content, tag = self._compressed, f"{tag}-gzip"
                headers["Content-Encoding"] = "gzip"
        headers["ETag"] = f'"{tag}"'
        # A part of another coding does not continue what somebody has of this one.
        fits = request.headers.get("if-range") in (None, headers["ETag"])
        wanted = request.headers.get("range") if fits else None
        return in_part(content, wanted, self.media_type, headers)


def accepts_gzip(accepted: str) -> bool:
    """Check whether an ``Accept-Encoding`` allows gzip, RFC 9110, section 12.5.3."""
    quality: dict[str, float] = {}
    for part in accepted.split(","):
        coding = _CODING.fullmatch(part)
        if coding is not None:
            quality[coding[1].lower()] = _quality(coding[2])
    named = quality.get("gzip", quality.get("x-gzip", quality.get("*", 0.0)))
    return named > 0


def _quality(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0
