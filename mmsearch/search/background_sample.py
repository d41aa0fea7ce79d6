"""Pictures of all kinds, with which every query is compared to tell what is usual here."""

from __future__ import annotations

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.types import Ids, Vectors
from mmsearch.search.index_reader import View

SAMPLE_ROWS = 1000
"""Pictures of the library that a query is compared with."""


class Sampler:
    """Picks the sample of a generation, and keeps it for the next query."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], Vectors] | None = None

    def vectors(self, view: View, snapshot: Snapshot) -> Vectors:
        """float32 (n, dim): living pictures from all over the index; n is `SAMPLE_ROWS` at most.

        Args:
            view: Of the generation.
            snapshot: Of the same.
        """
        key = (view.key, snapshot.generation)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, view.vectors(_sample(view, snapshot))
        return self._kept[1]


def _sample(view: View, snapshot: Snapshot) -> Ids:
    share = SAMPLE_ROWS * view.size // max(snapshot.pictures, 1)
    living = np.setdiff1d(view.spread(share), snapshot.dead_ids, assume_unique=True)
    return living[:: max(1, len(living) // SAMPLE_ROWS)]
