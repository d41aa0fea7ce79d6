"""What is left of recall when vectors are made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.speed.compare import machine
from benchmarks.speed.ours import NAME, ours
from benchmarks.speed.synthetic import DIM, KINDS, Collection
from benchmarks.speed.truth import recall, truth
from mmsearch.core.types import Ids, Vectors

ROWS, QUERIES, K = 100_000, 400, 10
CANDIDATES = 200
"""Rows that are compared again by their float16 vectors."""

TRAINED_ON, ROTATIONS = 16_384, 10
# "np": without the annealing of polysemous codes, which takes minutes and serves another search.
CODES = {
    "float16": "SQfp16",
    "SQ8": "SQ8",
    "SQ4": "SQ4",
    "RaBitQ, 4 bits": "RaBitQ4",
    "RaBitQ, 1 bit": "RaBitQ",
    "PQ64": "PQ64np",
    "OPQ64": "OPQ64,PQ64np",
}
JUDGED, BAR = "RaBitQ, 4 bits", 0.98


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Recall of text queries, in one pass and compared again."""
    return {
        "machine": machine(),
        "rows": ROWS,
        "queries": QUERIES,
        "kinds": {kind: _kind(Collection(kind, ROWS), cache) for kind in KINDS},
    }


def _kind(collection: Collection, cache: Path) -> list[dict[str, Any]]:
    base, queries = collection.base(), collection.text_queries(QUERIES)
    true = truth(collection, queries, K, cache)
    lines = []
    for name, key in CODES.items():
        index = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
        if key.startswith("OPQ"):
            faiss.downcast_VectorTransform(index.chain.at(0)).niter = ROTATIONS
        index.train(base[:TRAINED_ON])
        index.add(base)
        found = index.search(queries, CANDIDATES)[1]
        once = recall(found[:, :K], true)
        again = recall(reranked(base, queries, found), true)
        lines.append({"name": name, "bytes": index.sa_code_size(), "once": once, "again": again})
    own = ours(collection.ids, collection.blocks(), collection.training_queries())
    own.choose(own.tuned)
    answered = recall(own.search(queries, K), true)
    return [*lines, {"name": NAME, "bytes": own.bytes_a_vector, "once": None, "again": answered}]


def reranked(base: Vectors, queries: Vectors, candidates: Ids) -> Ids:
    """The best of each query's candidates by their float16 rows, int64 (q, K)."""
    best = []
    for query, places in zip(queries, candidates, strict=True):
        scores = base[places].astype(np.float16).astype(np.float32) @ query
        best.append(places[np.argsort(-scores)[:K]])
    return np.array(best)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    lines = "".join(_line(kind, line) for kind, own in results["kinds"].items() for line in own)
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
    bar = f"{BAR}: {'held' if line['again'] >= BAR else 'missed'}" if line["name"] == JUDGED else ""
    return (
        f"| {kind} | {line['name']} | {line['bytes']:,} | {once} | {line['again']:.3f} | {bar} |\n"
    )
