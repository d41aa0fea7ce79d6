"""Compressed rows of a few dozen bytes each, which FAISS's fast scan searches for candidates.

Each dimension that a `QueryAwareProjection` keeps becomes 4 bits (product quantisation with one
dimension per code), and FAISS scores 32 rows at once from tables in registers; see
https://github.com/facebookresearch/faiss/wiki/Fast-accumulation-of-PQ-and-AQ-codes-(FastScan).
Large collections are split into inverted lists, and a search visits some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Vectors
from mmsearch.storage.arrays import ChecksummedArrays, ChecksummedArraysWriter
from mmsearch.vector_indexes._exact import limit_omp_threads
from mmsearch.vector_indexes._projection import QueryAwareProjection

MIN_ROWS_FOR_LISTS = 4_000_000
"""Minimum number of rows for inverted lists. Text queries must visit a third of the lists, and
a short list costs more to start than to scan: a million rows are scanned faster without lists."""

MAX_LISTS = 8192
"""Maximum number of inverted lists. With more, k-means takes longer than the rest of the build."""

TRAINING_ROWS_PER_LIST = 40
"""Training rows for k-means per list. FAISS requires at least 39."""

MIN_TRAINING_ROWS = 65_536
"""Minimum number of rows that the codes are trained on."""

ROWS_PER_BLOCK = 65_536

BYTES_PER_THREAD = 128_000_000
"""Bytes of codes that justify one more thread. A thread reads them in about 4 ms, which is how long
an idle OpenMP thread spins and keeps a CPU from other work."""


def choose_num_lists(count: int) -> int:
    """Return the number of inverted lists for ``count`` rows.

    It is 0 for small collections, else the power of two nearest to the square root of ``count``.
    """
    if count < MIN_ROWS_FOR_LISTS:
        return 0
    return int(min(2 ** round(np.log2(np.sqrt(count))), MAX_LISTS))


def useful_threads(queries: int, nbytes: int) -> int:
    """Return the number of threads that speed up a search in which each query runs on one thread.

    FAISS waits for idle threads, too, and they then spin. On busy CPUs both take far longer than
    the search itself.

    Args:
        queries: Number of queries.
        nbytes: Bytes read per query.
    """
    return max(1, min(queries, queries * nbytes // BYTES_PER_THREAD))


def estimate_code_bytes(count: int, dims: int) -> int:
    """Return the memory that the codes of ``count`` rows take, in bytes."""
    return count * (dims // 2 + (8 if choose_num_lists(count) else 0))


@dataclass(frozen=True)
class FastScanCodes:
    """A compressed copy of rows, which are identified by their positions.

    Attributes:
        projection: Projection to the dimensions that are kept.
        num_lists: Number of inverted lists; 0 if there are no lists.
        index: The FAISS index.
        backing_buffer: Buffer that ``index`` may read in place; kept alive with it.
    """

    projection: QueryAwareProjection
    num_lists: int
    index: Any
    backing_buffer: NDArray[np.uint8] | None = None

    def find_candidates(
        self, queries: Vectors, count: int, nprobe: int | None = None
    ) -> NDArray[np.int64]:
        """Return the positions of the rows with the best approximate scores.

        Args:
            queries: The queries, (q, dim).
            count: Number of candidates per query.
            nprobe: Number of lists to visit; None visits all.

        Returns:
            Positions, int64 (q, count), best first, padded with -1.
        """
        parameters, probed_fraction = None, 1.0
        if self.num_lists:
            nprobe = nprobe or self.num_lists
            parameters, probed_fraction = (
                faiss.SearchParametersIVF(nprobe=nprobe),
                nprobe / self.num_lists,
            )
        positions: NDArray[np.int64]
        projected = self.projection.project_queries(queries)
        nbytes = int(self.index.ntotal * self.projection.dims / 2 * probed_fraction)
        with limit_omp_threads(useful_threads(len(queries), nbytes)):
            _, positions = self.index.search(projected, count, params=parameters)
        return positions

    def write_to(self, arrays: ChecksummedArraysWriter) -> None:
        """Append the codes and the projection to a file."""
        arrays.append("map_queries", self.projection.query_matrix)
        arrays.append("map_rows", self.projection.row_matrix)
        arrays.append("map_mean", self.projection.mean)
        arrays.append("codes", faiss.serialize_index(self.index))

    @classmethod
    def read(cls, file: ChecksummedArrays, stats: Mapping[str, Any]) -> FastScanCodes:
        """Read what `write_to` wrote.

        Raises:
            DamagedFileError: A checksum is wrong.
        """
        projection = QueryAwareProjection(
            *(file.array(f"map_{part}") for part in ("queries", "rows", "mean"))
        )
        backing_buffer = file.array("codes")
        # This is six times as fast as deserialize_index, which copies twice before it reads.
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(backing_buffer), backing_buffer.size)
        return cls(projection, stats["lists"], faiss.read_index(reader), backing_buffer)


def encode_rows(
    rows: NDArray[np.float16],
    projection: QueryAwareProjection,
    check_cancelled: Callable[[], None] = lambda: None,
) -> FastScanCodes:
    """Encode all rows.

    Args:
        rows: The rows, (n, dim). Only a block of them is in memory at a time.
        projection: Projection to a multiple of 16 dimensions.
        check_cancelled: See `TrainingData.check_cancelled`.
    """
    dims, num_lists = projection.dims, choose_num_lists(len(rows))
    num_training_rows = max(MIN_TRAINING_ROWS, num_lists * TRAINING_ROWS_PER_LIST)
    sample = projection.project_rows(rows[evenly_spaced_positions(len(rows), num_training_rows)])
    factory_key = f"PQ{dims}x4fs"
    if num_lists:
        factory_key = f"IVF{num_lists},{factory_key}"
    index = faiss.index_factory(dims, factory_key, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    for block in _iter_blocks(rows):
        check_cancelled()
        index.add(projection.project_rows(block))
    return FastScanCodes(projection, num_lists, index)


def evenly_spaced_positions(count: int, size: int) -> NDArray[np.int64]:
    """Return up to ``size`` distinct positions, evenly spaced among ``count`` rows."""
    return np.unique(np.linspace(0, count - 1, min(size, count)).astype(np.int64))


def _iter_blocks(rows: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        yield rows[start : start + ROWS_PER_BLOCK]
