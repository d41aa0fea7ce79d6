"""Metadata and text of hits, shared by all frameworks."""

from __future__ import annotations

from typing import Any

from mmsearch.client import RemoteHit
from mmsearch.core.display import display_path
from mmsearch.core.results import Hit

METADATA_FIELDS = (
    "id",
    "rank",
    "score",
    "visual",
    "text",
    "confidence",
    "width",
    "height",
    "format",
    "taken_at",
    "camera",
    "latitude",
    "longitude",
    "modified_at",
    "size_bytes",
)
"""Attributes of a hit that are copied to its metadata unchanged."""

DESCRIPTIVE_TEXT_KINDS = ("title", "description", "caption")
"""Kinds of texts that describe what a picture shows."""


def hit_metadata(hit: Hit | RemoteHit, url: str = "") -> dict[str, Any]:
    """Return the metadata of a hit as values that JSON can represent.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.

    Returns:
        The attributes in `METADATA_FIELDS`, ``band``, ``path``, the strings of its ``texts`` and
        that of the text that ``matched`` (or None); for a server also the URLs ``original`` and
        ``thumbnail``.
    """
    matched = hit.matched
    metadata: dict[str, Any] = {name: getattr(hit, name) for name in METADATA_FIELDS}
    metadata |= {
        "band": str(hit.band),
        "path": display_path(hit.path),
        "texts": [text.text for text in hit.texts],
        "matched": None if matched is None else matched.text,
    }
    if isinstance(hit, RemoteHit):
        metadata |= {name: f"{url}{hit.links[name]}" for name in ("original", "thumbnail")}
    return metadata


def hit_text(hit: Hit | RemoteHit) -> str:
    """Return the descriptive texts of a picture, or its path if it has none.

    The result does not depend on the query.
    """
    texts = dict.fromkeys(text.text for text in hit.texts if text.kind in DESCRIPTIVE_TEXT_KINDS)
    return "\n".join(texts) or display_path(hit.path)
