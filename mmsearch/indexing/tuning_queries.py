"""Texts such as people ask for pictures with: what a vector index is tuned on.

Half of them are put together from a small vocabulary of what is in photographs, and half are
captions of the index itself, as far as it has any. Real queries would be better still, but none are
kept.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources

import numpy as np

from mmsearch.core.catalog import Catalog
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import Kind, TextSource, Vectors
from mmsearch.core.vectors import encode_tokens

WANTED = 3072
"""Texts: 1024 of them choose and measure, the others teach (`vector_indexes._tuning`)."""

LONGEST = 200
"""Characters of a caption that are used: queries are short."""

PAGE = 64


def phrases(count: int) -> list[str]:
    """So many different descriptions, the same ones in every call."""
    words = tomllib.loads(resources.files(__package__).joinpath("asked_words.toml").read_text())
    shapes = words.pop("shapes")
    random = np.random.default_rng(20)
    made: dict[str, None] = {}
    while len(made) < count:
        chosen = {kind: random.choice(known) for kind, known in words.items()}
        shape = random.choice(shapes)
        made[shape.format(**chosen, other=random.choice(words["things"]))] = None
    return list(made)


def asked_texts(catalog: Catalog) -> list[str]:
    """Captions from all over an index, and phrases, in turns."""
    captions = list(_captions(catalog, WANTED // 2))
    made = phrases(WANTED - len(captions))
    order = np.random.default_rng(21).permutation(WANTED)
    both = captions + made
    return [both[place] for place in order]


def encode_asked(encoder: Encoder, texts: list[str]) -> Vectors:
    """(n, dim)."""
    return encode_tokens(encoder, [encoder.prepare(Kind.TEXT, text) for text in texts])


def _captions(catalog: Catalog, most: int) -> Iterator[str]:
    """At most one of a picture, from pages that are spread over the index."""
    last = catalog.next_numbers()[0]
    pages = max(1, most // PAGE)
    seen: set[str] = set()
    for after in np.unique(np.linspace(0, last, pages, endpoint=False).astype(int)).tolist():
        for picture in catalog.living(after, PAGE):
            told = [t.text for t in picture.picture.texts if t.source != TextSource.FILENAME]
            text = min(told, key=len, default="").strip()[:LONGEST]
            if text and text not in seen and len(seen) < most:
                seen.add(text)
                yield text
