"""Records and hits as HTTP says them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit, IndexStatus, SearchResult
from mmsearch.core.types import Text


def search_answer(index: str, result: SearchResult, offset: int, limit: int) -> dict[str, Any]:
    """A page of an answer; see `SearchAnswer`.

    Args:
        index: Its name.
        result: With one hit more than the page, if there is a further page.
        offset: Hits before the page.
        limit: Hits of the page.
    """
    page = result.hits[offset : offset + limit]
    more = len(result.hits) > offset + limit
    return {
        "query": display_path(result.query),
        "mode": result.mode,
        "hits": [hit_answer(index, hit) for hit in page],
        "next_cursor": cursor_at(offset + limit) if more else None,
        "match": result.match,
        "calibrated": result.calibrated,
        "generation": result.generation,
        "pictures": result.pictures,
        "passed": result.passed,
        "encoder": result.encoder,
        "dropped_tokens": result.dropped_tokens,
        "timings_s": dict(result.timings_s),
    }


def hit_answer(index: str, hit: Hit) -> dict[str, Any]:
    """See `HitAnswer`."""
    matched = hit.matched
    return {
        "id": hit.id,
        "rank": hit.rank,
        "score": hit.score,
        "visual": hit.visual,
        "text": hit.text,
        "matched": None
        if matched is None
        else {
            "text": matched.text,
            "kind": matched.kind,
            "language": matched.language,
            "spans": [list(span) for span in matched.spans],
        },
        "confidence": hit.confidence,
        "band": hit.band,
        "path": display_path(hit.path),
        "copies": [display_path(path) for path in hit.copies],
        "width": hit.width,
        "height": hit.height,
        "format": hit.format,
        "taken_at": hit.taken_at,
        "camera": hit.camera,
        "latitude": hit.latitude,
        "longitude": hit.longitude,
        "modified_at": hit.modified_at,
        "size_bytes": hit.size_bytes,
        "texts": _texts(hit.texts),
        "links": _links(index, hit.id),
    }


def picture_answer(index: str, record: Record) -> dict[str, Any]:
    """See `PictureAnswer`."""
    first, *others = (display_path(path) for path in record.paths)
    picture = record.picture
    return {
        "id": record.id,
        "path": first,
        "copies": others,
        "width": picture.width,
        "height": picture.height,
        "format": picture.format,
        "taken_at": picture.taken_at,
        "camera": picture.camera,
        "latitude": picture.latitude,
        "longitude": picture.longitude,
        "modified_at": record.mtime_ns / 1e9,
        "size_bytes": record.size,
        "texts": _texts(picture.texts),
        "links": _links(index, record.id),
    }


def index_answer(status: IndexStatus) -> dict[str, Any]:
    """See `IndexAnswer`."""
    identity = status.identity
    return {
        "name": status.name,
        "pictures": status.pictures,
        "files": status.files,
        "failures": len(status.failures),
        "generation": status.generation,
        "encoder": identity.encoder.name if identity else None,
        "fusion": identity.fusion.name if identity else None,
        "vector_index": status.built.spec_name if status.built else None,
        "roots": [root.name for root in status.roots],
        "waiting": status.waiting,
        "bytes_by_part": dict(status.bytes_by_part),
        "last_run": asdict(status.last_run) if status.last_run else None,
    }


def cursor_at(offset: int) -> str:
    """A page that begins after so many hits, as clients hand it back."""
    return base64.urlsafe_b64encode(json.dumps({"after": offset}).encode()).decode()


def offset_of(cursor: str | None, limit: int) -> int:
    """Where a page begins.

    Args:
        cursor: As `cursor_at` made it; None: the first page.
        limit: So far answers can be paged through.

    Raises:
        InvalidQueryError: It is no such cursor.
    """
    if cursor is None:
        return 0
    try:
        after = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))["after"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        after = None
    if not isinstance(after, int) or isinstance(after, bool) or not 0 < after < limit:
        raise InvalidQueryError(
            "The cursor is none that this server made.", "Take next_cursor of an answer, or none."
        )
    return after


def _texts(texts: Sequence[Text]) -> list[dict[str, Any]]:
    return [
        {
            "kind": text.kind,
            "text": text.text,
            "language": text.language,
            "source": str(text.source),
        }
        for text in texts
    ]


def _links(index: str, image_id: int) -> dict[str, str]:
    at = f"/v1/indexes/{index}/pictures/{image_id}"
    return {"self": at, "original": f"{at}/original", "thumbnail": f"{at}/thumbnail"}
