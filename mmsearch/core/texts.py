"""Selection and digest of the texts of a picture that are encoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import replace

from mmsearch.core.types import Text, TextSource

DEFAULT_SOURCES: tuple[TextSource, ...] = (
    TextSource.SIDECAR,
    TextSource.METADATA,
    TextSource.TABLE,
)
"""Default sources of texts that get a vector.

File names are only in the full-text index: every picture has one, and most are arbitrary.
"""

MAX_ENCODED_TEXTS = 64
"""Maximum number of texts encoded per picture; the full-text index has all of them."""


def full_text_sources(sources: Collection[TextSource]) -> frozenset[TextSource]:
    """Return the sources of the full-text index: these and file names; none if empty."""
    return frozenset({*sources, TextSource.FILENAME}) if sources else frozenset()


def select_encoded_texts(
    texts: Iterable[Text], sources: Collection[TextSource]
) -> tuple[Text, ...]:
    """Return the texts of a picture that get a vector, in an order independent of the input's.

    Args:
        texts: All texts of the picture.
        sources: Sources of the texts that get a vector.
    """
    unique: dict[tuple[str, str], Text] = {}
    for text in texts:
        # The catalog cannot store lone surrogates either, so replace them in the same way.
        words = " ".join(text.text.encode("utf-8", "replace").decode().split())
        if text.source in sources and words:
            unique.setdefault((text.kind, words.casefold()), replace(text, text=words))
    return tuple(unique[key] for key in sorted(unique)[:MAX_ENCODED_TEXTS])


def texts_digest(texts: Iterable[Text]) -> bytes:
    """Return a 16-byte digest that changes with the encoded texts; b"" without texts."""
    pairs = [(text.kind, text.text) for text in texts]
    if not pairs:
        return b""
    return hashlib.sha256(json.dumps(pairs).encode()).digest()[:16]
