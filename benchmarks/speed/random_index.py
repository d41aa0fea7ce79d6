"""Indexes of any size, made of random vectors and of files that are never opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmsearch.core.identity import Identity
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import FusionSpec, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.build import AUTO
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import store_vectors

BLOCK = 65_536


def fill_index(
    layout: IndexLayout, encoder: Encoder, size: int, vectors_path: Path | None = None
) -> None:
    """Create an index of random vectors.

    Args:
        layout: Layout of the index, which must not exist yet.
        encoder: Encoder that the index is bound to.
        size: Number of pictures.
        vectors_path: Path of a .npy file for the same vectors, float32 (size, dim); None writes
            no such file.
    """
    fusion = make_fusion(FusionSpec())
    dim, identity = encoder.spec.dim, Identity(encoder.spec, fusion.spec, AUTO, ())
    vectors_file = None
    if vectors_path is not None:
        vectors_file = np.lib.format.open_memmap(
            vectors_path, mode="w+", dtype=np.float32, shape=(size, dim)
        )
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.set_identity(identity)
        for number, (first, vectors) in enumerate(_random_blocks(size, dim), start=1):
            if vectors_file is not None:
                vectors_file[first : first + len(vectors)] = vectors
            store_vectors(layout, catalog, encoder.spec, vectors, first + 1, number)
        builder = make_index_builder(layout, catalog, lambda: encoder)
        catalog.publish(builder.build(catalog.segments(), fusion, identity, {}))
    if vectors_file is not None:
        vectors_file.flush()


def _random_blocks(size: int, dim: int) -> Iterator[tuple[int, Vectors]]:
    random = np.random.default_rng(0)
    for first in range(0, size, BLOCK):
        rows = random.standard_normal((min(BLOCK, size - first), dim), dtype=np.float32)
        yield first, as_unit_vectors(rows)
