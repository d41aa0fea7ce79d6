"""Sample queries for tuning a vector index.

Up to half of them are captions of the index itself; the others are generated from a small
vocabulary of things in photographs. Real queries would be better still, but they are not stored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources

import numpy as np

from mmsearch.core.catalog import CatalogReader
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import DEFAULT_SOURCES, InputKind, Vectors
from mmsearch.core.vectors import encode_model_inputs

NUM_TUNING_QUERIES = 3072
"""Number of sample queries.

1024 of them select parameters and measure recall, the others train (`vector_indexes._tuning`).
"""

MAX_CAPTION_CHARS = 200
"""Maximum characters used of a caption: queries are short."""

PAGE_SIZE = 64


def synthetic_queries(count: int) -> list[str]:
    """Return ``count`` distinct generated descriptions, the same in every call."""
    vocabulary = tomllib.loads(
        resources.files("mmsearch.core.language_data").joinpath("things.toml").read_text()
    )
    templates = vocabulary.pop("shapes")
    random = np.random.default_rng(20)
    queries: dict[str, None] = {}
    while len(queries) < count:
        values = {kind: random.choice(terms) for kind, terms in vocabulary.items()}
        template = random.choice(templates)
        queries[template.format(**values, other=random.choice(vocabulary["things"]))] = None
    return list(queries)


def sample_tuning_queries(catalog: CatalogReader) -> list[str]:
    """Return captions from all over an index and synthetic queries, shuffled."""
    captions = list(_sample_captions(catalog, NUM_TUNING_QUERIES // 2))
    queries = synthetic_queries(NUM_TUNING_QUERIES - len(captions))
    order = np.random.default_rng(21).permutation(NUM_TUNING_QUERIES)
    candidates = captions + queries
    return [candidates[position] for position in order]


def encode_queries(encoder: Encoder, texts: list[str]) -> Vectors:
    """Return the embeddings of query texts, (n, dim)."""
    return encode_model_inputs(encoder, [encoder.prepare(InputKind.TEXT, text) for text in texts])


def _sample_captions(catalog: CatalogReader, limit: int) -> Iterator[str]:
    """Yield distinct captions, at most one per picture, from pages spread over the index."""
    # Ids have large gaps after files of several items.
    with catalog.snapshot() as snapshot:
        starts = snapshot.sample_ids(max(1, limit // PAGE_SIZE)) - 1
    seen: set[str] = set()
    for after in starts.tolist():
        for picture in catalog.list_live_pictures(after, PAGE_SIZE):
            texts = [t.text for t in picture.picture.texts if t.source in DEFAULT_SOURCES]
            text = min(texts, key=len, default="").strip()[:MAX_CAPTION_CHARS]
            if text and text not in seen and len(seen) < limit:
                seen.add(text)
                yield text
