"""Exact search in numpy: the reference for every other vector index, and the index of the tail.

It holds float32 rows in memory and compares a query with all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mmsearch.core.protocols import VectorIndex
from mmsearch.core.records import FileRef
from mmsearch.core.types import EXACT_STATS, Ids, IndexSpec, Ranking, TrainingData, Vectors
from mmsearch.core.vectors import check_unit_vectors, exact_top_k, find_positions, stack
from mmsearch.storage.arrays import write_checksummed_arrays
from mmsearch.storage.atomic import read_verified_bytes
from mmsearch.storage.legacy import open_arrays

SUFFIX = "vectors"


def uses_gpu(device: str) -> bool:
    """Return False: this index never uses a GPU."""
    return False


def build(
    spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]], training: TrainingData | None = None
) -> VectorIndex:
    """Build an index over all rows; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    return ExactIndex(spec, *_sort_by_id(spec.dim, blocks))


def write(
    spec: IndexSpec,
    blocks: Iterable[tuple[Ids, Vectors]],
    path: Path,
    training: TrainingData | None = None,
) -> FileRef:
    """Write ids and rows durably.

    All of them are held in memory, so this is for small collections.
    """
    ids, rows = _sort_by_id(spec.dim, blocks)
    with write_checksummed_arrays(path) as (arrays, file):
        arrays.append("ids", ids)
        arrays.append("vectors", rows)
        arrays.finish(plugin=spec.name, dim=spec.dim)
    return file.file_ref()


def _sort_by_id(dim: int, blocks: Iterable[tuple[Ids, Vectors]]) -> tuple[Ids, Vectors]:
    ids, rows = [np.empty(0, dtype=np.int64)], [np.empty((0, dim), dtype=np.float32)]
    for block_ids, vectors in blocks:
        ids.append(block_ids)
        rows.append(check_unit_vectors(vectors, dim))
    all_ids = np.concatenate(ids)
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], np.concatenate(rows)[order]


def load(spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
    """Read what `write` wrote.

    Raises:
        DamagedFileError: The file is damaged or is not the file that ``file_ref`` describes.
    """
    arrays = open_arrays(path, read_verified_bytes(path, file_ref))
    return ExactIndex(spec, arrays.array("ids"), arrays.array("vectors"))


class ExactIndex:
    """An exact index; see `mmsearch.core.protocols.VectorIndex`.

    Several threads may search it at the same time.
    """

    score_tolerance = 1e-5
    device = "cpu"
    stats = EXACT_STATS

    def __init__(self, spec: IndexSpec, ids: Ids, rows: Vectors) -> None:
        self.spec = spec
        self.ids = ids
        self._rows = rows

    def search(
        self, queries: Vectors, k: int, allowed: Ids | None = None, spare: int = 0
    ) -> Ranking:
        """Return the k best rows per query; see `mmsearch.core.protocols.VectorIndex.search`."""
        queries = check_unit_vectors(queries, self.spec.dim)
        k += spare
        ids, rows = self.ids, self._rows
        if allowed is not None:
            positions = find_positions(ids, allowed)
            ids, rows = ids[positions], rows[positions]
        return stack([exact_top_k(ids, rows, query, k) for query in queries], k)

    def vectors(self, ids: Ids) -> Vectors:
        """Return the rows of ids; see `mmsearch.core.protocols.VectorIndex.vectors`."""
        return self._rows[np.searchsorted(self.ids, ids)].astype(np.float32)
