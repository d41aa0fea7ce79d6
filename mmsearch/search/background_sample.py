"""Sample of the library that each query is compared with to find its usual similarity."""

from __future__ import annotations

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.types import Ids, Vectors
from mmsearch.search.index_reader import IndexReader

SAMPLE_SIZE = 1000
"""Maximum number of pictures in the sample."""


class BackgroundSample:
    """Draws the sample of a generation and caches it for later queries."""

    def __init__(self) -> None:
        self._cached: tuple[tuple[object, ...], Vectors] | None = None

    def vectors(self, reader: IndexReader, snapshot: Snapshot) -> Vectors:
        """Return the vectors of the sample, float32 (n, dim), without deleted pictures.

        The pictures are spread evenly over the index.

        Args:
            reader: Reader of the generation.
            snapshot: Snapshot of the same generation.
        """
        key = (reader.key, snapshot.generation)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, reader.vectors(_sample_ids(reader, snapshot))
        return self._cached[1]


def _sample_ids(reader: IndexReader, snapshot: Snapshot) -> Ids:
    count = SAMPLE_SIZE * reader.size // max(snapshot.pictures, 1)
    live_ids = np.setdiff1d(reader.sample_ids(count), snapshot.deleted_ids, assume_unique=True)
    return live_ids[:: max(1, len(live_ids) // SAMPLE_SIZE)]
