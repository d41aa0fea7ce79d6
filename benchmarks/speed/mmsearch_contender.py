"""What mmsearch would do with a collection: the contender that the others are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmsearch.core.types import Ids, IndexSpec, TrainingData, Vectors
from mmsearch.vector_indexes import faiss_fastscan
from mmsearch.vector_indexes.faiss_fastscan import FaissFastScanIndex

NAME = "mmsearch"
DEPTHS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)


class MmsearchContender:
    """See `benchmarks.speed.contenders.Contender`.

    Attributes:
        settings: Numbers of candidates, from cheap to dear.
        tuned: The one that the index chose by itself, on its training queries.
        bytes_per_vector: Of the codes that are scanned; the float16 rows stay on disk.
    """

    def __init__(self, index: FaissFastScanIndex) -> None:
        self.tuned: int = index.stats["depth"]
        self.settings: Sequence[int] = sorted({*DEPTHS, self.tuned})
        self.bytes_per_vector = index.stats["code_bytes"] / len(index.ids)
        self._index = self._active = index

    def apply_setting(self, setting: int) -> None:
        """Search like this from now on."""
        self._active = self._index.with_candidate_depth(setting)

    def search(self, queries: Vectors, k: int) -> Ids:
        """float32 (q, dim) -> int64 (q, k)."""
        return self._active.search(queries, k).ids


def build_contender(
    ids: Ids, vectors_blocks: Iterable[tuple[Ids, Vectors]], training_queries: Vectors
) -> MmsearchContender:
    """Build the index of a collection.

    Args:
        ids: int64 (n,), of all rows.
        vectors_blocks: Ids and vectors of all rows, in blocks.
        training_queries: float32 (t, dim): all that it may be tuned on.
    """
    spec = IndexSpec("faiss_fastscan", training_queries.shape[1], "cpu")
    index = faiss_fastscan.build(spec, vectors_blocks, TrainingData(training_queries))
    if not isinstance(index, FaissFastScanIndex) or "depth" not in index.stats:
        raise RuntimeError("no setting reached the recall that is wanted")
    return MmsearchContender(index)
