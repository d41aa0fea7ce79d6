"""Exact search over all vectors, on one core."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.speed.compare import (
    compare_times,
    machine,
    row,
    single_thread,
    table,
    time_alternating,
)
from benchmarks.speed.ground_truth import exact_top_k
from benchmarks.speed.mmsearch_contender import NAME
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.protocols import VectorIndex
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.vector_indexes import faiss_flat

ROWS, K, LONG_K, ROUNDS = 200_000, 10, 1000, 7
CALLS_BY_QUERIES = {1: 20, 32: 1, 1024: 1}
"""Number of calls that are timed together, by number of queries per call."""

MIN_SPEEDUP, MIN_BATCH_SPEEDUP = 1.7, 1.0
ALLOWED_FRACTIONS = (0.1, 0.01)
FAISS_NAME = "FAISS IndexFlatIP, float32"
Search = Callable[[], tuple[np.ndarray, Ids]]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure the time of a call for several numbers of queries, values of k, and filters."""
    collection = Collection("gap", rows)
    base = collection.base()
    queries = collection.text_queries(max(CALLS_BY_QUERIES))
    index = faiss_flat.build(IndexSpec("faiss_flat", DIM, "cpu"), collection.blocks())
    flat = faiss.IndexFlatIP(DIM)
    flat.add(base)
    lines = []
    with single_thread():
        for count, calls in CALLS_BY_QUERIES.items():
            lines += _measure_unfiltered(index, flat, base, queries[:count], K, calls)
        lines += _measure_unfiltered(index, flat, base, queries[:1], LONG_K, CALLS_BY_QUERIES[1])
        for share in ALLOWED_FRACTIONS:
            lines += _measure_filtered(index, flat, base, queries[:1], share)
    return {"machine": machine(), "total": rows, "rows": lines}


def _measure_unfiltered(
    index: VectorIndex, flat: Any, base: Vectors, queries: Vectors, k: int, calls: int
) -> list[dict[str, Any]]:
    """Compare one number of queries with each peer."""
    peers: dict[str, Callable[[], Any]] = {
        FAISS_NAME: lambda: flat.search(queries, k),
        "numpy": partial(_numpy, base, queries, k),
        "torch": partial(_torch, torch.from_numpy(base), torch.from_numpy(queries), k),
    }
    guard = _describe_error(index, [(np.arange(len(base)), base)], queries, k)
    bars = {1: {FAISS_NAME: MIN_SPEEDUP}, 32: {FAISS_NAME: MIN_BATCH_SPEEDUP}, 1024: {}}
    bar = bars[len(queries)] if k == K else {}
    name = f"{len(queries)} {'query' if len(queries) == 1 else 'queries'}, {k} hits"
    return _time_peers(name, lambda: index.search(queries, k), peers, calls, bar, guard)


def _measure_filtered(
    index: VectorIndex, flat: Any, base: Vectors, queries: Vectors, share: float
) -> list[dict[str, Any]]:
    """Compare one query among the rows that pass a filter, which is the same for all peers."""
    is_allowed = np.random.default_rng(0).random(len(base)) < share
    allowed = np.flatnonzero(is_allowed)
    selector = faiss.IDSelectorBitmap(np.packbits(is_allowed, bitorder="little"))
    parameters = faiss.SearchParameters(sel=selector)
    peers: dict[str, Callable[[], Any]] = {
        FAISS_NAME: lambda: flat.search(queries, K, params=parameters),
        "numpy": lambda: _numpy(base[allowed], queries, K),
    }
    guard = _describe_error(index, [(allowed, base[allowed])], queries, K, allowed)
    name = f"1 query, {K} hits, {share:.0%} of the vectors allowed"
    return _time_peers(
        name, lambda: index.search(queries, K, allowed), peers, CALLS_BY_QUERIES[1], {}, guard
    )


def _time_peers(
    name: str,
    ours: Callable[[], Any],
    peers: dict[str, Callable[[], Any]],
    calls: int,
    bars: dict[str, float],
    guard: str,
) -> list[dict[str, Any]]:
    contenders = {NAME: ours, **peers}
    repeated = {contender: partial(_repeat, work, calls) for contender, work in contenders.items()}
    seconds = {
        contender: times / calls for contender, times in time_alternating(repeated, ROUNDS).items()
    }
    return [
        row(
            f"{name}; {contender}",
            compare_times(seconds[NAME], seconds[contender]),
            bars.get(contender),
            guard,
        )
        for contender in peers
    ]


def _repeat(work: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        work()


def _numpy(base: Vectors, queries: Vectors, k: int) -> Ids:
    scores = queries @ base.T
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def _torch(base: torch.Tensor, queries: torch.Tensor, k: int) -> Any:
    with torch.inference_mode():
        return torch.topk(queries @ base.T, k)


def _describe_error(
    index: VectorIndex,
    blocks: list[tuple[Ids, Vectors]],
    queries: Vectors,
    k: int,
    allowed: Ids | None = None,
) -> str:
    """Describe the largest difference, rank by rank, from the exact scores."""
    found = index.search(queries, k, allowed)
    _, scores = exact_top_k(blocks, queries, k)
    max_error = float(abs(found.scores - scores).max())
    return f"scores within {max_error:.0e}" + (
        "" if max_error <= index.score_tolerance else ": WRONG"
    )


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Exact search, {results["total"]:,} vectors

The `faiss_flat` index, float16 rows, through its public `search`, one thread, processor time of a call; 512 columns.
numpy multiplies with all float32 rows and partitions, torch multiplies and takes `topk`. With a filter, FAISS is given
a bitmap, and numpy gathers what is allowed. The guard: how far scores are from the exact ones, place by place.

{table(results["rows"], NAME, "other")}"""
