"""The vector index that mmsearch builds for a collection, as the contender that peers must beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsearch.core.types import Ids, IndexSpec, TrainingData, Vectors
from mmsearch.vector_indexes import faiss_fastscan
from mmsearch.vector_indexes.faiss_fastscan import FaissFastScanIndex

NAME = "mmsearch"
DEPTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)


class MmsearchContender:
    """An index of mmsearch; see `benchmarks.speed.contenders.Contender`.

    Attributes:
        settings: Numbers of candidates, from cheap to expensive.
        tuned: Setting that the index chose itself, on its training queries.
        bytes_per_vector: Bytes per vector of the scanned codes; the float16 rows stay on disk.
    """

    def __init__(self, index: FaissFastScanIndex) -> None:
        self.tuned: int = index.stats["depth"]
        self.settings: Sequence[int] = sorted({*DEPTHS, self.tuned})
        self.bytes_per_vector = index.stats["code_bytes"] / len(index.ids)
        self._index = self._active = index

    def apply_setting(self, setting: int) -> None:
        """Use a setting for all further searches."""
        self._active = self._index.with_candidate_depth(setting)

    def search(self, queries: Vectors, k: int) -> Ids:
        """Return the ids of the k best rows, int64 (q, k), for queries, float32 (q, dim)."""
        return self._active.search(queries, k).ids


def build_contender(
    ids: Ids, vectors_blocks: Iterable[tuple[Ids, Vectors]], training_queries: Vectors
) -> MmsearchContender:
    """Build the index of a collection.

    Args:
        ids: Ids of all rows, int64 (n,).
        vectors_blocks: Ids and vectors of all rows, in blocks.
        training_queries: The only queries that it may be tuned on, float32 (t, dim).
    """
    spec = IndexSpec("faiss_fastscan", training_queries.shape[1], "cpu")
    index = faiss_fastscan.build(spec, vectors_blocks, TrainingData(training_queries))
    if not isinstance(index, FaissFastScanIndex) or "depth" not in index.stats:
        raise RuntimeError("no setting reached the recall that is wanted")
    return MmsearchContender(index)
