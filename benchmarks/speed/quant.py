"""Recall of compressed vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.compare import machine
from benchmarks.speed.ground_truth import load_ground_truth, recall
from benchmarks.speed.mmsearch_contender import NAME, build_contender
from benchmarks.speed.synthetic import DIM, KINDS, Collection
from mmsearch.core.types import Ids, Vectors

ROWS, QUERIES, K = 100_000, 400, 10
CANDIDATES = 200
"""Number of rows that are rescored by their float16 vectors."""

NUM_TRAINING_ROWS, OPQ_ITERATIONS = 16_384, 10
# "np" omits polysemous training, which takes minutes and serves another kind of search.
CODES = {
    "float16": "SQfp16",
    "SQ8": "SQ8",
    "SQ4": "SQ4",
    "RaBitQ, 4 bits": "RaBitQ4",
    "RaBitQ, 1 bit": "RaBitQ",
    "PQ64": "PQ64np",
    "OPQ64": "OPQ64,PQ64np",
}
JUDGED_CODES, MIN_RECALL = "RaBitQ, 4 bits", 0.98


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the recall of text queries, in one pass and after rescoring."""
    return {
        "machine": machine(),
        "rows": ROWS,
        "queries": QUERIES,
        "kinds": {kind: _measure_kind(Collection(kind, ROWS), cache) for kind in KINDS},
    }


def _measure_kind(collection: Collection, cache: Path) -> list[dict[str, Any]]:
    base, queries = collection.base(), collection.text_queries(QUERIES)
    true_ids = load_ground_truth(collection, queries, K, cache)
    lines = []
    for name, key in CODES.items():
        index = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
        if key.startswith("OPQ"):
            faiss.downcast_VectorTransform(index.chain.at(0)).niter = OPQ_ITERATIONS
        index.train(base[:NUM_TRAINING_ROWS])
        index.add(base)
        candidates = index.search(queries, CANDIDATES)[1]
        once = recall(candidates[:, :K], true_ids)
        again = recall(rerank(base, queries, candidates), true_ids)
        lines.append({"name": name, "bytes": index.sa_code_size(), "once": once, "again": again})
    contender = build_contender(collection.ids, collection.blocks(), collection.training_queries())
    contender.apply_setting(contender.tuned)
    own_recall = recall(contender.search(queries, K), true_ids)
    return [
        *lines,
        {"name": NAME, "bytes": contender.bytes_per_vector, "once": None, "again": own_recall},
    ]


def rerank(base: Vectors, queries: Vectors, candidates: Ids) -> Ids:
    """Return the best candidates of each query by their float16 rows, int64 (q, K)."""
    best = []
    for query, positions in zip(queries, candidates, strict=True):
        scores = base[positions].astype(np.float16).astype(np.float32) @ query
        best.append(positions[np.argsort(-scores)[:K]])
    return np.array(best)


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        _line(kind, line) for kind, kind_lines in results["kinds"].items() for line in kind_lines
    )
    return f"""\
## Recall by bytes

{results["queries"]} text queries over {results["rows"]:,} vectors of `benchmarks/speed/synthetic.py`, {DIM} columns, all codes compared:
R@{K} in one pass, and with the {CANDIDATES} best compared again by their float16 rows. mmsearch answers as it chose
to by itself.

| kind | codes | bytes a vector | R@{K} | compared again | bar |
|---|---|--:|--:|--:|---|
{lines}"""


def _line(kind: str, line: dict[str, Any]) -> str:
    once = "" if line["once"] is None else f"{line['once']:.3f}"
    bar = (
        f"{MIN_RECALL}: {'held' if line['again'] >= MIN_RECALL else 'missed'}"
        if line["name"] == JUDGED_CODES
        else ""
    )
    return (
        f"| {kind} | {line['name']} | {line['bytes']:,} | {once} | {line['again']:.3f} | {bar} |\n"
    )
