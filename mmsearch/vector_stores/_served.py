"""The vectors of a generation whose built index is a collection on a search server.

The collection never changes. Segments that are newer are searched in memory, deleted items and
former embeddings are left out by their ids, and every filter is that of the catalog: the server may
evaluate it only for items whose fields are as they were when the collection was built.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.identity import check_encoder
from mmsearch.core.server_filters import make_server_condition
from mmsearch.core.types import FusionSpec, Ids, Ranking, Vectors
from mmsearch.core.vector_servers import MAX_EXACT_IDS, MIN_CANDIDATES, VectorCollection
from mmsearch.core.vectors import merge_rankings, row_scores
from mmsearch.vector_stores._common import find_allowed, open_tail, reader_key, search_live
from mmsearch.vector_stores._pointer import read_pointer

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import Encoder, Fusion, VectorIndex, VectorIndexPlugin
    from mmsearch.core.query import Condition
    from mmsearch.core.records import BuiltVectorIndex
    from mmsearch.core.vector_servers import VectorServer
    from mmsearch.storage.layout import IndexLayout

PREFIX_K = 100
"""Results up to this length are prefixes of each other: they are decided by the same candidates."""

COUNT_INTERVAL_S = 1.0
"""Minimum seconds between two counts of the rows on the server."""


@dataclass
class CollectionReader:
    """A collection and the newer segments.

    Attributes:
        key: What identifies the files that were opened.
        name: Name of the collection.
        collection: The collection.
        moved_ids: Ids of its rows that a newer segment replaces, ascending.
        tail: Index of the newer segments; None without any.
        device: Name of the plugin of the server, for display.
    """

    key: tuple[object, ...]
    name: str
    collection: VectorCollection
    moved_ids: Ids
    tail: VectorIndex | None
    device: str
    _missing: tuple[float, int, int] | None = field(default=None, init=False, repr=False)
    _sample: tuple[bytes, Vectors] | None = field(default=None, init=False, repr=False)

    @property
    def tail_ids(self) -> Ids:
        """Ids of the newer segments, ascending."""
        return np.empty(0, np.int64) if self.tail is None else self.tail.ids

    def count_missing(self) -> int:
        """Return the number of rows that the server has lost or not loaded.

        It is the larger one of the last two counts, if they are close in time: rows that a search
        lacked may be back when they are counted after it.
        """
        now = time.monotonic()
        counted_at, _, last = self._missing or (-math.inf, 0, 0)
        if now - counted_at >= COUNT_INTERVAL_S:
            missing = max(0, self.collection.rows - self.collection.count())
            former = last if now - counted_at < 2 * COUNT_INTERVAL_S else 0
            self._missing = now, former, missing
        return 0 if self._missing is None else max(self._missing[1:])

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors of ids, float32 (n, dim); NaN for those that the server lacks."""
        in_tail = np.isin(ids, self.tail_ids)
        stored_ids = ids[~in_tail]
        # The vectors of a sample take the server longer than a search, and it stays the same.
        if self._sample is None or self._sample[0] != stored_ids.tobytes():
            self._sample = stored_ids.tobytes(), self.collection.vectors(stored_ids)
        rows = np.full((len(ids), self.collection.dim), np.nan, np.float32)
        rows[~in_tail] = self._sample[1]
        if self.tail is not None:
            rows[in_tail] = self.tail.vectors(ids[in_tail])
        return rows

    def keep_sample(self, former: CollectionReader) -> None:
        """Take over the sample of a reader of the same collection."""
        if former.name == self.name:
            self._sample = former._sample


@dataclass(frozen=True)
class ServedVectorStore:
    """The vectors of one generation, as a `VectorStore`.

    Attributes:
        reader: Its collection and newer segments.
        snapshot: Snapshot of the generation.
    """

    reader: CollectionReader
    snapshot: Snapshot

    @property
    def size(self) -> int:
        """Number of items that can be found now."""
        return max(0, self.snapshot.items_with_pixels - self.reader.count_missing())

    @property
    def complete(self) -> bool:
        """True if the server has all rows of the collection."""
        return self.reader.count_missing() == 0

    @property
    def device(self) -> str:
        """Name of the plugin of the server."""
        return self.reader.device

    def search(
        self,
        queries: Vectors,
        k: int,
        filters: FilterTree | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the k nearest items; see `VectorStore.search`."""
        # Counted before as well as after: `complete` must not miss rows that come back meanwhile.
        self.reader.count_missing()
        reader = self.reader
        deleted_ids, allowed = find_allowed(self.snapshot, filters, excluded)
        if filters is None or allowed is None:
            hidden = np.union1d(deleted_ids, reader.moved_ids)
            ranking = self._search_all(queries, k, hidden)
        else:
            visible = np.setdiff1d(allowed, reader.moved_ids, assume_unique=True)
            ranking = self._search_filtered(queries, k, filters, visible)
        if reader.tail is None:
            return Ranking(ranking.ids[:, :k], ranking.scores[:, :k])
        if allowed is not None:
            return merge_rankings([ranking, reader.tail.search(queries, k, allowed)], k)
        return merge_rankings([ranking, search_live(reader.tail, queries, k, deleted_ids)], k)

    def _search_all(self, queries: Vectors, k: int, hidden: Ids) -> Ranking:
        """Return the nearest rows of the collection without hidden ones."""
        found = self._find_candidates(queries, k)
        kept = _keep(found, np.isin(found.ids, hidden, invert=True), k)
        # A row with padding is all that the collection has.
        if _has_enough(kept, k) or not len(hidden) or (found.ids[:, -1] < 0).all():
            return kept
        found = self._find_candidates(queries, k, excluded=hidden)
        return _keep(found, np.isin(found.ids, hidden, invert=True), k)

    def _search_filtered(
        self, queries: Vectors, k: int, filters: FilterTree, visible: Ids
    ) -> Ranking:
        """Return the nearest rows of the collection among visible ids, which pass the filters."""
        collection = self.reader.collection
        if len(visible) > MAX_EXACT_IDS:
            condition = make_server_condition(filters)
            if condition is not None and collection.evaluates(condition):
                ranking = self._search_by_condition(queries, k, condition, visible)
                if ranking is not None:
                    return ranking
        found = collection.search(queries, max(k, MIN_CANDIDATES), only=visible)
        return _keep(found, found.ids >= 0, k)

    def _search_by_condition(
        self, queries: Vectors, k: int, condition: Condition, visible: Ids
    ) -> Ranking | None:
        """Return the nearest rows that pass a condition; None if the server cannot find enough."""
        changed = self.snapshot.changed_fields
        if changed is None:
            return None
        found = self._find_candidates(queries, k, condition=condition)
        # By its old fields, the server may pass an item that has changed, or that is near a circle.
        is_hit = np.isin(found.ids, visible) & np.isin(found.ids, changed, invert=True)
        ranking = _keep(found, is_hit, k)
        if not _has_enough(ranking, k):
            return None
        passing = np.intersect1d(changed, visible, assume_unique=True)
        if not len(passing):
            return ranking
        found = self.reader.collection.search(queries, max(k, MIN_CANDIDATES), only=passing)
        return merge_rankings([ranking, _keep(found, found.ids >= 0, k)], k)

    def _find_candidates(
        self,
        queries: Vectors,
        k: int,
        *,
        condition: Condition | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        return self.reader.collection.search(
            queries, max(k, MIN_CANDIDATES), condition=condition, excluded=excluded
        )

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of queries and items, float32 (q, n)."""
        scores = np.empty((len(queries), len(ids)), dtype=np.float32)
        if not len(ids):
            return scores
        in_tail = np.isin(ids, self.reader.tail_ids)
        if self.reader.tail is not None and in_tail.any():
            rows = self.reader.tail.vectors(ids[in_tail])
            scores[:, in_tail] = row_scores(rows, queries[:, None, :])
        if not in_tail.all():
            scores[:, ~in_tail] = self.reader.collection.scores(queries, ids[~in_tail])
        return scores

    def sample(self, count: int) -> Vectors:
        """Return vectors of different contents, float32 (n, dim)."""
        if self.snapshot.has_moments:
            # Thousands of moments of one film would be most of the sample.
            ids = self.snapshot.sample_ids(count)
        else:
            drawn = [self.reader.collection.sample_ids(count), self.reader.tail_ids]
            ids = np.unique(np.concatenate(drawn))
            ids = ids[:: max(1, -(-len(ids) // count))]
        vectors = self.reader.vectors(ids)
        is_live = np.isin(ids, self.snapshot.deleted_ids, invert=True)
        return vectors[is_live & ~np.isnan(vectors[:, 0])]


class CollectionReaderCache:
    """Opens collections and stores of them, and keeps the last reader until the files change.

    Args:
        layout: Files of the index.
        encoder: Encoder that the vectors of the index must come from.
        open_server: Returns the search server, by the name of its plugin.
        find_plugin: Returns a vector index plugin by its name.
        tail_plugin_name: Name of the plugin that searches the segments added since the last build.
        make_fusion: Creates a fusion.
    """

    def __init__(
        self,
        layout: IndexLayout,
        encoder: Encoder,
        open_server: Callable[[str], VectorServer],
        find_plugin: Callable[[str], VectorIndexPlugin],
        tail_plugin_name: str,
        make_fusion: Callable[[FusionSpec], Fusion],
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._open_server = open_server
        self._find_plugin = find_plugin
        self._tail_plugin_name = tail_plugin_name
        self._make_fusion = make_fusion
        self._reader: CollectionReader | None = None

    def open_store(self, snapshot: Snapshot, built: BuiltVectorIndex) -> ServedVectorStore:
        """Return the vectors of a generation.

        Args:
            snapshot: Snapshot of the generation.
            built: Its built index, which is a collection.

        Raises:
            EncoderMismatchError: The vectors come from a different encoder.
            DamagedFileError: A file is missing or does not match the catalog.
            ServerError: The server cannot be used, or lacks the collection.
        """
        identity, key = snapshot.identity, reader_key(snapshot)
        if self._reader is None or self._reader.key != key:
            if identity is not None:
                check_encoder(identity, self._encoder)
            former, self._reader = self._reader, self._open(key, snapshot, built)
            if former is not None:
                self._reader.keep_sample(former)
        return ServedVectorStore(self._reader, snapshot)

    def _open(
        self, key: tuple[object, ...], snapshot: Snapshot, built: BuiltVectorIndex
    ) -> CollectionReader:
        pointer = read_pointer(self._layout.local_path(built.file_ref), built)
        fusion = self._make_fusion(snapshot.identity.fusion if snapshot.identity else FusionSpec())
        server = self._open_server(built.plugin_name)
        return CollectionReader(
            key,
            pointer.collection,
            server.open(pointer.collection, pointer.dim, pointer.rows),
            snapshot.moved_ids(built.covers),
            open_tail(self._layout, snapshot, fusion, self._find_plugin, self._tail_plugin_name),
            built.plugin_name,
        )


def _has_enough(ranking: Ranking, k: int) -> bool:
    """Return True if each query has as many results as those of every shorter page need."""
    wanted = max(k, PREFIX_K)
    return bool(ranking.ids.shape[1] >= wanted and (ranking.ids[:, wanted - 1] >= 0).all())


def _keep(found: Ranking, mask: NDArray[np.bool_], k: int) -> Ranking:
    """Return the results at which a mask (q, n) is True, in their order, at least `PREFIX_K`."""
    is_kept = mask & (found.ids >= 0)
    order = np.argsort(~is_kept, axis=1, kind="stable")[:, : max(k, PREFIX_K)]
    kept = np.take_along_axis(is_kept, order, axis=1)
    return Ranking(
        np.where(kept, np.take_along_axis(found.ids, order, axis=1), -1),
        np.where(kept, np.take_along_axis(found.scores, order, axis=1), np.float32(-np.inf)),
    )
