"""What mmsearch itself would do with a collection: the contender that the others are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmsearch.core.protocols import VectorIndex
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.vector_indexes import faiss_flat

NAME = "mmsearch"


class Searcher:
    """See `benchmarks.speed.contenders.Contender`.

    Attributes:
        settings: From cheap to dear; of an exact index, one.
        tuned: The one that the index chose by itself, on its training queries.
        bytes_a_vector: Of what it compares a query with.
    """

    def __init__(self, index: VectorIndex, settings: Sequence[Any], tuned: Any) -> None:
        self._index = index
        self.settings = settings
        self.tuned = tuned
        self.bytes_a_vector = index.spec.dim * 2

    def choose(self, setting: Any) -> None:
        """Search like this from now on."""

    def search(self, queries: Vectors, k: int) -> Ids:
        """float32 (q, dim) -> int64 (q, k)."""
        return self._index.search(queries, k).ids


def ours(
    ids: Ids, vectors_blocks: Iterable[tuple[Ids, Vectors]], training_queries: Vectors
) -> Searcher:
    """Build the index of a collection.

    Args:
        ids: int64 (n,), of all rows.
        vectors_blocks: Ids and vectors of all rows, in blocks.
        training_queries: float32 (t, dim): all that it may be tuned on.
    """
    spec = IndexSpec("faiss_flat", training_queries.shape[1], "cpu")
    return Searcher(faiss_flat.build(spec, vectors_blocks), ["exact"], "exact")
