"""Records, hits and indexes as JSON objects for HTTP answers."""

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
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Hit, IndexStatus, SearchResult
from mmsearch.core.types import Picture, Text


def render_search(index: str, result: SearchResult, offset: int, limit: int) -> dict[str, Any]:
    """Return one page of a search result; see `SearchAnswer`.

    Args:
        index: Name of the index.
        result: The search result, with at least one hit beyond the page if there is a next page.
        offset: Number of hits before the page.
        limit: Maximum number of hits on the page.
    """
    page = result.hits[offset : offset + limit]
    has_more = len(result.hits) > offset + limit
    return {
        "query": display_path(result.query),
        "mode": result.mode,
        "hits": [render_hit(index, hit) for hit in page],
        "next_cursor": encode_cursor(offset + limit) if has_more else None,
        "match": result.match,
        "calibrated": result.calibrated,
        "generation": result.generation,
        "pictures": result.pictures,
        "passed": result.passed,
        "encoder": result.encoder,
        "dropped_tokens": result.dropped_tokens,
        "timings_s": dict(result.timings_s),
    }


def render_hit(index: str, hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON; see `HitAnswer`."""
    matched = hit.matched
    paths = (hit.path, *hit.copies)
    return _render_picture_fields(index, hit.id, paths, hit, hit.modified_at, hit.size_bytes) | {
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


def render_picture(index: str, record: PictureRecord) -> dict[str, Any]:
    """Return a picture as JSON; see `PictureAnswer`."""
    modified_at = record.mtime_ns / 1e9
    return _render_picture_fields(
        index, record.id, record.paths, record.picture, modified_at, record.size
    )


def render_index(status: IndexStatus) -> dict[str, Any]:
    """Return the status of an index as JSON; see `IndexAnswer`."""
    identity = status.identity
    return {
        "name": status.name,
        "pictures": status.pictures,
        "files": status.files,
        "failures": len(status.failures),
        "generation": status.generation,
        "encoder": identity.encoder.name if identity else None,
        "fusion": identity.fusion.name if identity else None,
        "vector_index": status.built.plugin_name if status.built else None,
        "roots": [root.name for root in status.roots],
        "waiting": status.waiting,
        "bytes_by_part": dict(status.bytes_by_part),
        "last_run": asdict(status.last_run) if status.last_run else None,
    }


def encode_cursor(offset: int) -> str:
    """Return the cursor of the page that begins after ``offset`` hits."""
    return base64.urlsafe_b64encode(json.dumps({"after": offset}).encode()).decode()


def decode_cursor(cursor: str | None, limit: int) -> int:
    """Return the number of hits before the page that a cursor names.

    Args:
        cursor: Made by `encode_cursor`; None for the first page.
        limit: Maximum number of hits that can be paged through.

    Raises:
        InvalidQueryError: The cursor is not valid.
    """
    if cursor is None:
        return 0
    try:
        offset = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))["after"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        offset = None
    if not isinstance(offset, int) or isinstance(offset, bool) or not 0 < offset < limit:
        raise InvalidQueryError(
            "Invalid cursor.",
            "Use next_cursor of an earlier answer, or omit the cursor.",
        )
    return offset


def _render_picture_fields(
    index: str,
    image_id: int,
    paths: Sequence[Path | bytes],
    metadata: Hit | Picture,
    modified_at: float,
    size_bytes: int,
) -> dict[str, Any]:
    first, *copies = (display_path(path) for path in paths)
    return {
        "id": image_id,
        "path": first,
        "copies": copies,
        "width": metadata.width,
        "height": metadata.height,
        "format": metadata.format,
        "taken_at": metadata.taken_at,
        "camera": metadata.camera,
        "latitude": metadata.latitude,
        "longitude": metadata.longitude,
        "modified_at": modified_at,
        "size_bytes": size_bytes,
        "texts": _render_texts(metadata.texts),
        "links": _render_links(index, image_id),
    }


def _render_texts(texts: Sequence[Text]) -> list[dict[str, Any]]:
    return [
        {
            "kind": text.kind,
            "text": text.text,
            "language": text.language,
            "source": str(text.source),
        }
        for text in texts
    ]


def _render_links(index: str, image_id: int) -> dict[str, str]:
    picture_url = f"/v1/indexes/{index}/pictures/{image_id}"
    return {
        "self": picture_url,
        "original": f"{picture_url}/original",
        "thumbnail": f"{picture_url}/thumbnail",
    }
