"""Which texts of a picture are turned into vectors, and how they are told apart."""

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
"""File names are searched as words only: beside every picture there is one, mostly by chance."""

MAX_ENCODED_TEXTS = 64
"""Of one picture are turned into vectors; all of them are searched as words."""


def full_text_sources(sources: Collection[TextSource]) -> frozenset[TextSource]:
    """The sources whose texts are kept at all: file names too, unless no texts are wanted."""
    return frozenset({*sources, TextSource.FILENAME}) if sources else frozenset()


def select_encoded_texts(
    texts: Iterable[Text], sources: Collection[TextSource]
) -> tuple[Text, ...]:
    """The texts of a picture that get a vector, in an order that does not depend on theirs.

    Args:
        texts: All texts of the picture.
        sources: Those that feed vectors.
    """
    unique: dict[tuple[str, str], Text] = {}
    for text in texts:
        # As the catalog stores it: a lone surrogate is no text.
        words = " ".join(text.text.encode("utf-8", "replace").decode().split())
        if text.source in sources and words:
            unique.setdefault((text.kind, words.casefold()), replace(text, text=words))
    return tuple(unique[key] for key in sorted(unique)[:MAX_ENCODED_TEXTS])


def texts_digest(texts: Iterable[Text]) -> bytes:
    """16 bytes that tell whether the vectors of a picture's texts are still those of its texts."""
    pairs = [(text.kind, text.text) for text in texts]
    if not pairs:
        return b""
    return hashlib.sha256(json.dumps(pairs).encode()).digest()[:16]
