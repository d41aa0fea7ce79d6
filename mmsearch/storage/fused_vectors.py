"""The fused vectors of segments, and an exact index over them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.records import Segment
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment


def fused_dim(fusion: Fusion, dim: int) -> int:
    """Columns of a fused vector."""
    return int(fusion.fuse_query(np.eye(1, dim, dtype=np.float32)).shape[1])


def iter_fused_blocks(
    layout: IndexLayout, segments: Sequence[Segment], fusion: Fusion, excluded: Ids | None = None
) -> Iterator[tuple[Ids, Vectors]]:
    """The ids and the fused vectors of segments, one after another.

    Args:
        layout: The index.
        segments: Any.
        fusion: Makes one vector of a picture's.
        excluded: Ids that are not wanted.

    Raises:
        DamagedFileError: A file is missing, or is not what the catalog says.
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
    """An exact vector index over all rows of segments, in memory; see `iter_fused_blocks`.

    Args:
        layout: The index.
        segments: At least one.
        fusion: Makes one vector of a picture's.
        name: Of the plugin.
        plugin: Builds it.
    """
    spec = IndexSpec(name, fused_dim(fusion, segments[0].dim), "cpu")
    return plugin.build(spec, iter_fused_blocks(layout, segments, fusion))
