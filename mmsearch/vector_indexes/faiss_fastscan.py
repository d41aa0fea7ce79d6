"""Approximate search that keeps its recall for text queries.

Three steps: a linear map to the dimensions that queries can tell apart (`_query_map`), a scan of
4-bit codes of the mapped rows for candidates (`_codes`), and exact comparison of the candidates
with float16 rows that stay on disk (`_rows`). `_tuning` chooses how much of each it takes to reach
a recall. Collections of a few thousand rows, and those that no setting is good enough for, are
searched exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.protocols import VectorIndex
from mmsearch.core.records import FileRef
from mmsearch.core.types import EXACT_STATS, Ids, IndexSpec, Ranking, TrainingData, Vectors
from mmsearch.core.vectors import check_unit_vectors
from mmsearch.storage.arrays import ChecksummedArrays, write_checksummed_arrays
from mmsearch.vector_indexes._fastscan import FastScanCodes
from mmsearch.vector_indexes._rows import RowPositions, StoredRows
from mmsearch.vector_indexes._storage import append_rows, collect_rows, read_rows
from mmsearch.vector_indexes._tuning import TuningResult, tune

SUFFIX = "vectors"

MIN_ROWS_FOR_CODES = 10_000
"""Rows below which exact search takes less than a millisecond anyway."""

SHORT_PAGE_MAX_K, LONG_PAGE_MAX_K = 20, 1000
"""Pages up to SHORT have one number of candidates, up to LONG another; longer ones are exact."""

LONG_PAGE_DEPTH, LONG_PAGE_PROBE_FACTOR = 4096, 4
"""Candidates of a long page, and how many times more lists it visits."""

MAX_EXACT_ALLOWED = 5000
"""So many allowed rows are compared one by one."""

MAX_CANDIDATES = 65_536
"""If so many do not hold enough allowed rows, all allowed rows are compared."""


def uses_gpu(device: str) -> bool:
    """Never: FAISS has no fast scan there."""
    return False


def build(
    spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]], training: TrainingData | None = None
) -> VectorIndex:
    """An index in memory; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    rows = collect_rows(spec.dim, blocks)
    tuned = _tune_if_large(rows, training)
    if tuned is None:
        return FaissFastScanIndex(spec, rows, None, EXACT_STATS)
    return FaissFastScanIndex(spec, rows, tuned.codes, tuned.stats)


def write(
    spec: IndexSpec,
    blocks: Iterable[tuple[Ids, Vectors]],
    path: Path,
    training: TrainingData | None = None,
) -> FileRef:
    """Write rows as they come, then what is learned from them."""
    with write_checksummed_arrays(path) as (arrays, file):
        ids = append_rows(arrays, spec.dim, blocks)
        stats = EXACT_STATS
        if len(ids):
            tuned = _tune_if_large(StoredRows(ids, arrays.read("rows")), training)
            if tuned is not None:
                tuned.codes.write_to(arrays)
                stats = tuned.stats
        arrays.append("ids", ids)
        arrays.finish({"plugin": spec.name, "dim": spec.dim, "search": dict(stats)})
    return file.file_ref(path)


def load(spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
    """Map what `write` wrote. Rows are checked when they are compared.

    Raises:
        DamagedFileError: It is not that file.
    """
    file = ChecksummedArrays(path, file_ref)
    has_codes = "codes" in file
    rows = read_rows(file, spec, path, verify_all=not has_codes)
    facts = file.metadata["search"]
    codes = FastScanCodes.read(file, facts) if has_codes else None
    return FaissFastScanIndex(spec, rows, codes, facts)


def _tune_if_large(rows: StoredRows, training: TrainingData | None) -> TuningResult | None:
    if training is None or len(rows) < MIN_ROWS_FOR_CODES:
        return None
    return tune(rows, training)


class FaissFastScanIndex:
    """See `mmsearch.core.protocols.VectorIndex`. Safe to search from many threads.

    Without codes it is exact.
    """

    score_tolerance = 1e-3
    device = "cpu"

    def __init__(
        self,
        spec: IndexSpec,
        rows: StoredRows,
        codes: FastScanCodes | None,
        stats: Mapping[str, Any],
    ) -> None:
        self.spec = spec
        self.ids = rows.ids
        self.stats = stats
        self._rows = rows
        self._codes = codes

    def with_candidate_depth(self, depth: int) -> FaissFastScanIndex:
        """The same index with another number of candidates for short pages."""
        stats = {**self.stats, "depth": depth}
        return FaissFastScanIndex(self.spec, self._rows, self._codes, stats)

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> Ranking:
        """The k best rows for each query; see `mmsearch.core.protocols.VectorIndex.search`."""
        queries = check_unit_vectors(queries, self.spec.dim)
        positions = self._rows.find_positions(allowed)
        if positions is not None and len(positions) <= max(MAX_EXACT_ALLOWED, k):
            return self._rows.search_subset(queries, k, positions)
        candidates = self._find_candidates(queries, k, positions)
        if candidates is None:
            self._rows.check(positions)
            return self._rows.search(queries, k, positions)

        def rerank(query_numbers: RowPositions, count: int) -> tuple[Any, Any]:
            return self._rows.refine(queries[query_numbers], candidates[query_numbers], count)

        return self._rows.top_k_from_candidates(queries, k, rerank, candidates.shape[1])

    def vectors(self, ids: Ids) -> Vectors:
        """See `mmsearch.core.protocols.VectorIndex.vectors`."""
        return self._rows.vectors(ids)

    def _find_candidates(
        self, queries: Vectors, k: int, positions: RowPositions | None
    ) -> NDArray[np.int64] | None:
        """Places of rows to compare, int64 (q, c), padded with -1; None: all rows."""
        codes, total = self._codes, len(self._rows)
        if codes is None or k > LONG_PAGE_MAX_K:
            return None
        depth, nprobe = self.stats["depth"], self.stats["nprobe"]
        if k > SHORT_PAGE_MAX_K:
            depth, nprobe = max(depth, LONG_PAGE_DEPTH), nprobe * LONG_PAGE_PROBE_FACTOR
        if depth >= total:
            return None
        if positions is not None:
            return _find_allowed_candidates(codes, queries, depth, positions, total)
        candidates = codes.find_candidates(queries, depth, min(nprobe, codes.num_lists))
        incomplete = (candidates[:, k - 1] < 0).nonzero()[0]
        if len(incomplete):
            candidates[incomplete] = codes.find_candidates(queries[incomplete], depth)
        return candidates


def _find_allowed_candidates(
    codes: FastScanCodes, queries: Vectors, depth: int, positions: RowPositions, total: int
) -> NDArray[np.int64] | None:
    """Candidates among some rows: as many more are fetched as are likely to fall away."""
    is_allowed = np.zeros(total, dtype=bool)
    is_allowed[positions] = True
    count = int(depth * total / len(positions) * 1.25)
    while count <= min(MAX_CANDIDATES, total):
        candidates = codes.find_candidates(queries, count)
        is_kept = is_allowed[candidates] & (candidates >= 0)
        if is_kept.sum(axis=1).min(initial=depth) >= depth:
            kept_first = np.argsort(~is_kept, axis=1, kind="stable")[:, :depth]
            return np.ascontiguousarray(np.take_along_axis(candidates, kept_first, axis=1))
        count *= 4
    return None
