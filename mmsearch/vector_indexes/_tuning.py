"""Choice of dimensions, lists and candidates for a recall target on text queries.

Nothing is tuned on image embeddings: settings that suffice for them lose half of the true
neighbours of a text. The training queries are split in three: one part fits the projection, one
selects the settings, and one measures the recall of the selected settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, TrainingData, Vectors
from mmsearch.core.vectors import MATMUL_ERROR, as_float32
from mmsearch.vector_indexes._exact import StoredRows
from mmsearch.vector_indexes._fastscan import (
    FastScanCodes,
    encode_rows,
    estimate_code_bytes,
    evenly_spaced_positions,
)
from mmsearch.vector_indexes._projection import QueryAwareProjection, fit_projection

RECALL_K = 10
"""Number of nearest neighbours that recall is measured on."""

MAX_HELD_OUT_QUERIES = 512
"""Maximum number of queries that select the settings, and of those that measure recall. Each part
has at most a quarter of the training queries."""

MAX_TIED_NEIGHBOURS = 64
"""Neighbours fetched to find those that tie with the last of the true neighbours."""

PROJECTION_ROWS, PROJECTION_QUERIES = 65_536, 128
"""Number of rows that the projection is fitted to and tested on, and of queries that test it."""

CANDIDATE_DIMS = (32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512)
CANDIDATE_DEPTHS = (256, 512, 1024, 2048, 4096)
"""Numbers of candidates to rescore exactly. Fewer save a tenth of a millisecond, but queries that
differ from the training queries lose the most recall."""

SAMPLE_CANDIDATES = 128
"""Candidates per query in the sample of rows on which the number of dimensions is chosen."""

PROJECTION_ERROR_SHARE = 0.5
"""Share of the permitted recall loss that the projection may use. The rest is for the codes and
lists."""

RESAMPLES = 1000


@dataclass(frozen=True)
class TuningResult:
    """Codes and the settings to search them with.

    Attributes:
        codes: Codes of all rows.
        nprobe: Number of lists to visit.
        depth: Number of candidates to rescore exactly.
        stats: See `mmsearch.core.protocols.VectorIndex.stats`.
    """

    codes: FastScanCodes
    nprobe: int
    depth: int
    stats: Mapping[str, Any]


def tune(rows: StoredRows, training: TrainingData) -> TuningResult | None:
    """Return codes and settings that reach the target recall in the shortest time.

    Args:
        rows: The rows to index, at least some tens of thousands.
        training: Training queries, target recall and memory limit.

    Returns:
        The codes and settings, or None if no settings reach the target within the memory limit.
        The caller then uses exact search.
    """
    num_held_out = min(MAX_HELD_OUT_QUERIES, len(training.queries) // 4)
    fit_queries = training.queries[2 * num_held_out :]
    validation_queries, test_queries = (
        training.queries[:num_held_out],
        training.queries[num_held_out : 2 * num_held_out],
    )
    if not num_held_out:
        return None
    sample = as_float32(rows.rows[evenly_spaced_positions(len(rows), PROJECTION_ROWS)])
    full_projection = fit_projection(fit_queries, sample)
    validation_neighbours = _true_neighbours(rows, validation_queries)
    training.check_cancelled()
    test_neighbours = _true_neighbours(rows, test_queries)
    training.check_cancelled()
    for dims in _candidate_dims(
        full_projection, sample, validation_queries[:PROJECTION_QUERIES], training.recall
    ):
        if dims > rows.rows.shape[1]:
            break
        size_bytes = estimate_code_bytes(len(rows), dims)
        if training.memory_bytes is not None and size_bytes > training.memory_bytes:
            break
        codes = encode_rows(rows.rows, full_projection.truncate(dims), training.check_cancelled)
        training.check_cancelled()
        settings = _choose_settings(
            codes, rows, validation_queries, validation_neighbours, training.recall
        )
        if settings is not None:
            nprobe, depth = settings
            candidates = codes.find_candidates(test_queries, depth, nprobe)
            recalls = _recall_per_query(_match_true_neighbours(rows, candidates, test_neighbours))
            low, high = _bootstrap_interval(recalls)
            stats = {
                "recall": float(recalls.mean()),
                "recall_low": low,
                "recall_high": high,
                "recall_wanted": training.recall,
                "queries": len(test_queries),
                "training_queries": len(fit_queries),
                "dims": dims,
                "lists": codes.num_lists,
                "nprobe": nprobe,
                "depth": depth,
                "code_bytes": size_bytes,
                "query_ms": 1000 * _median_query_seconds(codes, rows, test_queries, nprobe, depth),
                "exact_ms": 1000 * _median_exact_seconds(rows, test_queries),
            }
            return TuningResult(codes, nprobe, depth, stats)
    return None


def _candidate_dims(
    full_projection: QueryAwareProjection,
    sample: NDArray[np.float32],
    queries: Vectors,
    recall: float,
) -> Sequence[int]:
    """Return the numbers of dimensions to try, ascending.

    The first is the smallest that keeps enough recall on a sample of the rows.
    """
    min_recall = 1 - (1 - recall) * PROJECTION_ERROR_SHARE
    true_scores = queries @ sample.T
    kth_scores = -np.partition(-true_scores, RECALL_K - 1, axis=1)[:, RECALL_K - 1]
    depth = min(SAMPLE_CANDIDATES, len(sample))
    projected_rows = full_projection.project_rows(sample)
    projected_queries = full_projection.project_queries(queries)
    for position, dims in enumerate(CANDIDATE_DIMS):
        if dims >= sample.shape[1]:
            break
        scores = projected_queries[:, :dims] @ projected_rows[:, :dims].T
        top_rows = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        is_neighbour = np.take_along_axis(true_scores, top_rows, axis=1) >= kth_scores[:, None]
        if is_neighbour.sum(axis=1).clip(max=RECALL_K).mean() / RECALL_K >= min_recall:
            return CANDIDATE_DIMS[position:]
    return [sample.shape[1] // 16 * 16]


def _choose_settings(
    codes: FastScanCodes, rows: StoredRows, queries: Vectors, truth: Sequence[Ids], recall: float
) -> tuple[int, int] | None:
    """Return nprobe and depth that reach a recall in the shortest time; None if no pair does."""
    best: tuple[float, int, int] | None = None
    depths = [depth for depth in CANDIDATE_DEPTHS if depth < len(rows)]
    for nprobe in _nprobe_candidates(codes.num_lists):
        candidates = codes.find_candidates(queries, depths[-1], nprobe)
        hits = _match_true_neighbours(rows, candidates, truth)
        for depth in depths:
            if _recall_per_query(hits[:, :depth]).mean() >= recall:
                seconds = _median_query_seconds(codes, rows, queries, nprobe, depth)
                if best is None or seconds < best[0]:
                    best = seconds, nprobe, depth
                break
        if best is not None and best[2] == depths[0]:
            break  # More lists only cost more.
    return best and best[1:]


def _nprobe_candidates(num_lists: int) -> list[int]:
    """Return the numbers of lists to try."""
    if not num_lists:
        return [0]
    return sorted(
        {max(1, int(num_lists * share)) for share in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1)}
    )


def _true_neighbours(rows: StoredRows, queries: Vectors) -> list[Ids]:
    """Return the true neighbours of each query: more than ten if several tie for the last place."""
    # The rows were just written, so they need no checksum verification.
    exact = rows.search(queries, MAX_TIED_NEIGHBOURS, None)
    return [
        ids[scores >= scores[RECALL_K - 1] - MATMUL_ERROR / 10]
        for ids, scores in zip(exact.ids, exact.scores, strict=True)
    ]


def _match_true_neighbours(
    rows: StoredRows, candidates: NDArray[np.int64], truth: Sequence[Ids]
) -> NDArray[np.bool_]:
    """Return a boolean mask of the candidates that are true neighbours, (q, c)."""
    return np.array(
        [
            np.isin(rows.row_ids[positions], true_ids) & (positions >= 0)
            for positions, true_ids in zip(candidates, truth, strict=True)
        ]
    )


def _recall_per_query(hits: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the recall of each query."""
    return np.asarray(hits.sum(axis=1).clip(max=RECALL_K) / RECALL_K)


def _median_query_seconds(
    codes: FastScanCodes, rows: StoredRows, queries: Vectors, nprobe: int, depth: int
) -> float:
    """Return the median time of a single query, in seconds."""
    return _median_seconds(
        lambda query: rows.refine(query, codes.find_candidates(query, depth, nprobe), RECALL_K),
        queries[:50],
    )


def _median_exact_seconds(rows: StoredRows, queries: Vectors) -> float:
    return _median_seconds(lambda query: rows.search(query, RECALL_K, None), queries[:5])


def _median_seconds(search: Callable[[Vectors], Any], queries: Vectors) -> float:
    times = []
    for query in queries:
        started_s = time.perf_counter()
        search(query[None])
        times.append(time.perf_counter() - started_s)
    return float(np.median(times))


def _bootstrap_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return a 95% bootstrap interval of the mean."""
    resampled = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[resampled].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
