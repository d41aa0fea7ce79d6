"""What an index loses when it is tuned on pictures and asked in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.speed.compare import machine, one_thread
from benchmarks.speed.contenders import PEERS, Contender
from benchmarks.speed.curves import bracket
from benchmarks.speed.ours import NAME, ours
from benchmarks.speed.synthetic import KINDS, Collection
from benchmarks.speed.truth import recall, truth
from mmsearch.core.types import Ids, Vectors

ROWS, QUERIES, K = 100_000, 400, 10
TUNED_TO, OUR_BAR, THEIR_DROP = 0.95, 0.95, 0.15
JUDGED = ("FAISS IVF,Flat", "FAISS HNSW32")
Asked = dict[str, tuple[Vectors, Ids]]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Recall of both sorts of queries at one setting."""
    lines = []
    for kind in KINDS:
        collection = Collection(kind, rows)
        asked = {
            "pictures": collection.image_queries(QUERIES),
            "texts": collection.text_queries(QUERIES),
        }
        pairs = {name: (each, truth(collection, each, K, cache)) for name, each in asked.items()}
        for name in JUDGED:
            index = PEERS[name](collection, cache)
            with one_thread():
                setting = tuned_on(index, *pairs["pictures"])
                lines.append({"kind": kind, "name": name} | _line(index, setting, pairs))
        own = ours(collection.ids, collection.blocks(), collection.training_queries())
        with one_thread():
            lines.append({"kind": kind, "name": NAME} | _line(own, own.tuned, pairs))
    return {"machine": machine(), "rows": rows, "queries": QUERIES, "lines": lines}


def tuned_on(index: Contender, queries: Vectors, true: Ids) -> Any:
    """The cheapest setting that finds enough for these queries."""

    def recall_of(place: int) -> float:
        index.choose(index.settings[place])
        return recall(index.search(queries, K), true)

    found = bracket(recall_of, len(index.settings), TUNED_TO)
    return index.settings[-1 if found is None else found.high]


def _line(index: Contender, setting: Any, asked: Asked) -> dict[str, Any]:
    index.choose(setting)
    line: dict[str, Any] = {"setting": str(setting)}
    for name, (queries, true) in asked.items():
        began = time.process_time()
        found = index.search(queries, K)
        milliseconds = (time.process_time() - began) / len(queries) * 1e3
        line[name] = {"recall": recall(found, true), "ms": milliseconds}
    return line


def verdict(line: dict[str, Any]) -> str:
    """What a line is held to, and whether it holds."""
    if line["name"] == NAME:
        return f"texts {OUR_BAR}: {'held' if line['texts']['recall'] >= OUR_BAR else 'missed'}"
    drop = line["pictures"]["recall"] - line["texts"]["recall"]
    return f"loses {THEIR_DROP}: {'held' if drop >= THEIR_DROP else 'missed'}"


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    lines = "".join(
        f"| {line['kind']} | {line['name']} | {line['setting']} | {line['pictures']['recall']:.3f}"
        f" | {line['texts']['recall']:.3f} | {line['pictures']['ms']:.2f} | {line['texts']['ms']:.2f}"
        f" | {verdict(line)} |\n"
        for line in results["lines"]
    )
    return f"""\
## Tuned on pictures, asked in words

{results["rows"]:,} vectors of `benchmarks/speed/synthetic.py`, {results["queries"]} queries of each sort. The others take the cheapest setting
that finds {TUNED_TO} of the {K} nearest for pictures that are not in the collection, as tools that tune on base vectors do;
mmsearch takes the setting that it chose itself. That they lose {THEIR_DROP} or more on texts at that setting shows that
these data are hard in the way in which CLIP's are.

| kind | index | setting | R@{K} pictures | R@{K} texts | ms, picture | ms, text | bar |
|---|---|---|--:|--:|--:|--:|---|
{lines}"""
