"""Indexes of as many pictures as one likes: random vectors, and files that nobody opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.core.protocols import Encoder
from mmsearch.core.records import Identity
from mmsearch.core.types import FusionSpec, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.build import AUTO
from mmsearch.storage.layout import IndexLayout
from tests.stored import store_vectors

BLOCK = 65_536


def fill(layout: IndexLayout, encoder: Encoder, size: int, copy: Path | None = None) -> None:
    """Make an index of random vectors.

    Args:
        layout: The index, which does not exist yet.
        encoder: It is bound to this one.
        size: Pictures.
        copy: Gets the same vectors, float32 (size, dim), as .npy.
    """
    fusion = make_fusion(FusionSpec())
    dim, identity = encoder.spec.dim, Identity(encoder.spec, fusion.spec, AUTO, ())
    whole = None
    if copy is not None:
        whole = np.lib.format.open_memmap(copy, mode="w+", dtype=np.float32, shape=(size, dim))
    with catalogs.writing(layout, 0, create=True) as catalog:
        catalog.bind(identity)
        for number, (first, vectors) in enumerate(_blocks(size, dim), start=1):
            if whole is not None:
                whole[first : first + len(vectors)] = vectors
            store_vectors(layout, catalog, encoder.spec, vectors, first + 1, number)
        builder = index_builder(layout, catalog, lambda: encoder)
        nothing = np.empty(0, np.int64)
        catalog.publish(builder.build(catalog.segments(), fusion, identity, nothing))
    if whole is not None:
        whole.flush()


def _blocks(size: int, dim: int) -> Iterator[tuple[int, Vectors]]:
    random = np.random.default_rng(0)
    for first in range(0, size, BLOCK):
        rows = random.standard_normal((min(BLOCK, size - first), dim), dtype=np.float32)
        yield first, as_unit_vectors(rows)
