"""Rows as a few dozen bytes each, scanned by FAISS's fast scan for candidates.

Each dimension that a `QueryMap` keeps becomes 4 bits (product quantisation with one dimension a
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
from mmsearch.storage.arrays import BlocksFile, BlocksWriter
from mmsearch.vector_indexes._projection import QueryMap
from mmsearch.vector_indexes._threads import at_most, worth

LISTS_FROM = 4_000_000
"""Rows from which on inverted lists pay. Texts need a third of the lists to be visited, and short
lists cost more to begin than to scan: a million rows are scanned faster without any."""

MOST_LISTS = 8192
"""K-means with more takes longer than all the rest."""

POINTS_A_LIST = 40
"""Rows that k-means sees for each list; FAISS asks for 39 at least."""

TRAINING_ROWS = 65_536
"""Rows that the codes are learned from."""

ROWS_AT_ONCE = 65_536


def lists_for(count: int) -> int:
    """How many inverted lists so many rows have: 0, or about their root, in powers of two."""
    if count < LISTS_FROM:
        return 0
    return int(min(2 ** round(np.log2(np.sqrt(count))), MOST_LISTS))


def code_bytes(count: int, dims: int) -> int:
    """Memory of the codes of so many rows."""
    return count * (dims // 2 + (8 if lists_for(count) else 0))


@dataclass(frozen=True)
class Codes:
    """A compressed copy of rows, which are named by their places.

    Attributes:
        map: To the dimensions that are kept.
        lists: Inverted lists; 0: none.
        index: FAISS's own.
        content: Bytes that it may read instead of a copy, kept alive with it.
    """

    map: QueryMap
    lists: int
    index: Any
    content: NDArray[np.uint8] | None = None

    def candidates(
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
        parameters, share = None, 1.0
        if self.lists:
            nprobe = nprobe or self.lists
            parameters, share = faiss.SearchParametersIVF(nprobe=nprobe), nprobe / self.lists
        found: NDArray[np.int64]
        mapped = self.map.of_queries(queries)
        nbytes = int(self.index.ntotal * self.map.dims / 2 * share)
        with at_most(worth(len(queries), nbytes)):
            _, found = self.index.search(mapped, count, params=parameters)
        return found

    def append_to(self, arrays: BlocksWriter) -> None:
        """Write it."""
        arrays.append("map_queries", self.map.queries)
        arrays.append("map_rows", self.map.rows)
        arrays.append("map_mean", self.map.mean)
        arrays.append("codes", faiss.serialize_index(self.index))

    @classmethod
    def read(cls, file: BlocksFile, facts: Mapping[str, Any]) -> Codes:
        """What `append_to` wrote.

        Raises:
            DamagedFileError: A checksum is wrong.
        """
        maps = QueryMap(*(file.array(f"map_{part}") for part in ("queries", "rows", "mean")))
        content = file.array("codes")
        # Six times as fast as deserialize_index, which copies twice before it reads.
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(content), content.size)
        return cls(maps, facts["lists"], faiss.read_index(reader), content)


def encode(
    rows: NDArray[np.float16], query_map: QueryMap, go_on: Callable[[], None] = lambda: None
) -> Codes:
    """The codes of all rows.

    Args:
        rows: (n, dim); only some are in memory at a time.
        query_map: To a multiple of 16 dimensions.
        go_on: See `Training.go_on`.
    """
    dims, lists = query_map.dims, lists_for(len(rows))
    wanted = max(TRAINING_ROWS, lists * POINTS_A_LIST)
    sample = query_map.of_rows(rows[spread(len(rows), wanted)])
    kind = f"PQ{dims}x4fs"
    if lists:
        kind = f"IVF{lists},{kind}"
    index = faiss.index_factory(dims, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    for part in _parts(rows):
        go_on()
        index.add(query_map.of_rows(part))
    return Codes(query_map, lists, index)


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Places of so many rows of all, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(np.int64))


def _parts(rows: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]
