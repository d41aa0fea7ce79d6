"""How many dimensions, lists and candidates it takes to find what text queries ask for.

Nothing is tuned on vectors of images: for those, settings suffice that lose half of what a text
asks for. Of the training queries some teach the map, others choose, and others again say what the
choice is worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.ordering import PRODUCT_ERROR
from mmsearch.core.types import Ids, Training, Vectors
from mmsearch.core.vectors import as_float32
from mmsearch.vector_indexes._fastscan import Codes, code_bytes, encode, spread
from mmsearch.vector_indexes._projection import QueryMap, learn_map
from mmsearch.vector_indexes._rows import StoredRows

NEIGHBOURS = 10
"""Recall is that of the ten nearest."""

HELD_OUT = 512
"""Queries, at most, that choose, and as many that measure; never more than a quarter each."""

TIED = 64
"""Neighbours that are looked at for equal scores."""

MAP_ROWS, MAP_QUERIES = 65_536, 128
"""Rows that the map is learned from and tried on, and queries that it is tried with."""

DIMS = (32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512)
DEPTHS = (256, 512, 1024, 2048, 4096)
"""Candidates that are compared exactly. Fewer save a tenth of a millisecond, and queries that are
not like those of the tuning lose most by it."""

SAMPLE_DEPTH = 128
"""Of a sample of the rows, while dimensions are chosen."""

SPARE_RECALL = 0.5
"""Of what may be missed, so much is left to the map: the rest goes to codes and lists."""

RESAMPLES = 1000


@dataclass(frozen=True)
class Tuned:
    """Codes, and how to search them.

    Attributes:
        codes: Of all rows.
        nprobe: Lists to visit.
        depth: Candidates to compare exactly.
        facts: See `mmsearch.core.protocols.VectorIndex.facts`.
    """

    codes: Codes
    nprobe: int
    depth: int
    facts: Mapping[str, Any]


def tune(rows: StoredRows, training: Training) -> Tuned | None:
    """Codes that reach the recall that is wanted, at the least time.

    Args:
        rows: Some tens of thousands at least.
        training: What is asked, and what is wanted.

    Returns:
        None if nothing reaches it within the memory that is allowed: exact search does.
    """
    held = min(HELD_OUT, len(training.queries) // 4)
    learning = training.queries[2 * held :]
    choosing, measuring = training.queries[:held], training.queries[held : 2 * held]
    if not held:
        return None
    sample = as_float32(rows.rows[spread(len(rows), MAP_ROWS)])
    whole_map = learn_map(learning, sample)
    truth = _neighbours(rows, choosing)
    training.go_on()
    check = _neighbours(rows, measuring)
    training.go_on()
    for dims in _enough(whole_map, sample, choosing[:MAP_QUERIES], training.recall):
        if dims > rows.rows.shape[1]:
            break
        size = code_bytes(len(rows), dims)
        if training.memory_bytes is not None and size > training.memory_bytes:
            break
        codes = encode(rows.rows, whole_map.first(dims), training.go_on)
        training.go_on()
        chosen = _settings(codes, rows, choosing, truth, training.recall)
        if chosen is not None:
            nprobe, depth = chosen
            found = codes.candidates(measuring, depth, nprobe)
            worth = _recall(_hits(rows, found, check))
            low, high = _interval(worth)
            facts = {
                "recall": float(worth.mean()),
                "recall_low": low,
                "recall_high": high,
                "recall_wanted": training.recall,
                "queries": len(measuring),
                "training_queries": len(learning),
                "dims": dims,
                "lists": codes.lists,
                "nprobe": nprobe,
                "depth": depth,
                "code_bytes": size,
                "query_ms": 1000 * _seconds(codes, rows, measuring, nprobe, depth),
                "exact_ms": 1000 * _exact_seconds(rows, measuring),
            }
            return Tuned(codes, nprobe, depth, facts)
    return None


def _enough(
    whole_map: QueryMap, sample: NDArray[np.float32], queries: Vectors, recall: float
) -> Sequence[int]:
    """Numbers of dimensions to try, the fewest first that keep enough on a sample of the rows."""
    needed = 1 - (1 - recall) * SPARE_RECALL
    true = queries @ sample.T
    worst = -np.partition(-true, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
    depth = min(SAMPLE_DEPTH, len(sample))
    mapped = whole_map.of_rows(sample)
    asked = whole_map.of_queries(queries)
    for place, dims in enumerate(DIMS):
        if dims >= sample.shape[1]:
            break
        scores = asked[:, :dims] @ mapped[:, :dims].T
        kept = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        found = np.take_along_axis(true, kept, axis=1) >= worst[:, None]
        if found.sum(axis=1).clip(max=NEIGHBOURS).mean() / NEIGHBOURS >= needed:
            return DIMS[place:]
    return [sample.shape[1] // 16 * 16]


def _settings(
    codes: Codes, rows: StoredRows, queries: Vectors, truth: Sequence[Ids], recall: float
) -> tuple[int, int] | None:
    """Lists and candidates that reach a recall in the least time; None if none do."""
    best: tuple[float, int, int] | None = None
    depths = [depth for depth in DEPTHS if depth < len(rows)]
    for nprobe in _probes(codes.lists):
        found = codes.candidates(queries, depths[-1], nprobe)
        hits = _hits(rows, found, truth)
        for depth in depths:
            if _recall(hits[:, :depth]).mean() >= recall:
                seconds = _seconds(codes, rows, queries, nprobe, depth)
                if best is None or seconds < best[0]:
                    best = seconds, nprobe, depth
                break
        if best is not None and best[2] == depths[0]:
            break  # More lists only cost more.
    return best and best[1:]


def _probes(lists: int) -> list[int]:
    """Numbers of lists to try."""
    if not lists:
        return [0]
    return sorted({max(1, int(lists * share)) for share in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1)})


def _neighbours(rows: StoredRows, queries: Vectors) -> list[Ids]:
    """The true neighbours of each query: more than ten if several are equally near."""
    # Rows were just written: they need no check.
    exact = rows.search(queries, TIED, None)
    return [
        ids[scores >= scores[NEIGHBOURS - 1] - PRODUCT_ERROR / 10]
        for ids, scores in zip(exact.ids, exact.scores, strict=True)
    ]


def _hits(rows: StoredRows, found: NDArray[np.int64], truth: Sequence[Ids]) -> NDArray[np.bool_]:
    """Bool (q, c): which candidates are true neighbours."""
    return np.array(
        [
            np.isin(rows.row_ids[places], true) & (places >= 0)
            for places, true in zip(found, truth, strict=True)
        ]
    )


def _recall(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The recall of each query."""
    return np.asarray(hits.sum(axis=1).clip(max=NEIGHBOURS) / NEIGHBOURS)


def _seconds(codes: Codes, rows: StoredRows, queries: Vectors, nprobe: int, depth: int) -> float:
    """Median time of a query by itself."""
    return _median_seconds(
        lambda query: rows.refine(query, codes.candidates(query, depth, nprobe), NEIGHBOURS),
        queries[:50],
    )


def _exact_seconds(rows: StoredRows, queries: Vectors) -> float:
    return _median_seconds(lambda query: rows.search(query, NEIGHBOURS, None), queries[:5])


def _median_seconds(search: Callable[[Vectors], Any], queries: Vectors) -> float:
    times = []
    for query in queries:
        began = time.perf_counter()
        search(query[None])
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """A 95% bootstrap interval of the mean."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
