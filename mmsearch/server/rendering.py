"""Records and hits as HTTP says them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit, IndexStatus, SearchResult
from mmsearch.core.types import Picture, Text


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
    paths = (hit.path, *hit.copies)
    return _known(index, hit.id, paths, hit, hit.modified_at, hit.size_bytes) | {
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
    }


def picture_answer(index: str, record: Record) -> dict[str, Any]:
    """See `PictureAnswer`."""
    modified_at = record.mtime_ns / 1e9
    return _known(index, record.id, record.paths, record.picture, modified_at, record.size)


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
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        after = None
    if not isinstance(after, int) or isinstance(after, bool) or not 0 < after < limit:
        raise InvalidQueryError(
            "This server did not make that cursor.",
            "Take next_cursor of an answer, or leave the cursor out.",
        )
    return after


def _known(
    index: str,
    image_id: int,
    paths: Sequence[Path | bytes],
    facts: Hit | Picture,
    modified_at: float,
    size_bytes: int,
) -> dict[str, Any]:
    first, *others = (display_path(path) for path in paths)
    return {
        "id": image_id,
        "path": first,
        "copies": others,
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "taken_at": facts.taken_at,
        "camera": facts.camera,
        "latitude": facts.latitude,
        "longitude": facts.longitude,
        "modified_at": modified_at,
        "size_bytes": size_bytes,
        "texts": _texts(facts.texts),
        "links": _links(index, image_id),
    }


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
