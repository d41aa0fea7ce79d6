"""Code that vector stores share: newer segments, and the items that a search may return."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vectors import find_positions
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import fused_dim, iter_fused_blocks

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import Fusion, VectorIndex, VectorIndexPlugin

MAX_OVERFETCH = 1000
"""Maximum number of deleted ids to over-fetch; beyond it, a filter is cheaper."""


def reader_key(snapshot: Snapshot) -> tuple[object, ...]:
    """Return what identifies the vectors of a generation: one reader serves all that share it."""
    identity, built = snapshot.identity, snapshot.built
    # Checksums, not file names: names can repeat with other content, such as after a restore.
    return (
        identity and identity.encoder,
        identity and identity.fusion,
        built and built.file_ref.sha256,
        *map(attrgetter("file_ref.sha256"), snapshot.unindexed_segments),
    )


def find_allowed(
    snapshot: Snapshot, filters: FilterTree | None, excluded: Ids | None
) -> tuple[Ids, Ids | None]:
    """Return the ids that a search must not return, and those that it may; None for all others.

    Args:
        snapshot: Snapshot of the generation.
        filters: Filters that items must pass; None for all items.
        excluded: Ids of further items that must not be returned.
    """
    deleted_ids = snapshot.deleted_ids
    allowed = None if filters is None else snapshot.filter_ids(filters)
    if excluded is not None:
        deleted_ids = np.union1d(deleted_ids, excluded)
        allowed = None if allowed is None else np.setdiff1d(allowed, excluded)
    return deleted_ids, allowed


def open_tail(
    layout: IndexLayout,
    snapshot: Snapshot,
    fusion: Fusion,
    find_plugin: Callable[[str], VectorIndexPlugin],
    plugin_name: str,
) -> VectorIndex | None:
    """Return an index in memory of the segments that no built index covers; None without any.

    Args:
        layout: Files of the index.
        snapshot: Snapshot of the generation.
        fusion: Combines the vectors of a picture into one.
        find_plugin: Returns a vector index plugin by its name.
        plugin_name: Name of the plugin that searches them.

    Raises:
        DamagedFileError: A segment is missing or does not match the catalog.
    """
    segments = snapshot.unindexed_segments
    if not segments:
        return None
    spec = IndexSpec(plugin_name, fused_dim(fusion, segments[0].dim), "cpu")
    stale_rows = snapshot.stale_rows(above=segments[0].number - 1)
    blocks = iter_fused_blocks(layout, segments, fusion, stale_rows)
    return find_plugin(plugin_name).build(spec, blocks)


def search_live(leaf: VectorIndex, queries: Vectors, k: int, deleted_ids: Ids) -> Ranking:
    """Return the k nearest rows of an index for each query, without those of some ids."""
    if not len(deleted_ids):
        return leaf.search(queries, k)
    deleted_ids = leaf.ids[find_positions(leaf.ids, deleted_ids)]
    if len(deleted_ids) > MAX_OVERFETCH:
        return leaf.search(queries, k, np.setdiff1d(leaf.ids, deleted_ids, assume_unique=True))
    ranking = leaf.search(queries, k, spare=len(deleted_ids))
    is_deleted = np.isin(ranking.ids, deleted_ids)
    # A deleted neighbour sorts last, with the padding, so that the cut to k removes it.
    scores = np.where(is_deleted, -np.inf, ranking.scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    ids = np.where(is_deleted, -1, ranking.ids)
    return Ranking(
        np.take_along_axis(ids, order, axis=1)[:, :k],
        np.take_along_axis(scores, order, axis=1)[:, :k],
    )
