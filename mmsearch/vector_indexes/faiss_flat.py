"""Exact search by FAISS: inner product over float16 rows, on the GPU if there is one.

On the CPU the rows are read in place from the mapped file; on a GPU they are copied to a
GpuIndexFlatIP with float16 storage. See `_exact`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import Hint, UsageError
from mmsearch.core.gpu_memory import run_halving_on_oom
from mmsearch.core.records import FileRef
from mmsearch.core.types import EXACT_STATS, Ids, IndexSpec, Ranking, TrainingData, Vectors
from mmsearch.core.vectors import as_float32, check_unit_vectors
from mmsearch.storage.arrays import ChecksummedArrays, write_checksummed_arrays
from mmsearch.vector_indexes._exact import ScoredPositions, StoredRows, append_rows

if TYPE_CHECKING:
    from mmsearch.core.protocols import VectorIndex

SUFFIX = "vectors"

GPU_MAX_K = 2048
"""Maximum number of neighbours that a GPU index can return (faiss/gpu/utils/Limits)."""

ROWS_PER_BLOCK = 262_144

GPU_QUERY_BATCH = 256
"""Queries per call. From about 384 on, FAISS's buffers exceed its temporary memory, and every call
allocates memory (faiss/gpu/utils/DistanceUtils.cuh, StandardGpuResources.cpp)."""


def uses_gpu(device: str) -> bool:
    """Return True if FAISS finds an NVIDIA GPU and ``device`` allows its use."""
    return device in ("auto", "cuda") and faiss.get_num_gpus() > 0


def build(
    spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]], training: TrainingData | None = None
) -> VectorIndex:
    """Build an index over all rows in memory; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    return FaissFlatIndex(spec, StoredRows.collect(spec.dim, blocks))


def write(
    spec: IndexSpec,
    blocks: Iterable[tuple[Ids, Vectors]],
    path: Path,
    training: TrainingData | None = None,
) -> FileRef:
    """Write an index over all rows as they arrive."""
    with write_checksummed_arrays(path) as (arrays, file):
        arrays.append("ids", append_rows(arrays, spec.dim, blocks))
        arrays.finish(plugin=spec.name, dim=spec.dim)
    return file.file_ref()


def load(spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
    """Map the file that `write` wrote and verify all of it, because every search reads all of it.

    Raises:
        DamagedFileError: The file is damaged or is not the file that ``file_ref`` describes.
        DeviceMemoryError: The rows do not fit into the memory of the GPU.
    """
    file = ChecksummedArrays.map(path, file_ref)
    return FaissFlatIndex(spec, StoredRows.read(file, spec, path, verify_all=True))


class FaissFlatIndex:
    """An exact index; see `mmsearch.core.protocols.VectorIndex`.

    On a GPU it must be used from a single thread.
    """

    score_tolerance = 1e-3
    stats = EXACT_STATS

    def __init__(self, spec: IndexSpec, rows: StoredRows) -> None:
        self.spec = spec
        self.ids = rows.ids
        self._rows = rows
        self._gpu = _copy_to_gpu(spec, rows.rows)
        self.device = "cpu" if self._gpu is None else "cuda"

    def search(
        self, queries: Vectors, k: int, allowed: Ids | None = None, spare: int = 0
    ) -> Ranking:
        """Return the k best rows per query; see `mmsearch.core.protocols.VectorIndex.search`.

        Raises:
            DeviceMemoryError: The GPU has too little memory for one query.
        """
        queries = check_unit_vectors(queries, self.spec.dim)
        k += spare
        positions = self._rows.find_positions(allowed)
        gpu = self._gpu
        # A GPU index may silently ignore a selector, so it never gets one.
        if gpu is None or positions is not None:
            return self._rows.search(queries, k, positions)
        return self._rows.top_k_from_candidates(
            queries,
            k,
            lambda numbers, count: _search_gpu(gpu, queries[numbers], count),
            len(self._rows),
            GPU_MAX_K,
            GPU_QUERY_BATCH,
        )

    def vectors(self, ids: Ids) -> Vectors:
        """Return the rows of ids; see `mmsearch.core.protocols.VectorIndex.vectors`."""
        return self._rows.vectors(ids)


def _copy_to_gpu(spec: IndexSpec, rows: NDArray[np.float16]) -> Any | None:
    """Copy the rows to a GPU index; return None if the CPU is selected or there is no GPU.

    Raises:
        UsageError: ``spec.device`` is ``cuda`` and FAISS finds no GPU.
    """
    if not uses_gpu(spec.device):
        if spec.device == "cuda":
            raise UsageError(
                "FAISS finds no NVIDIA GPU on this machine.",
                Hint("Use {}.", "device='cpu' or device='auto'", "--device cpu or --device auto"),
            )
        return None
    item_name = f"the index, {len(rows):,} vectors of {2 * spec.dim:,} bytes,"
    (index,) = run_halving_on_oom(
        lambda _: _build_gpu_index(spec.dim, rows), 1, device="cuda", item_name=item_name
    )
    return index


def _build_gpu_index(dim: int, rows: NDArray[np.float16]) -> Any:
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), dim, config)
    for start in range(0, len(rows), ROWS_PER_BLOCK):
        index.add(as_float32(rows[start : start + ROWS_PER_BLOCK]))
    return index


def _search_gpu(gpu: Any, queries: Vectors, count: int) -> ScoredPositions:
    """Search on the GPU; halve the batch of queries if its memory runs out."""
    results = run_halving_on_oom(
        lambda part: gpu.search(queries[part], count),
        len(queries),
        device="cuda",
        item_name="the search for one query",
    )
    scores, positions = zip(*results, strict=True)
    return np.concatenate(scores), np.concatenate(positions)
