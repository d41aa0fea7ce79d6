"""Guard that FAISS's fast scan uses SIMD: some builds did not, yet the results were correct."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss

from benchmarks.speed.compare import compare, machine, row, single_thread, table
from benchmarks.speed.contenders import ivf_flat, num_lists, train_and_add
from benchmarks.speed.ground_truth import load_ground_truth, recall
from benchmarks.speed.quant import rerank
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.types import Ids

ROWS, QUERIES, K, ROUNDS = 100_000, 100, 10, 7
NPROBE, SUBSPACES, CANDIDATES = 128, 256, 200
MIN_SPEEDUP = 2.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time of a query at the same number of lists."""
    collection = Collection("gap", ROWS)
    base, queries = collection.base(), collection.text_queries(QUERIES)
    true_ids = load_ground_truth(collection, queries, K, cache)
    exact = ivf_flat(collection, cache)
    exact.apply_setting(NPROBE)
    key = f"IVF{num_lists(ROWS)},PQ{SUBSPACES}x4fs"
    scan = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
    train_and_add(scan, collection)
    scan.nprobe = NPROBE

    def scan_with_simd() -> Ids:
        candidates: Ids = scan.search(queries, CANDIDATES)[1]
        return candidates

    def scan_without_simd() -> Ids:
        with _without_simd():
            return scan_with_simd()

    def search_float32() -> Ids:
        return exact.search(queries, CANDIDATES)

    flat_recall = recall(search_float32()[:, :K], true_ids)
    reranked_recall = recall(rerank(base, queries, scan_with_simd()), true_ids)
    same_share = recall(scan_without_simd(), scan_with_simd())
    rows = []
    peers: dict[str, tuple[Callable[[], Ids], float | None, str]] = {
        "beside IVF,Flat": (
            search_float32,
            MIN_SPEEDUP,
            f"R@{K} {reranked_recall:.3f} of {flat_recall:.3f}",
        ),
        "beside itself without": (scan_without_simd, None, f"{same_share:.1%} the same"),
    }
    with single_thread():
        for name, (peer, bar, guard) in peers.items():
            result = compare(scan_with_simd, peer, QUERIES, ROUNDS)
            rows.append(row(f"{key} {name}", result, bar, guard))
    return {"machine": machine(), "rows": rows}


@contextmanager
def _without_simd() -> Iterator[None]:
    """Disable FAISS's SIMD instructions within the context."""
    level = faiss.SIMDConfig.get_level()
    faiss.SIMDConfig.set_level(faiss.SIMDLevel_NONE)
    try:
        yield
    finally:
        faiss.SIMDConfig.set_level(level)


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Fast scan

FAISS {results["machine"]["faiss"]["simd"]}, one thread, processor time of one query among {ROWS:,} vectors, {NPROBE} lists probed: codes of 4 bits
by fast scan, beside float32 rows in the same lists, and beside the same codes with vector instructions switched
off. The guard: recall with the {CANDIDATES} best compared again, of what the lists hold; and candidates that are the same.

{table(results["rows"], "fast scan", "other")}"""
