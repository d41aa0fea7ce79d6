"""Vectors of several indexes as those of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, Ranking, Vectors
from mmsearch.core.vectors import stack, top_k
from mmsearch.vector_stores.files import FileVectorStore, IndexReader, spread_positions

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot
    from mmsearch.core.federated_ids import FederatedIds
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import VectorStore


class FederatedSnapshot(Protocol):
    """The part of a snapshot of several indexes that their vectors need."""

    @property
    def ids(self) -> FederatedIds:
        """Mapping of the ids of the indexes."""

    @property
    def members(self) -> Sequence[Snapshot]:
        """Snapshots of the indexes."""

    @property
    def items_with_pixels(self) -> int:
        """Number of searchable items of different contents that have a vector."""

    @property
    def has_moments(self) -> bool:
        """True if a content has several items."""

    def sample_ids(self, count: int) -> Ids:
        """Return ids of items of different contents."""


class FederatedVectorStore:
    """The vectors of one generation of each of several indexes, as a `VectorStore`.

    Args:
        members: The vectors of each index.
        snapshot: Snapshot of these generations.
    """

    def __init__(self, members: Sequence[VectorStore], snapshot: FederatedSnapshot) -> None:
        self._members = members
        self._snapshot = snapshot
        self._ids = snapshot.ids
        self._items = snapshot.items_with_pixels
        self._sampled: tuple[int, Vectors] | None = None

    @property
    def size(self) -> int:
        """Number of searchable items of different contents that they hold."""
        if self.complete:
            return self._items
        # Of an index that lacks items, it is not known which ones are copies.
        return min(self._items - 1, sum(member.size for member in self._members))

    @property
    def complete(self) -> bool:
        """True if no index lacks vectors."""
        return all(member.complete for member in self._members)

    @property
    def device(self) -> str:
        """Devices that search the built indexes."""
        return ", ".join(dict.fromkeys(member.device for member in self._members))

    def search(
        self,
        queries: Vectors,
        k: int,
        filters: FilterTree | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the k nearest items of all indexes; see `VectorStore.search`.

        The k nearest items of each index include every one of the k nearest of all.
        """
        rankings = []
        for index, member in enumerate(self._members):
            left_out = None
            if excluded is not None:
                left_out = np.sort(self._ids.local(index, excluded)[1])
            ranking = member.search(queries, k, filters, left_out)
            is_hit = ranking.ids >= 0
            ids = np.full(ranking.ids.shape, -1)
            ids[is_hit] = self._ids.federate(index, ranking.ids[is_hit])
            rankings.append((ids, ranking.scores))
        ids = np.concatenate([each for each, _ in rankings], axis=1)
        scores = np.concatenate([each for _, each in rankings], axis=1)
        return stack([_top_k(*row, k) for row in zip(ids, scores, strict=True)], k)

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of queries and items, float32 (q, n)."""
        scores = np.empty((len(queries), len(ids)), np.float32)
        for index, positions, own in self._ids.own(ids):
            scores[:, positions] = self._members[index].scores(queries, own)
        return scores

    def sample(self, count: int) -> Vectors:
        """Return vectors of different contents, float32 (n, dim).

        Those of files are the ones that an index with the rows of all would give. Of other stores,
        each gives a share.
        """
        readers = [member.reader for member in self._members if isinstance(member, FileVectorStore)]
        if len(readers) == len(self._members):
            return self._sample_files(readers, count)
        total = max(sum(member.size for member in self._members), 1)
        samples = [
            member.sample(-(-count * member.size // total))
            for member in self._members
            if member.size
        ]
        return np.concatenate(samples) if samples else np.empty((0, 0), np.float32)

    def _sample_files(self, readers: Sequence[IndexReader], count: int) -> Vectors:
        if self._sampled is None or self._sampled[0] != count:
            ids = self._snapshot.sample_ids(count)
            if not self._snapshot.has_moments:
                ids = self._spread_ids(readers, count)
            self._sampled = count, self._read_vectors(readers, ids)
        return self._sampled[1]

    def _spread_ids(self, readers: Sequence[IndexReader], count: int) -> Ids:
        """Return ids spread evenly over the rows of all files, as of the files of one index."""
        wanted = count * sum(reader.size for reader in readers) // max(self._items, 1)
        positions = spread_positions(wanted, sum(reader.num_rows for reader in readers))
        sampled, offset = [np.empty(0, np.int64)], 0
        for index, reader in enumerate(readers):
            is_own = (positions >= offset) & (positions < offset + reader.num_rows)
            ids = reader.ids_at(positions[is_own] - offset)
            left_out = np.union1d(
                self._snapshot.members[index].deleted_ids, self._ids.copies(index)
            )
            live_ids = np.setdiff1d(ids, left_out, assume_unique=True)
            sampled.append(self._ids.federate(index, live_ids))
            offset += reader.num_rows
        every = np.concatenate(sampled)
        return every[:: max(1, len(every) // count)]

    def _read_vectors(self, readers: Sequence[IndexReader], ids: Ids) -> Vectors:
        parts = list(self._ids.own(ids))
        if not parts:
            return np.empty((0, 0), np.float32)
        rows = [readers[index].vectors(own) for index, _, own in parts]
        vectors = np.empty((len(ids), rows[0].shape[1]), np.float32)
        for (_, positions, _), read in zip(parts, rows, strict=True):
            vectors[positions] = read
        return vectors


def _top_k(ids: Ids, scores: NDArray[np.float32], k: int) -> tuple[Ids, NDArray[np.float32]]:
    """Return the k best of different items, padded; a content in several indexes counts once."""
    # The first of equal ids is that of the first index, which the content belongs to.
    unique_ids, first = np.unique(ids, return_index=True)
    first = first[unique_ids >= 0]
    return top_k(ids[first], scores[first], k)
