"""What is told of a picture that was found, whatever the framework."""

from __future__ import annotations

from typing import Any

from mmsearch.client import RemoteHit
from mmsearch.core.display import display_path
from mmsearch.core.requests import Hit

FACTS = (
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

TELLING = ("title", "description", "caption")
"""Kinds of texts that tell what a picture shows."""


def facts_of(hit: Hit | RemoteHit, url: str = "") -> dict[str, Any]:
    """The members of a hit as JSON knows them.

    Args:
        hit: Of an index or of a server.
        url: The server's.

    Returns:
        `FACTS`, ``band``, ``path``, the words of its ``texts`` and of the one that ``matched``;
        from a server also the URLs ``original`` and ``thumbnail``.
    """
    matched = hit.matched
    facts: dict[str, Any] = {name: getattr(hit, name) for name in FACTS}
    facts |= {
        "band": str(hit.band),
        "path": display_path(hit.path),
        "texts": [text.text for text in hit.texts],
        "matched": None if matched is None else matched.text,
    }
    if isinstance(hit, RemoteHit):
        facts |= {name: f"{url}{hit.links[name]}" for name in ("original", "thumbnail")}
    return facts


def told_by(hit: Hit | RemoteHit) -> str:
    """What is written of a picture, whatever was asked; without anything, its path."""
    told = dict.fromkeys(text.text for text in hit.texts if text.kind in TELLING)
    return "\n".join(told) or display_path(hit.path)
