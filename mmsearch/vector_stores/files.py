"""Vectors in the files of an index: the built vector index and the newer segments.

Deleted pictures stay in the files, and are excluded by their ids. Filters become ids that may be
found, in the catalog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.identity import check_encoder
from mmsearch.core.types import FusionSpec, Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vectors import find_positions, merge_rankings, row_scores, stack
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_image_vectors
from mmsearch.vector_stores._common import find_allowed, open_tail, reader_key, search_live

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import Encoder, Fusion, VectorIndex, VectorIndexPlugin
    from mmsearch.core.records import Segment


@dataclass
class IndexReader:
    """Searchable vectors of a generation.

    Deleted and allowed ids change between generations without new vectors, so callers pass them.

    Attributes:
        key: The encoder, the fusion, and the checksums of the files that were opened.
        leaves: Vector indexes, the built one first.
        hidden: Ids of the rows of each leaf that a later leaf replaces, ascending.
        device: Device that searches the built index.
    """

    key: tuple[object, ...]
    leaves: tuple[VectorIndex, ...]
    hidden: tuple[Ids, ...]
    device: str
    _sample: tuple[tuple[int, int], Vectors] | None = field(default=None, init=False, repr=False)
    _searchable: tuple[int, int] | None = field(default=None, init=False, repr=False)

    @property
    def size(self) -> int:
        """Number of vectors, including deleted ones."""
        return sum(
            len(leaf.ids) - len(hidden)
            for leaf, hidden in zip(self.leaves, self.hidden, strict=True)
        )

    def sample_ids(self, count: int) -> Ids:
        """Return ids spread evenly over the index, ascending, including deleted ones.

        Args:
            count: Number of ids; fewer are returned if the index is smaller.
        """
        return self.ids_at(spread_positions(count, self.num_rows))

    @property
    def num_rows(self) -> int:
        """Number of rows, including deleted ones and those that a later leaf replaces."""
        return sum(len(leaf.ids) for leaf in self.leaves)

    def ids_at(self, positions: NDArray[np.int64]) -> Ids:
        """Return the different ids of rows by their positions, from 0 to `num_rows`, ascending."""
        sampled, offset = [np.empty(0, np.int64)], 0
        for leaf in self.leaves:
            local_positions = (
                positions[(positions >= offset) & (positions < offset + len(leaf.ids))] - offset
            )
            sampled.append(leaf.ids[local_positions])
            offset += len(leaf.ids)
        return np.unique(np.concatenate(sampled))

    def search(
        self, queries: Vectors, k: int, deleted_ids: Ids, allowed: Ids | None = None
    ) -> Ranking:
        """Return the top k pictures of each query.

        Args:
            queries: (q, dim).
            k: Number of results for each query.
            deleted_ids: Ids to exclude.
            allowed: Ids that may be returned, without deleted ones; None for all except
                ``deleted_ids``.
        """
        if not self.leaves:
            return stack([(np.full(k, -1), np.full(k, -np.inf))] * len(queries), k)
        rankings = []
        for leaf, hidden in zip(self.leaves, self.hidden, strict=True):
            if allowed is not None:
                visible = np.setdiff1d(allowed, hidden) if len(hidden) else allowed
                rankings.append(leaf.search(queries, k, visible))
            else:
                excluded = np.union1d(deleted_ids, hidden) if len(hidden) else deleted_ids
                rankings.append(search_live(leaf, queries, k, excluded))
        return rankings[0] if len(rankings) == 1 else merge_rankings(rankings, k)

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids in their order, float32 (n, dim). A leaf must hold each id."""
        # Rows of a later leaf replace those of an earlier one.
        dim = self.leaves[0].spec.dim if self.leaves else 0
        rows = np.empty((len(ids), dim), dtype=np.float32)
        for leaf in self.leaves:
            mask = np.searchsorted(leaf.ids, ids) < np.searchsorted(leaf.ids, ids, side="right")
            rows[mask] = leaf.vectors(ids[mask])
        return rows

    def count_searchable(self, snapshot: Snapshot) -> int:
        """Return the number of vectors without deleted ones. It is kept for later queries."""
        if self._searchable is None or self._searchable[0] != snapshot.generation:
            count = 0
            for leaf, hidden in zip(self.leaves, self.hidden, strict=True):
                excluded = np.union1d(snapshot.deleted_ids, hidden)
                count += len(leaf.ids) - len(find_positions(leaf.ids, excluded))
            self._searchable = snapshot.generation, count
        return self._searchable[1]

    def background_sample(self, snapshot: Snapshot, count: int) -> Vectors:
        """Return vectors of pictures spread evenly over the index, float32 (n, dim).

        Deleted pictures are left out. The sample of a generation is kept for later queries.

        Args:
            snapshot: Snapshot of the generation.
            count: Approximate maximum number of pictures.
        """
        key = snapshot.generation, count
        if self._sample is None or self._sample[0] != key:
            self._sample = key, self.vectors(self._background_ids(snapshot, count))
        return self._sample[1]

    def _background_ids(self, snapshot: Snapshot, count: int) -> Ids:
        if snapshot.has_moments:
            # Thousands of moments of one film would be most of the background.
            return snapshot.sample_ids(count)
        drawn_ids = self.sample_ids(count * self.size // max(snapshot.items_with_pixels, 1))
        live_ids = np.setdiff1d(drawn_ids, snapshot.deleted_ids, assume_unique=True)
        return live_ids[:: max(1, len(live_ids) // count)]


def spread_positions(count: int, num_rows: int) -> NDArray[np.int64]:
    """Return positions spread evenly over a number of rows, int64; at most ``count``."""
    return np.linspace(0, num_rows - 1, min(count, num_rows)).astype(np.int64)


@dataclass(frozen=True)
class FileVectorStore:
    """The vectors of one generation, as a `VectorStore`.

    Attributes:
        reader: Reader of the files.
        snapshot: Snapshot of the generation.
    """

    reader: IndexReader
    snapshot: Snapshot

    @property
    def size(self) -> int:
        """Number of searchable items."""
        return self.reader.count_searchable(self.snapshot)

    @property
    def complete(self) -> bool:
        """True if every searchable item with pixels has a vector."""
        return self.size == self.snapshot.items_with_pixels

    @property
    def device(self) -> str:
        """Device that searches the built index."""
        return self.reader.device

    def search(
        self,
        queries: Vectors,
        k: int,
        filters: FilterTree | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the k nearest items; see `VectorStore.search`."""
        deleted_ids, allowed = find_allowed(self.snapshot, filters, excluded)
        return self.reader.search(queries, k, deleted_ids, allowed)

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of queries and items, float32 (q, n)."""
        if not len(ids):
            return np.empty((len(queries), 0), dtype=np.float32)
        return row_scores(self.reader.vectors(ids), queries[:, None, :])

    def sample(self, count: int) -> Vectors:
        """Return vectors of different contents, float32 (n, dim)."""
        return self.reader.background_sample(self.snapshot, count)


def read_stored_image_vectors(layout: IndexLayout, snapshot: Snapshot, ids: Ids) -> Vectors:
    """Return the image vectors of ids in their order from the segments, float32 (n, dim).

    Raises:
        DamagedFileError: A segment is missing or does not match the catalog.
    """
    ids_by_segment: dict[Segment, list[int]] = {}
    for image_id, segment in snapshot.find_segments(ids.tolist()).items():
        ids_by_segment.setdefault(segment, []).append(image_id)
    row_by_id: dict[int, NDArray[np.float32]] = {}
    for segment, segment_ids in ids_by_segment.items():
        rows = read_image_vectors(layout, segment, segment_ids)
        row_by_id.update(zip(segment_ids, rows, strict=True))
    return np.stack([row_by_id[image_id] for image_id in ids.tolist()])


class IndexReaderCache:
    """Opens index readers and stores of them, and keeps the last reader until the files change.

    Args:
        layout: Files of the index.
        encoder: Encoder that the vectors of the index must come from.
        find_plugin: Returns a vector index plugin by its name.
        tail_plugin_name: Name of the plugin that searches the segments added since the last build.
        device: Device of the built index; see `Settings.device`.
        make_fusion: Creates a fusion.
    """

    def __init__(
        self,
        layout: IndexLayout,
        encoder: Encoder,
        find_plugin: Callable[[str], VectorIndexPlugin],
        tail_plugin_name: str,
        device: str,
        make_fusion: Callable[[FusionSpec], Fusion],
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._find_plugin = find_plugin
        self._make_fusion = make_fusion
        self._tail_plugin_name = tail_plugin_name
        self._device = device
        self._reader: IndexReader | None = None

    def open_store(self, snapshot: Snapshot) -> FileVectorStore:
        """Return the vectors of a generation; raises the errors of `get`."""
        return FileVectorStore(self.get(snapshot), snapshot)

    def get(self, snapshot: Snapshot) -> IndexReader:
        """Return the reader of a generation.

        Raises:
            EncoderMismatchError: The vectors come from a different encoder.
            DamagedFileError: A file is missing or does not match the catalog.
        """
        identity, key = snapshot.identity, reader_key(snapshot)
        if self._reader is None or self._reader.key != key:
            if identity is not None:
                check_encoder(identity, self._encoder)
            # Free the old reader first: both together may exceed the memory of a GPU.
            self._reader = None
            self._reader = self._open(key, snapshot)
        return self._reader

    def _open(self, key: tuple[object, ...], snapshot: Snapshot) -> IndexReader:
        fusion = self._make_fusion(snapshot.identity.fusion if snapshot.identity else FusionSpec())
        leaves: list[VectorIndex] = []
        hidden: list[Ids] = []
        device = "cpu"
        if snapshot.built is not None:
            built = snapshot.built
            plugin = self._find_plugin(built.plugin_name)
            spec = IndexSpec(built.plugin_name, int(built.settings["dim"]), self._device)
            index = plugin.load(spec, self._layout.local_path(built.file_ref), built.file_ref)
            if len(index.ids) != built.rows:
                raise DamagedFileError(
                    f"{self._layout.path(built.file_ref)} holds {len(index.ids)} vectors, but the "
                    f"catalog lists {built.rows}."
                )
            leaves.append(index)
            hidden.append(snapshot.moved_ids(built.covers))
            device = index.device
        tail = open_tail(self._layout, snapshot, fusion, self._find_plugin, self._tail_plugin_name)
        if tail is not None:
            leaves.append(tail)
            hidden.append(np.empty(0, np.int64))
        return IndexReader(key, tuple(leaves), tuple(hidden), device)
