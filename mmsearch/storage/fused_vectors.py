"""Fused vectors of segments, and an exact in-memory index over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment


def fused_dim(fusion: Fusion, dim: int) -> int:
    """Return the dimension of fused vectors."""
    return int(fusion.fuse_query(np.eye(1, dim, dtype=np.float32)).shape[1])


def iter_fused_blocks(
    layout: IndexLayout, segments: Sequence[Segment], fusion: Fusion, excluded: Ids | None = None
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield the ids and the fused vectors of each segment.

    Args:
        layout: The index.
        segments: The segments to read, in any order.
        fusion: The fusion of a picture's vectors into one.
        excluded: Ids to leave out.

    Raises:
        DamagedFileError: A file is missing or does not match the catalog.
    """
    for segment in segments:
        held = read_segment(layout, segment)
        fused = fusion.fuse(held.images, held.texts)
        if excluded is None or not len(excluded):
            yield held.ids, fused
        else:
            kept = ~np.isin(held.ids, excluded)
            yield held.ids[kept], fused[kept]


def build_index(
    layout: IndexLayout,
    segments: Sequence[Segment],
    fusion: Fusion,
    name: str,
    plugin: VectorIndexPlugin,
) -> VectorIndex:
    """Build an exact in-memory index over all rows of segments; see `iter_fused_blocks`.

    Args:
        layout: The index.
        segments: The segments, at least one.
        fusion: The fusion of a picture's vectors into one.
        name: Name of the plugin.
        plugin: The plugin that builds the index.
    """
    spec = IndexSpec(name, fused_dim(fusion, segments[0].dim), "cpu")
    return plugin.build(spec, iter_fused_blocks(layout, segments, fusion))
