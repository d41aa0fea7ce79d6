"""Segments -> one vector index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmsearch.core.layout import IndexLayout
from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin
from mmsearch.core.records import BuiltIndex, Segment
from mmsearch.core.segments import read_segment
from mmsearch.core.types import Ids, IndexSpec, Vectors


def fused_width(fusion: Fusion, dim: int) -> int:
    """Columns of a fused vector."""
    return int(fusion.fuse_query(np.eye(1, dim, dtype=np.float32)).shape[1])


def fused_blocks(
    layout: IndexLayout, segments: Sequence[Segment], fusion: Fusion, left_out: Ids | None = None
) -> Iterator[tuple[Ids, Vectors]]:
    """The ids and the fused vectors of segments, one after another.

    Args:
        layout: The index.
        segments: Any.
        fusion: Makes one vector of a picture's.
        left_out: Ids that are not wanted.

    Raises:
        DamagedFileError: A file is missing, or is not what the catalog says.
    """
    for segment in segments:
        held = read_segment(layout, segment)
        fused = fusion.fuse(held.images, held.texts)
        if left_out is None or not len(left_out):
            yield held.ids, fused
        else:
            kept = ~np.isin(held.ids, left_out)
            yield held.ids[kept], fused[kept]


def build_index(
    layout: IndexLayout,
    segments: Sequence[Segment],
    fusion: Fusion,
    name: str,
    plugin: VectorIndexPlugin,
    left_out: Ids | None = None,
) -> VectorIndex:
    """A vector index over all rows of segments; see `fused_blocks`.

    Args:
        layout: The index.
        segments: At least one.
        fusion: Makes one vector of a picture's.
        name: Of the plugin.
        plugin: Builds it.
        left_out: Ids that are not wanted.
    """
    spec = IndexSpec(name, fused_width(fusion, segments[0].dim), "cpu")
    return plugin.build(spec, fused_blocks(layout, segments, fusion, left_out))


def save_index(
    layout: IndexLayout,
    segments: Sequence[Segment],
    fusion: Fusion,
    name: str,
    plugin: VectorIndexPlugin,
    left_out: Ids,
) -> BuiltIndex:
    """Build a vector index and write it; it counts once the catalog names it.

    See `build_index`.
    """
    index = build_index(layout, segments, fusion, name, plugin, left_out)
    stamp = index.save(layout.built(layout.next_built_number(), plugin.SUFFIX))
    return BuiltIndex(
        spec_name=name,
        stamp=stamp,
        rows=len(index.ids),
        covers=segments[-1].number,
        settings={"dim": index.spec.dim, "recall": 1.0, "reason": "exact search"},
    )
