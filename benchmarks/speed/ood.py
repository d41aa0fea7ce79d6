"""Recall loss of an index that is tuned on image queries and searched with text queries."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.speed.compare import machine, single_thread
from benchmarks.speed.contenders import PEERS, Contender
from benchmarks.speed.ground_truth import load_ground_truth, recall
from benchmarks.speed.mmsearch_contender import NAME, build_contender
from benchmarks.speed.recall_curves import find_bracket
from benchmarks.speed.synthetic import KINDS, Collection
from mmsearch.core.types import Ids, Vectors

ROWS, QUERIES, K = 100_000, 400, 10
TUNING_RECALL, MIN_RECALL, MIN_PEER_DROP = 0.95, 0.95, 0.15
JUDGED_PEERS = ("FAISS IVF,Flat", "FAISS HNSW32")
QueriesAndTruth = dict[str, tuple[Vectors, Ids]]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure the recall of image and text queries at the same setting."""
    lines = []
    for kind in KINDS:
        collection = Collection(kind, rows)
        query_sets = {
            "pictures": collection.image_queries(QUERIES),
            "texts": collection.text_queries(QUERIES),
        }
        queries_and_truth = {
            name: (queries, load_ground_truth(collection, queries, K, cache))
            for name, queries in query_sets.items()
        }
        for name in JUDGED_PEERS:
            index = PEERS[name](collection, cache)
            with single_thread():
                setting = tune_on(index, *queries_and_truth["pictures"])
                lines.append(
                    {"kind": kind, "name": name}
                    | _measure_setting(index, setting, queries_and_truth)
                )
        contender = build_contender(
            collection.ids, collection.blocks(), collection.training_queries()
        )
        with single_thread():
            lines.append(
                {"kind": kind, "name": NAME}
                | _measure_setting(contender, contender.tuned, queries_and_truth)
            )
    return {"machine": machine(), "rows": rows, "queries": QUERIES, "lines": lines}


def tune_on(index: Contender, queries: Vectors, true_ids: Ids) -> Any:
    """Return the cheapest setting that reaches the target recall for these queries."""

    def recall_at(position: int) -> float:
        index.apply_setting(index.settings[position])
        return recall(index.search(queries, K), true_ids)

    bracket = find_bracket(recall_at, len(index.settings), TUNING_RECALL)
    return index.settings[-1 if bracket is None else bracket.high]


def _measure_setting(
    index: Contender, setting: Any, queries_and_truth: QueriesAndTruth
) -> dict[str, Any]:
    index.apply_setting(setting)
    line: dict[str, Any] = {"setting": str(setting)}
    for name, (queries, true_ids) in queries_and_truth.items():
        started_s = time.process_time()
        found_ids = index.search(queries, K)
        milliseconds = (time.process_time() - started_s) / len(queries) * 1e3
        line[name] = {"recall": recall(found_ids, true_ids), "ms": milliseconds}
    return line


def verdict(line: dict[str, Any]) -> str:
    """Return the requirement for a line and its outcome."""
    if line["name"] == NAME:
        return (
            f"texts {MIN_RECALL}: {'held' if line['texts']['recall'] >= MIN_RECALL else 'missed'}"
        )
    drop = line["pictures"]["recall"] - line["texts"]["recall"]
    return f"loses {MIN_PEER_DROP}: {'held' if drop >= MIN_PEER_DROP else 'missed'}"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        f"| {line['kind']} | {line['name']} | {line['setting']} | {line['pictures']['recall']:.3f}"
        f" | {line['texts']['recall']:.3f} | {line['pictures']['ms']:.2f} | {line['texts']['ms']:.2f}"
        f" | {verdict(line)} |\n"
        for line in results["lines"]
    )
    return f"""\
## Tuned on pictures, asked in words

{results["rows"]:,} vectors of `benchmarks/speed/synthetic.py`, {results["queries"]} queries of each sort. The others take the cheapest setting
that finds {TUNING_RECALL} of the {K} nearest for pictures that are not in the collection, as tools that tune on base vectors do;
mmsearch takes the setting that it chose itself. That they lose {MIN_PEER_DROP} or more on texts at that setting shows that
these data are hard in the way in which CLIP's are.

| kind | index | setting | R@{K} pictures | R@{K} texts | ms, picture | ms, text | bar |
|---|---|---|--:|--:|--:|--:|---|
{lines}"""
