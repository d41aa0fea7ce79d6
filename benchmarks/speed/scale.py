"""A million and ten million vectors on a small machine: built block by block, searched from the file."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.compare import machine, peak_memory_kib
from benchmarks.speed.ground_truth import recall
from benchmarks.speed.synthetic import Collection
from mmsearch.core.types import IndexSpec, TrainingData, Vectors
from mmsearch.vector_indexes import faiss_fastscan

ROWS, KIND = 10_000_000, "mixed"
TRAINING_QUERIES, QUERIES, TIMED_QUERIES, K = 3072, 50, 20, 10


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure seconds, megabytes and recall of one build; it needs 2 KB of disk per vector."""
    collection = Collection(KIND, rows)
    spec = IndexSpec("faiss_fastscan", 512, "cpu")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        path = Path(name) / "ann.vectors"
        started_s = time.perf_counter()
        training = TrainingData(collection.training_queries(TRAINING_QUERIES))
        file_ref = faiss_fastscan.write(spec, collection.blocks(), path, training)
        built_s, peak_mb = time.perf_counter() - started_s, peak_memory_kib() * 1024 / 1e6
        started_s = time.perf_counter()
        index = faiss_fastscan.load(spec, path, file_ref)
        loaded_s = time.perf_counter() - started_s
        queries = collection.text_queries(QUERIES)
        # Rows are read from disk and verified when a search first needs them.
        first_ms = _median_ms(index, queries, K)
        found_ids = index.search(queries, K).ids
        # Searches with k above 1000 are exact.
        true_ids = index.search(queries, 1001).ids[:, :K]
        return {
            "rows": rows,
            "kind": KIND,
            "built_s": built_s,
            "peak_mb": peak_mb,
            "file_bytes": file_ref.bytes,
            "loaded_s": loaded_s,
            "first_ms": first_ms,
            "query_ms": _median_ms(index, queries, K),
            "recall": recall(found_ids, true_ids),
            "queries": QUERIES,
            "tuned": dict(index.stats),
            "machine": machine(),
        }


def _median_ms(index: Any, queries: Vectors, k: int) -> float:
    times = []
    for query in queries[:TIMED_QUERIES]:
        started_s = time.perf_counter()
        index.search(query[None], k)
        times.append(time.perf_counter() - started_s)
    return 1000 * float(np.median(times))


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    tuned = results["tuned"]
    part = "scale" if results["rows"] == ROWS else "scale_1m"
    return f"""\
## {results["rows"]:,} vectors on this machine

Vectors of the kind *{results["kind"]}* (512 columns), streamed into `faiss_fastscan`, which tunes itself on texts, and searched
from the mapped file. Memory is the peak of the whole process, mapped pages of the file that were in memory
among it. Times are of a machine that was busy with other work (load {results["machine"]["load"]:.0f} at the end).
`scripts/bench --only {part}` does it again; it takes {results["file_bytes"] / 1e9:.0f} GB of disk.

| | |
|---|--:|
| build, wall time | {results["built_s"] / 60:.0f} min |
| peak memory while building | {results["peak_mb"] / 1000:.1f} GB |
| file | {results["file_bytes"] / 1e9:.1f} GB |
| codes, kept in memory by searches | {tuned.get("code_bytes", 0) / 1e9:.2f} GB |
| load | {results["loaded_s"]:.2f} s |
| one text query, k = {K}, median, asked for the first time after loading | {results["first_ms"]:.0f} ms |
| the same queries again | {results["query_ms"]:.0f} ms |
| exact search of one query, median while tuning | {tuned.get("exact_ms", 0.0):.0f} ms |
| Recall@{K} of {results["queries"]} other texts | {results["recall"]:.3f} |
| Recall@{K} of its own {tuned.get("queries", 0)} held-out texts | {tuned["recall"]:.3f} |
"""
