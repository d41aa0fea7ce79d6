"""Time and memory of building a vector index, compared with FAISS's indexes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.compare import compare, machine, peak_memory_kib, row, table
from benchmarks.speed.contenders import num_lists, train_and_add
from benchmarks.speed.mmsearch_contender import NAME, build_contender
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.types import Vectors

ROWS, CENTROIDS, NUM_TRAINING_ROWS, KMEANS_ITERATIONS, ROUNDS = 100_000, 1024, 65_536, 10, 7
MIN_SPEEDUP = 1.5
ROOT = Path(__file__).resolve().parents[2]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure both k-means methods, and complete builds with their memory."""
    _, sample = next(Collection("gap", rows).blocks(NUM_TRAINING_ROWS))
    objectives = {}

    def run(learn: Callable[[Vectors], float]) -> None:
        objectives[learn] = learn(sample)

    result = compare(lambda: run(train_superkmeans), lambda: run(train_clustering), rounds=ROUNDS)
    guard = f"sum of squares {objectives[train_superkmeans] / objectives[train_clustering]:.4f} of the other's"
    name = f"{CENTROIDS} centroids of {len(sample):,} vectors, {KMEANS_ITERATIONS} iterations"
    builds = {build_name: _run_in_process(build_name, rows) for build_name in BUILDS}
    return {
        "machine": machine(),
        "total": rows,
        "rows": [row(name, result, MIN_SPEEDUP, guard)],
        "whole": builds,
    }


def train_clustering(sample: Vectors) -> float:
    """Train centroids by FAISS's Clustering and return the remaining sum of squares."""
    clustering = faiss.Clustering(DIM, CENTROIDS)
    clustering.niter, clustering.seed = KMEANS_ITERATIONS, 0
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(sample)
    clustering.train(sample, faiss.IndexFlatL2(DIM))
    return _sum_of_squares(sample, faiss.vector_to_array(clustering.centroids))


def train_superkmeans(sample: Vectors) -> float:
    """Train centroids by FAISS's SuperKMeans and return the remaining sum of squares."""
    parameters = faiss.SuperKMeansParameters()
    parameters.niter, parameters.seed = KMEANS_ITERATIONS, 0
    parameters.min_points_per_centroid, parameters.max_points_per_centroid = 1, len(sample)
    clustering = faiss.SuperKMeans(DIM, CENTROIDS, parameters)
    clustering.train(sample)
    return _sum_of_squares(sample, faiss.vector_to_array(clustering.centroids))


def _sum_of_squares(sample: Vectors, centroids: np.ndarray) -> float:
    flat = faiss.IndexFlatL2(DIM)
    flat.add(centroids.reshape(CENTROIDS, DIM))
    return float(flat.search(sample[::16], 1)[0].sum())


def _ours(collection: Collection) -> None:
    build_contender(collection.ids, collection.blocks(), collection.training_queries())


def _ivf(collection: Collection, codes: str) -> None:
    key = f"IVF{num_lists(collection.rows)},{codes}"
    train_and_add(faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT), collection)


BUILDS: dict[str, Callable[[Collection], None]] = {
    NAME: _ours,
    "FAISS IVF,Flat": lambda collection: _ivf(collection, "Flat"),
    "FAISS IVF,PQ256x4fs": lambda collection: _ivf(collection, "PQ256x4fs"),
}


def _run_in_process(build_name: str, rows: int) -> dict[str, float]:
    """Return the seconds and peak memory of a build in its own process."""
    command = [sys.executable, "-m", "benchmarks.speed.build", build_name, str(rows)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(process.stdout.splitlines()[-1]))


def main(build_name: str, rows: int) -> None:
    """Build once, and print the time and memory as JSON."""
    collection = Collection("gap", rows)
    # Neither the generation of the vectors nor the imports are part of the build.
    collection.training_queries(1)
    started_s, cpu_started_s = time.perf_counter(), time.process_time()
    for _ in collection.blocks():
        pass
    vectors_s, vectors_cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_started_s
    memory_before_kib = peak_memory_kib()
    started_s, cpu_started_s = time.perf_counter(), time.process_time()
    BUILDS[build_name](collection)
    print(
        json.dumps(
            {
                "wall_s": time.perf_counter() - started_s - vectors_s,
                "cpu_s": time.process_time() - cpu_started_s - vectors_cpu_s,
                "before_mib": memory_before_kib / 1024,
                "peak_mib": peak_memory_kib() / 1024,
            }
        )
    )


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        f"| {build_name} | {figures['wall_s']:.1f} s | {figures['cpu_s']:.1f} s | {figures['peak_mib']:,.0f} MiB"
        f" | {figures['peak_mib'] - figures['before_mib']:,.0f} MiB |\n"
        for build_name, figures in results["whole"].items()
    )
    return f"""\
## Building, {results["total"]:,} vectors

Centroids by FAISS's SuperKMeans beside its Clustering, all cores, processor time; the guard is what distance is
left to a sixteenth of the vectors.

{table(results["rows"], "SuperKMeans", "Clustering")}
Whole builds, each in a process of its own, {DIM} columns, float32 vectors that arrive in blocks (the float32 rows alone are
{results["total"] * DIM * 4 / 2**20:,.0f} MiB). The time of making the vectors is taken off; the last column is what building adds to the
memory of the libraries and one block.

| build | wall | processor | peak memory | added |
|---|--:|--:|--:|--:|
{lines}"""


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
