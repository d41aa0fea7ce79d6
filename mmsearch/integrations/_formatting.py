"""What is told of a picture that was found, whatever the framework."""

from __future__ import annotations

from typing import Any

from mmsearch.client import RemoteHit
from mmsearch.core.display import display_path
from mmsearch.core.requests import Hit

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
"""Members of a hit that become metadata as they are."""

DESCRIPTIVE_TEXT_KINDS = ("title", "description", "caption")
"""Kinds of texts that tell what a picture shows."""


def hit_metadata(hit: Hit | RemoteHit, url: str = "") -> dict[str, Any]:
    """The members of a hit as JSON knows them.

    Args:
        hit: Of an index or of a server.
        url: The server's.

    Returns:
        `METADATA_FIELDS`, ``band``, ``path``, the words of its ``texts`` and of the one that ``matched``;
        from a server also the URLs ``original`` and ``thumbnail``.
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
    """What is written of a picture, whatever was asked; without anything, its path."""
    texts = dict.fromkeys(text.text for text in hit.texts if text.kind in DESCRIPTIVE_TEXT_KINDS)
    return "\n".join(texts) or display_path(hit.path)
