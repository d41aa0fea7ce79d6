"""Rows as a few dozen bytes each, scanned by FAISS's fast scan for candidates.

Each dimension that a `QueryAwareProjection` keeps becomes 4 bits (product quantisation with one dimension a
code), and FAISS scores 32 rows at once from tables in registers; see
https://github.com/facebookresearch/faiss/wiki/Fast-accumulation-of-PQ-and-AQ-codes-(FastScan).
Many rows are kept in inverted lists, of which a search visits some.
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
from mmsearch.vector_indexes._projection import QueryAwareProjection
from mmsearch.vector_indexes._threads import limit_omp_threads, useful_threads

MIN_ROWS_FOR_LISTS = 4_000_000
"""Rows from which on inverted lists pay. Texts need a third of the lists to be visited, and short
lists cost more to begin than to scan: a million rows are scanned faster without any."""

MAX_LISTS = 8192
"""K-means with more takes longer than all the rest."""

TRAINING_ROWS_PER_LIST = 40
"""Rows that k-means sees for each list; FAISS asks for 39 at least."""

MIN_TRAINING_ROWS = 65_536
"""Rows that the codes are learned from."""

ROWS_PER_BLOCK = 65_536


def choose_num_lists(count: int) -> int:
    """How many inverted lists so many rows have: 0, or about their root, in powers of two."""
    if count < MIN_ROWS_FOR_LISTS:
        return 0
    return int(min(2 ** round(np.log2(np.sqrt(count))), MAX_LISTS))


def estimate_code_bytes(count: int, dims: int) -> int:
    """Memory of the codes of so many rows."""
    return count * (dims // 2 + (8 if choose_num_lists(count) else 0))


@dataclass(frozen=True)
class FastScanCodes:
    """A compressed copy of rows, which are named by their places.

    Attributes:
        projection: To the dimensions that are kept.
        num_lists: Inverted lists; 0: none.
        index: FAISS's own.
        backing_buffer: Bytes that it may read instead of a copy, kept alive with it.
    """

    projection: QueryAwareProjection
    num_lists: int
    index: Any
    backing_buffer: NDArray[np.uint8] | None = None

    def find_candidates(
        self, queries: Vectors, count: int, nprobe: int | None = None
    ) -> NDArray[np.int64]:
        """Places of the rows that seem best.

        Args:
            queries: (q, dim).
            count: How many.
            nprobe: Lists to visit; None: all.

        Returns:
            int64 (q, count), best first, padded with -1.
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
        """Write it."""
        arrays.append("map_queries", self.projection.query_matrix)
        arrays.append("map_rows", self.projection.row_matrix)
        arrays.append("map_mean", self.projection.mean)
        arrays.append("codes", faiss.serialize_index(self.index))

    @classmethod
    def read(cls, file: ChecksummedArrays, stats: Mapping[str, Any]) -> FastScanCodes:
        """What `write_to` wrote.

        Raises:
            DamagedFileError: A checksum is wrong.
        """
        projection = QueryAwareProjection(
            *(file.array(f"map_{part}") for part in ("queries", "rows", "mean"))
        )
        backing_buffer = file.array("codes")
        # Six times as fast as deserialize_index, which copies twice before it reads.
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(backing_buffer), backing_buffer.size)
        return cls(projection, stats["lists"], faiss.read_index(reader), backing_buffer)


def encode_rows(
    rows: NDArray[np.float16],
    projection: QueryAwareProjection,
    check_cancelled: Callable[[], None] = lambda: None,
) -> FastScanCodes:
    """The codes of all rows.

    Args:
        rows: (n, dim); only some are in memory at a time.
        projection: To a multiple of 16 dimensions.
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
    """Places of so many rows of all, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(size, count)).astype(np.int64))


def _iter_blocks(rows: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        yield rows[start : start + ROWS_PER_BLOCK]
