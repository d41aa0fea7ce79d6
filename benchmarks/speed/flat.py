"""The exact best of all vectors, on one core."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from benchmarks.speed.compare import against, in_turns, machine, one_thread, row, table
from benchmarks.speed.ours import NAME
from benchmarks.speed.synthetic import DIM, Collection
from benchmarks.speed.truth import nearest
from mmsearch.core.protocols import VectorIndex
from mmsearch.core.types import Ids, IndexSpec, Vectors
from mmsearch.vector_indexes import faiss_flat

ROWS, K, LONG_K, ROUNDS = 200_000, 10, 1000, 7
MANY = {1: 20, 32: 1, 1024: 1}
"""Queries of a call, and calls that are timed together."""

FASTEST, NOT_SLOWER = 1.7, 1.0
ALLOWED = (0.1, 0.01)
FAISS = "FAISS IndexFlatIP, float32"
Search = Callable[[], tuple[np.ndarray, Ids]]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Times of a call for several numbers of queries, lengths of answers, and filters."""
    collection = Collection("gap", rows)
    base = collection.base()
    queries = collection.text_queries(max(MANY))
    index = faiss_flat.build(IndexSpec("faiss_flat", DIM, "cpu"), collection.blocks())
    flat = faiss.IndexFlatIP(DIM)
    flat.add(base)
    lines = []
    with one_thread():
        for count, calls in MANY.items():
            lines += _plain(index, flat, base, queries[:count], K, calls)
        lines += _plain(index, flat, base, queries[:1], LONG_K, MANY[1])
        for share in ALLOWED:
            lines += _filtered(index, flat, base, queries[:1], share)
    return {"machine": machine(), "total": rows, "rows": lines}


def _plain(
    index: VectorIndex, flat: Any, base: Vectors, queries: Vectors, k: int, calls: int
) -> list[dict[str, Any]]:
    """One number of queries, beside each peer."""
    others: dict[str, Callable[[], Any]] = {
        FAISS: lambda: flat.search(queries, k),
        "numpy": partial(_numpy, base, queries, k),
        "torch": partial(_torch, torch.from_numpy(base), torch.from_numpy(queries), k),
    }
    guard = _guard(index, [(np.arange(len(base)), base)], queries, k)
    bars = {1: {FAISS: FASTEST}, 32: {FAISS: NOT_SLOWER}, 1024: {FAISS: NOT_SLOWER}}
    bar = bars[len(queries)] if k == K else {}
    name = f"{len(queries)} {'query' if len(queries) == 1 else 'queries'}, {k} hits"
    return _rows(name, lambda: index.search(queries, k), others, calls, bar, guard)


def _filtered(
    index: VectorIndex, flat: Any, base: Vectors, queries: Vectors, share: float
) -> list[dict[str, Any]]:
    """One query among the rows that a filter lets pass, the same for all."""
    passed = np.random.default_rng(0).random(len(base)) < share
    allowed = np.flatnonzero(passed)
    selector = faiss.IDSelectorBitmap(np.packbits(passed, bitorder="little"))
    parameters = faiss.SearchParameters(sel=selector)
    others: dict[str, Callable[[], Any]] = {
        FAISS: lambda: flat.search(queries, K, params=parameters),
        "numpy": lambda: _numpy(base[allowed], queries, K),
    }
    guard = _guard(index, [(allowed, base[allowed])], queries, K, allowed)
    name = f"1 query, {K} hits, {share:.0%} of the vectors allowed"
    return _rows(name, lambda: index.search(queries, K, allowed), others, MANY[1], {}, guard)


def _rows(
    name: str,
    ours: Callable[[], Any],
    others: dict[str, Callable[[], Any]],
    calls: int,
    bars: dict[str, float],
    guard: str,
) -> list[dict[str, Any]]:
    contenders = {NAME: ours, **others}
    repeated = {who: partial(_repeat, work, calls) for who, work in contenders.items()}
    seconds = {who: own / calls for who, own in in_turns(repeated, ROUNDS).items()}
    return [
        row(f"{name}; {who}", against(seconds[NAME], seconds[who]), bars.get(who), guard)
        for who in others
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


def _guard(
    index: VectorIndex,
    blocks: list[tuple[Ids, Vectors]],
    queries: Vectors,
    k: int,
    allowed: Ids | None = None,
) -> str:
    """How far the scores of the answer, place by place, are from the exact ones."""
    found = index.search(queries, k, allowed)
    _, scores = nearest(blocks, queries, k)
    off = float(abs(found.scores - scores).max())
    return f"scores within {off:.0e}" + ("" if off <= index.score_tolerance else ": WRONG")


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    return f"""\
## Exact search, {results["total"]:,} vectors

The `faiss_flat` index, float16 rows, through its public `search`, one thread, processor time of a call; 512 columns.
numpy multiplies with all float32 rows and partitions, torch multiplies and takes `topk`. With a filter, FAISS is given
a bitmap, and numpy gathers what is allowed. The guard: how far scores are from the exact ones, place by place.

{table(results["rows"], NAME, "other")}"""
