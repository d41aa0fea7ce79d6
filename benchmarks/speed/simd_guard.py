"""That FAISS's fast scan runs in vector instructions: builds of it once did not, and no answer changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss

from benchmarks.speed.compare import compare, machine, one_thread, row, table
from benchmarks.speed.contenders import ivf_flat, lists, train_and_add
from benchmarks.speed.quant import reranked
from benchmarks.speed.synthetic import DIM, Collection
from benchmarks.speed.truth import recall, truth
from mmsearch.core.types import Ids

ROWS, QUERIES, K, ROUNDS = 100_000, 100, 10, 7
PROBES, SUBSPACES, CANDIDATES = 128, 256, 200
BAR = 2.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Times of a query at an equal number of lists."""
    collection = Collection("gap", ROWS)
    base, queries = collection.base(), collection.text_queries(QUERIES)
    true = truth(collection, queries, K, cache)
    exact = ivf_flat(collection, cache)
    exact.choose(PROBES)
    key = f"IVF{lists(ROWS)},PQ{SUBSPACES}x4fs"
    scan = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
    train_and_add(scan, collection)
    scan.nprobe = PROBES

    def fast() -> Ids:
        found: Ids = scan.search(queries, CANDIDATES)[1]
        return found

    def scalar() -> Ids:
        with _scalar():
            return fast()

    def rows_of_float32() -> Ids:
        return exact.search(queries, CANDIDATES)

    best = recall(rows_of_float32()[:, :K], true)
    again = recall(reranked(base, queries, fast()), true)
    same = recall(scalar(), fast())
    rows = []
    others: dict[str, tuple[Callable[[], Ids], float | None, str]] = {
        "beside IVF,Flat": (rows_of_float32, BAR, f"R@{K} {again:.3f} of {best:.3f}"),
        "beside itself without": (scalar, None, f"{same:.1%} the same"),
    }
    with one_thread():
        for name, (other, bar, guard) in others.items():
            result = compare(fast, other, QUERIES, ROUNDS)
            rows.append(row(f"{key} {name}", result, bar, guard))
    return {"machine": machine(), "rows": rows}


@contextmanager
def _scalar() -> Iterator[None]:
    """Within it, FAISS uses no vector instructions."""
    level = faiss.SIMDConfig.get_level()
    faiss.SIMDConfig.set_level(faiss.SIMDLevel_NONE)
    try:
        yield
    finally:
        faiss.SIMDConfig.set_level(level)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    return f"""\
## Fast scan

FAISS {results["machine"]["faiss"]["simd"]}, one thread, processor time of one query among {ROWS:,} vectors, {PROBES} lists probed: codes of 4 bits
by fast scan, beside float32 rows in the same lists, and beside the same codes with vector instructions switched
off. The guard: recall with the {CANDIDATES} best compared again, of what the lists hold; and candidates that are the same.

{table(results["rows"], "fast scan", "other")}"""
