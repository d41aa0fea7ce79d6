"""Queries a second at a recall, text against pictures, beside other vector indexes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import contenders
from benchmarks.speed.compare import against, in_turns, machine, one_thread, row, table
from benchmarks.speed.contenders import PEERS, Contender
from benchmarks.speed.curves import Bracket, bracket
from benchmarks.speed.ours import NAME, ours
from benchmarks.speed.peers import PeerUnavailableError
from benchmarks.speed.synthetic import KINDS, Collection
from benchmarks.speed.truth import recall, truth
from mmsearch.core.types import Ids, Vectors

TARGETS = (0.90, 0.95, 0.99)
JUDGED = 0.95
ROWS, QUERIES, K, ROUNDS = 50_000, 400, 10, 7
TIMED = 100
"""Queries of a round; recall is measured on all."""

DROPPED = 1.5
"""Times slower than the best of the others in one pass: such a peer is not timed in rounds."""


class Trial:
    """One index and the queries of the test; what was seen of a setting is kept."""

    def __init__(self, index: Contender, queries: Vectors, true: Ids) -> None:
        self.index = index
        self._queries, self._true = queries, true
        self._seen: dict[int, tuple[float, float]] = {}

    def run(self, place: int, count: int) -> Ids:
        """The first queries, one a call as they come from people, at the setting of a place."""
        self.index.choose(self.index.settings[place])
        return np.concatenate(
            [self.index.search(self._queries[i : i + 1], K) for i in range(count)]
        )

    def recall(self, place: int) -> float:
        """Recall at the setting of a place."""
        return self._look(place)[0]

    def rate(self, own: Bracket, target: float) -> float:
        """Queries a second at a recall, from the one pass in which recall was measured."""
        return own.at(target, self._look(own.low)[1], self._look(own.high)[1])

    def bracket(self, target: float) -> Bracket | None:
        """The settings around a recall."""
        return bracket(self.recall, len(self.index.settings), target)

    def _look(self, place: int) -> tuple[float, float]:
        if place not in self._seen:
            began = time.process_time()
            found = self.run(place, len(self._queries))
            rate = len(self._queries) / (time.process_time() - began)
            self._seen[place] = recall(found, self._true), rate
        return self._seen[place]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Rates at each recall, and the ratio to the best peer."""
    return {
        "rows": rows,
        "queries": QUERIES,
        "timed": TIMED,
        "rounds": ROUNDS,
        "kinds": {kind: _kind(Collection(kind, rows), cache) for kind in KINDS},
        "machine": machine(),
    }


def _kind(collection: Collection, cache: Path) -> dict[str, Any]:
    queries = collection.text_queries(QUERIES)
    true = truth(collection, queries, K, cache)
    trials, absent = {}, {}
    began = time.process_time()
    own = ours(collection.ids, collection.blocks(), collection.training_queries())
    seconds = round(time.process_time() - began, 1)
    for name, build in {NAME: lambda *_: own, **PEERS}.items():
        try:
            trials[name] = Trial(build(collection, cache), queries, true)
        except PeerUnavailableError as error:
            absent[name] = str(error)
    with one_thread():
        targets = {f"{target:.2f}": _target(trials, target) for target in TARGETS}
    return {
        "targets": targets,
        "absent": absent,
        "build_s": {NAME: seconds} | contenders.build_seconds(collection, cache),
        "autofaiss": None
        if "autofaiss' pick" in absent
        else contenders.autofaiss_pick(collection.rows),
        "tuned": {
            "setting": str(own.tuned),
            "recall": trials[NAME].recall(own.settings.index(own.tuned)),
        },
    }


def _target(trials: dict[str, Trial], target: float) -> dict[str, Any]:
    """All that reach it; those that could be the best peer, and mmsearch, once a round."""
    found = {name: trial.bracket(target) for name, trial in trials.items()}
    around = {name: own for name, own in found.items() if own}
    rates = {name: np.array([trials[name].rate(own, target)]) for name, own in around.items()}
    leading = max((rate[0] for name, rate in rates.items() if name != NAME), default=0.0)
    timed = [n for n, rate in rates.items() if n == NAME or rate[0] * DROPPED > leading]
    rates |= _rounds({name: (trials[name], around[name]) for name in timed}, target)
    table_of = {
        name: {
            "qps": float(np.median(rate)),
            "timed_in_rounds": name in timed,
            "settings": [
                str(trials[name].index.settings[place]) for place in _places(around[name])
            ],
            "recalls": [around[name].low_recall, around[name].high_recall],
        }
        for name, rate in rates.items()
    }
    peers = {name: table_of[name]["qps"] for name in timed if name != NAME}
    if NAME not in rates or not peers:
        return {"contenders": table_of, "row": None}
    best = max(peers, key=lambda name: peers[name])
    result = against(1 / rates[NAME], 1 / rates[best])
    bar = 1.0 if target == JUDGED else None
    name = f"R@{K} {target:.2f}; best peer {best}"
    own_recall = around[NAME].high_recall if len(_places(around[NAME])) == 1 else target
    guard = f"R@{K} {own_recall:.3f} beside {target:.3f}"
    return {"contenders": table_of, "row": row(name, result, bar, guard)}


def _rounds(
    timed: dict[str, tuple[Trial, Bracket]], target: float
) -> dict[str, NDArray[np.float64]]:
    """Queries a second at the target by name, in each round, float64 (rounds,)."""
    runs: dict[str, Callable[[], Any]] = {
        f"{name}:{place}": partial(trial.run, place, TIMED)
        for name, (trial, own) in timed.items()
        for place in _places(own)
    }
    seconds = in_turns(runs, ROUNDS)
    rates = {}
    for name, (_, own) in timed.items():
        low, high = (TIMED / seconds[f"{name}:{place}"] for place in (own.low, own.high))
        pairs = zip(low, high, strict=True)
        rates[name] = np.array([own.at(target, *pair) for pair in pairs])
    return rates


def _places(own: Bracket) -> list[int]:
    return sorted({own.low, own.high})


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    sections = []
    for kind, own in results["kinds"].items():
        names = list(dict.fromkeys(n for t in own["targets"].values() for n in t["contenders"]))
        lines = [
            f"| {name} | "
            + " | ".join(
                _cell(target["contenders"].get(name)) for target in own["targets"].values()
            )
            + " |\n"
            for name in names
        ]
        head = "| | " + " | ".join(f"R@{K} {target}" for target in own["targets"]) + " |\n"
        judged = [target["row"] for target in own["targets"].values() if target["row"]]
        built = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in own["build_s"].items())
        absent = "".join(f" {name}: {reason}" for name, reason in own["absent"].items())
        sections.append(f"""\
*{kind}*, queries a second, and the settings they come from:

{head}|---|{"--:|" * len(own["targets"])}
{"".join(lines)}
{table(judged, NAME, "best peer")}
By itself mmsearch takes {own["tuned"]["setting"]}, R@{K} {own["tuned"]["recall"]:.3f}. autofaiss picks {own["autofaiss"]}. Built, processor time: {built}.{absent}
""")
    return f"""\
## Text queries a second at equal recall, {results["rows"]:,} vectors

{results["queries"]} text queries against picture vectors made by `benchmarks/speed/synthetic.py`, 512 columns, one query
a call, one thread, processor time. Each index is run at the two settings around a recall, and the rate between is
interpolated; mmsearch and the peers near the best do so in turns, {results["rounds"]} rounds of {results["timed"]} queries (*: clearly slower, timed in
one pass). Graphs have {contenders.LINKS} links and are built with {contenders.EF_CONSTRUCTION} candidates; usearch holds float16, others float32.
autofaiss decides in its own environment (it needs faiss-cpu), and FAISS here builds what it picks with FAISS's
defaults, as it would. The settings around a recall are read off the test's own queries, for all alike; what
mmsearch learns, and its own choice of a setting, come from 20,000 other texts. The bar: not slower than the best peer
at R@{K} {JUDGED:.2f}.

{chr(10).join(sections)}"""


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "not reached"
    once = "" if entry["timed_in_rounds"] else "*"
    return f"{entry['qps']:,.0f}{once} ({'-'.join(entry['settings'])})"
