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
from mmsearch.core.records import FileStamp
from mmsearch.core.types import EXACT_FACTS, Ids, IndexSpec, Ranking, Training, Vectors
from mmsearch.core.vectors import check_unit_vectors
from mmsearch.storage.arrays import BlocksFile, writing_blocks
from mmsearch.vector_indexes._fastscan import Codes
from mmsearch.vector_indexes._rows import Places, StoredRows
from mmsearch.vector_indexes._storage import append_rows, collect_rows, read_rows
from mmsearch.vector_indexes._tuning import Tuned, tune

SUFFIX = "vectors"

FEWEST = 10_000
"""Rows below which exact search takes less than a millisecond anyway."""

SHORT, LONG = 20, 1000
"""Pages up to SHORT have one number of candidates, up to LONG another; longer ones are exact."""

LONG_DEPTH, LONG_PROBES = 4096, 4
"""Candidates of a long page, and how many times more lists it visits."""

FEW_ALLOWED = 5000
"""So many allowed rows are compared one by one."""

MOST_CANDIDATES = 65_536
"""If so many do not hold enough allowed rows, all allowed rows are compared."""


def uses_gpu(device: str) -> bool:
    """Never: FAISS has no fast scan there."""
    return False


def build(
    spec: IndexSpec, blocks: Iterable[tuple[Ids, Vectors]], training: Training | None = None
) -> VectorIndex:
    """An index in memory; see `mmsearch.core.protocols.VectorIndexPlugin`."""
    rows = collect_rows(spec.dim, blocks)
    tuned = _tuned(rows, training)
    if tuned is None:
        return FaissFastScanIndex(spec, rows, None, EXACT_FACTS)
    return FaissFastScanIndex(spec, rows, tuned.codes, tuned.facts)


def write(
    spec: IndexSpec,
    blocks: Iterable[tuple[Ids, Vectors]],
    path: Path,
    training: Training | None = None,
) -> FileStamp:
    """Write rows as they come, then what is learned from them."""
    with writing_blocks(path) as (arrays, file):
        ids = append_rows(arrays, spec.dim, blocks)
        facts = EXACT_FACTS
        if len(ids):
            tuned = _tuned(StoredRows(ids, arrays.read("rows")), training)
            if tuned is not None:
                tuned.codes.append_to(arrays)
                facts = tuned.facts
        arrays.append("ids", ids)
        arrays.finish({"plugin": spec.name, "dim": spec.dim, "search": dict(facts)})
    return file.stamp(path)


def load(spec: IndexSpec, path: Path, stamp: FileStamp) -> VectorIndex:
    """Map what `write` wrote. Rows are checked when they are compared.

    Raises:
        DamagedFileError: It is not that file.
    """
    file = BlocksFile(path, stamp)
    coded = "codes" in file
    rows = read_rows(file, spec, path, whole=not coded)
    facts = file.facts["search"]
    codes = Codes.read(file, facts) if coded else None
    return FaissFastScanIndex(spec, rows, codes, facts)


def _tuned(rows: StoredRows, training: Training | None) -> Tuned | None:
    if training is None or len(rows) < FEWEST:
        return None
    return tune(rows, training)


class FaissFastScanIndex:
    """See `mmsearch.core.protocols.VectorIndex`. Safe to search from many threads.

    Without codes it is exact.
    """

    score_tolerance = 1e-3
    device = "cpu"

    def __init__(
        self, spec: IndexSpec, rows: StoredRows, codes: Codes | None, facts: Mapping[str, Any]
    ) -> None:
        self.spec = spec
        self.ids = rows.ids
        self.facts = facts
        self._rows = rows
        self._codes = codes

    def with_depth(self, depth: int) -> FaissFastScanIndex:
        """The same index with another number of candidates for short pages."""
        facts = {**self.facts, "depth": depth}
        return FaissFastScanIndex(self.spec, self._rows, self._codes, facts)

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> Ranking:
        """The k best rows for each query; see `mmsearch.core.protocols.VectorIndex.search`."""
        queries = check_unit_vectors(queries, self.spec.dim)
        places = self._rows.places_of(allowed)
        if places is not None and len(places) <= max(FEW_ALLOWED, k):
            return self._rows.among(queries, k, places)
        candidates = self._candidates(queries, k, places)
        if candidates is None:
            self._rows.check(places)
            return self._rows.search(queries, k, places)

        def compare(which: Places, count: int) -> tuple[Any, Any]:
            return self._rows.refine(queries[which], candidates[which], count)

        return self._rows.settled(queries, k, compare, candidates.shape[1])

    def vectors(self, ids: Ids) -> Vectors:
        """See `mmsearch.core.protocols.VectorIndex.vectors`."""
        return self._rows.vectors(ids)

    def _candidates(
        self, queries: Vectors, k: int, places: Places | None
    ) -> NDArray[np.int64] | None:
        """Places of rows to compare, int64 (q, c), padded with -1; None: all rows."""
        codes, total = self._codes, len(self._rows)
        if codes is None or k > LONG:
            return None
        depth, nprobe = self.facts["depth"], self.facts["nprobe"]
        if k > SHORT:
            depth, nprobe = max(depth, LONG_DEPTH), nprobe * LONG_PROBES
        if depth >= total:
            return None
        if places is not None:
            return _among_allowed(codes, queries, depth, places, total)
        found = codes.candidates(queries, depth, min(nprobe, codes.lists))
        short = (found[:, k - 1] < 0).nonzero()[0]
        if len(short):
            found[short] = codes.candidates(queries[short], depth)
        return found


def _among_allowed(
    codes: Codes, queries: Vectors, depth: int, places: Places, total: int
) -> NDArray[np.int64] | None:
    """Candidates among some rows: as many more are fetched as are likely to fall away."""
    is_allowed = np.zeros(total, dtype=bool)
    is_allowed[places] = True
    count = int(depth * total / len(places) * 1.25)
    while count <= min(MOST_CANDIDATES, total):
        found = codes.candidates(queries, count)
        kept = is_allowed[found] & (found >= 0)
        if kept.sum(axis=1).min(initial=depth) >= depth:
            first = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
            return np.ascontiguousarray(np.take_along_axis(found, first, axis=1))
        count *= 4
    return None
