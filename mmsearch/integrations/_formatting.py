"""Metadata and text of hits, shared by all frameworks."""

from __future__ import annotations

from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.results import Hit

DESCRIPTIVE_TEXT_KINDS = ("title", "description", "caption")
"""Kinds of texts that describe what a picture shows."""


def hit_metadata(hit: Hit, url: str = "") -> dict[str, Any]:
    """Return the metadata of a hit as values that JSON can represent.

    Args:
        hit: A hit of an index or of a server.
        url: URL of the server.

    Returns:
        The members of `Hit.to_dict`, with ``path`` for display, the strings of its ``texts`` and
        that of the text that ``matched`` (or None); without ``copies``; for a server also the URLs
        ``original`` and ``thumbnail``.
    """
    metadata = hit.to_dict() | {
        "band": str(hit.band),
        "path": display_path(hit.path),
        "texts": [text.text for text in hit.texts],
        "matched": None if hit.matched is None else hit.matched.text,
    }
    links = metadata.pop("links", {})
    del metadata["copies"]
    return metadata | {
        name: f"{url}{links[name]}" for name in ("original", "thumbnail") if name in links
    }


def hit_text(hit: Hit) -> str:
    """Return the descriptive texts of a picture, or its path if it has none.

    The result does not depend on the query.
    """
    texts = dict.fromkeys(text.text for text in hit.texts if text.kind in DESCRIPTIVE_TEXT_KINDS)
    return "\n".join(texts) or display_path(hit.path)
