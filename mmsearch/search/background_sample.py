"""Pictures of all kinds, with which every query is compared to tell what is usual here."""

from __future__ import annotations

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.types import Ids, Vectors
from mmsearch.search.index_reader import IndexReader

SAMPLE_SIZE = 1000
"""Pictures of the library that a query is compared with."""


class BackgroundSample:
    """Picks the sample of a generation, and keeps it for the next query."""

    def __init__(self) -> None:
        self._cached: tuple[tuple[object, ...], Vectors] | None = None

    def vectors(self, reader: IndexReader, snapshot: Snapshot) -> Vectors:
        """float32 (n, dim): living pictures from all over the index; n is `SAMPLE_SIZE` at most.

        Args:
            reader: Of the generation.
            snapshot: Of the same.
        """
        key = (reader.key, snapshot.generation)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, reader.vectors(_sample_ids(reader, snapshot))
        return self._cached[1]


def _sample_ids(reader: IndexReader, snapshot: Snapshot) -> Ids:
    count = SAMPLE_SIZE * reader.size // max(snapshot.pictures, 1)
    live_ids = np.setdiff1d(reader.sample_ids(count), snapshot.deleted_ids, assume_unique=True)
    return live_ids[:: max(1, len(live_ids) // SAMPLE_SIZE)]
