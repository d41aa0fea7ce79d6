"""Approximate search that keeps its recall for text queries.

A search has three steps: a query-aware linear projection to fewer dimensions (`_projection`), a
scan of the 4-bit codes of the projected rows for candidates (`_fastscan`), and exact comparison of
the candidates with float16 rows that stay on disk (`_exact`). `_tuning` chooses the settings that
reach a target recall. Collections of a few thousand rows, and those for which no settings reach the
target, are searched exactly.
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
from mmsearch.vector_indexes._exact import RowPositions, ScoredPositions, StoredRows, append_rows
from mmsearch.vector_indexes._fastscan import FastScanCodes
from mmsearch.vector_indexes._tuning import TuningResult, tune

SUFFIX = "vectors"

MIN_ROWS_FOR_CODES = 10_000
"""Minimum number of rows for codes. With fewer, exact search takes less than a millisecond."""

SHORT_PAGE_MAX_K, LONG_PAGE_MAX_K = 20, 1000
"""Largest k that is searched with the short-page settings, and with the long-page settings. Any
larger k is searched exactly."""

LONG_PAGE_DEPTH, LONG_PAGE_PROBE_FACTOR = 4096, 4
"""Minimum number of candidates for a long page, and the factor on the number of lists it visits."""

MAX_EXACT_ALLOWED = 5000
"""Maximum number of allowed rows that are compared exactly without a scan of the codes."""

MAX_CANDIDATES = 65_536
"""Maximum number of candidates fetched to find enough allowed rows. If they do not suffice, all
allowed rows are compared."""


def uses_gpu(device: str) -> bool:
    """Return False: FAISS has no fast scan on GPUs."""
    return False


def build(
    spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]], training: TrainingData | None = None
) -> VectorIndex:
    """Build an index in memory; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    rows = StoredRows.collect(spec.dim, blocks)
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
    """Write rows as they arrive, then the codes and settings fitted to them."""
    with write_checksummed_arrays(path) as (arrays, file):
        ids = append_rows(arrays, spec.dim, blocks)
        stats = EXACT_STATS
        if len(ids):
            tuned = _tune_if_large(StoredRows(ids, arrays.read("rows")), training)
            if tuned is not None:
                tuned.codes.write_to(arrays)
                stats = tuned.stats
        arrays.append("ids", ids)
        arrays.finish(plugin=spec.name, dim=spec.dim, search=dict(stats))
    return file.file_ref()


def load(spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
    """Map the file that `write` wrote; the checksum of a row is verified when it is compared.

    Raises:
        DamagedFileError: The file is damaged or is not the file that ``file_ref`` describes.
    """
    file = ChecksummedArrays.map(path, file_ref)
    has_codes = "codes" in file
    rows = StoredRows.read(file, spec, path, verify_all=not has_codes)
    facts = file.metadata["search"]
    codes = FastScanCodes.read(file, facts) if has_codes else None
    return FaissFastScanIndex(spec, rows, codes, facts)


def _tune_if_large(rows: StoredRows, training: TrainingData | None) -> TuningResult | None:
    if training is None or len(rows) < MIN_ROWS_FOR_CODES:
        return None
    return tune(rows, training)


class FaissFastScanIndex:
    """An approximate index; see `mmsearch.core.protocols.VectorIndex`.

    Without codes it is exact. Several threads may search it at the same time.
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
        """Return the same index with another number of candidates for short pages."""
        stats = {**self.stats, "depth": depth}
        return FaissFastScanIndex(self.spec, self._rows, self._codes, stats)

    def search(
        self, queries: Vectors, k: int, allowed: Ids | None = None, spare: int = 0
    ) -> Ranking:
        """Return the k best rows per query; see `mmsearch.core.protocols.VectorIndex.search`."""
        queries = check_unit_vectors(queries, self.spec.dim)
        positions = self._rows.find_positions(allowed)
        wanted = k + spare
        if positions is not None and len(positions) <= max(MAX_EXACT_ALLOWED, wanted):
            return self._rows.search_subset(queries, wanted, positions)
        candidates = self._find_candidates(queries, k, wanted, positions)
        if candidates is None:
            self._rows.check(positions)
            return self._rows.search(queries, wanted, positions)

        def rerank(numbers: RowPositions, count: int) -> ScoredPositions:
            return self._rows.refine(queries[numbers], candidates[numbers], count)

        return self._rows.top_k_from_candidates(queries, wanted, rerank, candidates.shape[1])

    def vectors(self, ids: Ids) -> Vectors:
        """Return the rows of ids; see `mmsearch.core.protocols.VectorIndex.vectors`."""
        return self._rows.vectors(ids)

    def _find_candidates(
        self, queries: Vectors, k: int, wanted: int, positions: RowPositions | None
    ) -> NDArray[np.int64] | None:
        """Return positions of rows to compare, int64 (q, c), padded with -1; None for all rows."""
        codes, total = self._codes, len(self._rows)
        if codes is None or k > LONG_PAGE_MAX_K:
            return None
        depth, nprobe = self.stats["depth"], self.stats["nprobe"]
        if k > SHORT_PAGE_MAX_K or wanted > depth:
            depth, nprobe = max(depth, LONG_PAGE_DEPTH), nprobe * LONG_PAGE_PROBE_FACTOR
        if wanted > depth or depth >= total:
            return None
        if positions is not None:
            return _find_allowed_candidates(codes, queries, depth, positions, total)
        candidates = codes.find_candidates(queries, depth, min(nprobe, codes.num_lists))
        incomplete = (candidates[:, wanted - 1] < 0).nonzero()[0]
        if len(incomplete):
            candidates[incomplete] = codes.find_candidates(queries[incomplete], depth)
        return candidates


def _find_allowed_candidates(
    codes: FastScanCodes, queries: Vectors, depth: int, positions: RowPositions, total: int
) -> NDArray[np.int64] | None:
    """Return ``depth`` candidates per query among the allowed rows; None if too few are found.

    More candidates are fetched than needed, because those that are not allowed are dropped.
    """
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
