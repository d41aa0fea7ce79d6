"""Exact search by FAISS: inner product over float16 rows, on the GPU where there is one.

On the CPU this is IndexScalarQuantizer(QT_fp16), half the memory traffic of float32; on a GPU
GpuIndexFlatIP with float16 storage. FAISS proposes, and the order is settled by `core.ranking`
on the stored rows, which stay in host memory too: FAISS itself breaks ties by position in a heap.
See https://github.com/facebookresearch/faiss/wiki/Faiss-indexes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.durable import publish_bytes, read_verified
from mmsearch.core.errors import DamagedFileError, UsageError
from mmsearch.core.protocols import VectorIndex
from mmsearch.core.ranking import PRODUCT_ERROR, best, exhaustive, positions_of, row_scores, stack
from mmsearch.core.records import FileStamp
from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vectors import check_unit_vectors

SUFFIX = "faiss"

GPU_MAX_K = 2048
"""Neighbours that a GPU index can return (faiss/gpu/utils/Limits)."""

SUBSET_SHARE = 0.1
"""Below this share of allowed rows, gathering them beats a scan that skips the others."""


ROWS_AT_ONCE = 262_144


def build(spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]]) -> VectorIndex:
    """An index over all rows; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    flat = faiss.IndexScalarQuantizer(
        spec.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    mapped = faiss.IndexIDMap2(flat)
    for ids, vectors in blocks:
        rows = check_unit_vectors(vectors, spec.dim)
        mapped.add_with_ids(rows, np.ascontiguousarray(ids, dtype=np.int64))
    return FaissFlatIndex(spec, _by_id(mapped))


def _by_id(mapped: Any) -> Any:
    """The same rows in the order of their ids."""
    ids = faiss.vector_to_array(mapped.id_map)
    if (ids[1:] > ids[:-1]).all():
        return mapped
    order = np.argsort(ids, kind="stable")
    rows = _stored_rows(faiss.downcast_index(mapped.index))
    flat = faiss.IndexScalarQuantizer(
        mapped.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    sorted_rows = faiss.IndexIDMap2(flat)
    for start in range(0, len(ids), ROWS_AT_ONCE):
        part = order[start : start + ROWS_AT_ONCE]
        sorted_rows.add_with_ids(rows[part].astype(np.float32), ids[part])
    return sorted_rows


def load(spec: IndexSpec, path: Path, stamp: FileStamp) -> VectorIndex:
    """Read what `FaissFlatIndex.save` wrote.

    Raises:
        DamagedFileError: It is not that file.
    """
    content = read_verified(path, stamp)
    try:
        mapped = faiss.deserialize_index(content)
    except RuntimeError as error:
        raise DamagedFileError(f"{path} is not a FAISS index.") from error
    if not isinstance(mapped, faiss.IndexIDMap2) or mapped.d != spec.dim:
        raise DamagedFileError(f"{path} is not a flat FAISS index of {spec.dim} columns.")
    return FaissFlatIndex(spec, mapped)


class FaissFlatIndex:
    """See `mmsearch.core.protocols.VectorIndex`. On a GPU one thread must own it."""

    score_tolerance = 1e-3

    def __init__(self, spec: IndexSpec, mapped: Any) -> None:
        self.spec = spec
        self.ids: Ids = faiss.vector_to_array(mapped.id_map)
        self._mapped = mapped
        self._flat = faiss.downcast_index(mapped.index)
        self._rows = _stored_rows(self._flat)
        self._gpu = _on_gpu(spec, self._rows)
        self.device = "cpu" if self._gpu is None else "cuda"

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> Ranking:
        """The k best rows for each query; see `mmsearch.core.protocols.VectorIndex.search`."""
        queries = check_unit_vectors(queries, self.spec.dim)
        places = None if allowed is None else positions_of(self.ids, allowed)
        if places is not None and len(places) == len(self.ids):
            places = None
        if places is not None and (self._gpu or len(places) < SUBSET_SHARE * len(self.ids)):
            # A GPU index may ignore a selector without a word, so it is never given one.
            ids, rows = self.ids[places], self._rows[places]
            return stack([exhaustive(ids, rows, query, k) for query in queries], k)
        return stack([self._one(query, k, places) for query in queries], k)

    def save(self, path: Path) -> FileStamp:
        """Write it durably; `faiss.write_index` would tear silently on a full disk."""
        return publish_bytes(path, faiss.serialize_index(self._mapped).data)

    def _one(
        self, query: NDArray[np.float32], k: int, places: NDArray[np.int64] | None
    ) -> tuple[Ids, NDArray[np.float32]]:
        """Fetch until every row that could be among the k best is a candidate, then settle."""
        available = len(self.ids) if places is None else len(places)
        limit = min(available, GPU_MAX_K) if self._gpu else available
        fetch = min(limit, k + 32)
        while fetch:
            candidates, raw = self._fetch(query, fetch, places)
            complete = fetch == available
            if complete or (fetch > k and raw[-1] < raw[k - 1] - PRODUCT_ERROR):
                return best(self.ids[candidates], row_scores(self._rows[candidates], query), k)
            if fetch == limit:
                break
            fetch = min(limit, fetch * 4)
        return exhaustive(self.ids, self._rows, query, k)

    def _fetch(
        self, query: NDArray[np.float32], count: int, places: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions and raw scores of the ``count`` rows that FAISS finds best."""
        if places is None:
            raw, found = (self._gpu or self._flat).search(query[None], count)
        else:
            mask = np.zeros(len(self.ids), dtype=bool)
            mask[places] = True
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            parameters = faiss.SearchParameters(sel=selector)
            raw, found = self._flat.search(query[None], count, params=parameters)
        return found[0], raw[0]


def _stored_rows(flat: Any) -> NDArray[np.float16]:
    """float16 (n, dim): the index's own codes, not a copy."""
    if flat.ntotal == 0:
        return np.empty((0, flat.d), dtype=np.float16)
    codes = faiss.rev_swig_ptr(flat.codes.data(), flat.ntotal * flat.d * 2)
    rows: NDArray[np.float16] = codes.view(np.float16).reshape(flat.ntotal, flat.d)
    return rows


def _on_gpu(spec: IndexSpec, rows: NDArray[np.float16]) -> Any | None:
    """The rows as a GPU index; None where the CPU is meant or there is no GPU."""
    if spec.device not in ("auto", "cuda"):
        return None
    if faiss.get_num_gpus() == 0:
        if spec.device == "cuda":
            raise UsageError(
                "FAISS finds no NVIDIA GPU on this machine.", "Use --device cpu or --device auto."
            )
        return None
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    index = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), spec.dim, config)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        index.add(rows[start : start + ROWS_AT_ONCE].astype(np.float32))
    return index
