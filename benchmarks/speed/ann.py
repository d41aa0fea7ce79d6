"""Text-to-image queries per second at equal recall, compared with other vector indexes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed import contenders
from benchmarks.speed.compare import (
    compare_times,
    machine,
    row,
    single_thread,
    table,
    time_alternating,
)
from benchmarks.speed.contenders import PEERS, Contender
from benchmarks.speed.ground_truth import load_ground_truth, recall
from benchmarks.speed.mmsearch_contender import NAME, build_contender
from benchmarks.speed.peer_environments import PeerUnavailableError
from benchmarks.speed.recall_curves import Bracket, find_bracket
from benchmarks.speed.synthetic import KINDS, Collection
from mmsearch.core.types import Ids, Vectors

TARGETS = (0.90, 0.95, 0.99)
JUDGED_RECALL = 0.95
ROWS, QUERIES, K, ROUNDS = 50_000, 400, 10, 7
TIMED_QUERIES = 100
"""Number of queries per round; recall is measured on all queries."""

MAX_SLOWDOWN = 1.5
"""Maximum slowdown, against the fastest peer in one pass, at which a peer is timed in rounds."""


class Trial:
    """An index and the test queries; the results of each setting are cached."""

    def __init__(self, index: Contender, queries: Vectors, true: Ids) -> None:
        self.index = index
        self._queries, self._true = queries, true
        self._measured: dict[int, tuple[float, float]] = {}

    def run(self, position: int, count: int) -> Ids:
        """Run the first queries, one per call as users send them, at the setting at ``position``."""
        self.index.apply_setting(self.index.settings[position])
        return np.concatenate(
            [self.index.search(self._queries[i : i + 1], K) for i in range(count)]
        )

    def recall(self, position: int) -> float:
        """Return the recall at the setting at ``position``."""
        return self._measure_setting(position)[0]

    def rate(self, bracket: Bracket, target: float) -> float:
        """Return queries per second at a recall, from the pass that measured recall."""
        return bracket.interpolate_rate(
            target, self._measure_setting(bracket.low)[1], self._measure_setting(bracket.high)[1]
        )

    def find_bracket(self, target: float) -> Bracket | None:
        """Return the neighbouring settings around a recall, or None if it is not reached."""
        return find_bracket(self.recall, len(self.index.settings), target)

    def _measure_setting(self, position: int) -> tuple[float, float]:
        if position not in self._measured:
            started_s = time.process_time()
            found_ids = self.run(position, len(self._queries))
            rate = len(self._queries) / (time.process_time() - started_s)
            self._measured[position] = recall(found_ids, self._true), rate
        return self._measured[position]


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure the rate at each recall, and the ratio to the best peer."""
    return {
        "rows": rows,
        "queries": QUERIES,
        "timed": TIMED_QUERIES,
        "rounds": ROUNDS,
        "kinds": {kind: _measure_kind(Collection(kind, rows), cache) for kind in KINDS},
        "machine": machine(),
    }


def _measure_kind(collection: Collection, cache: Path) -> dict[str, Any]:
    queries = collection.text_queries(QUERIES)
    true_ids = load_ground_truth(collection, queries, K, cache)
    trials, absent = {}, {}
    started_s = time.process_time()
    contender = build_contender(collection.ids, collection.blocks(), collection.training_queries())
    seconds = round(time.process_time() - started_s, 1)
    for name, build in {NAME: lambda *_: contender, **PEERS}.items():
        try:
            trials[name] = Trial(build(collection, cache), queries, true_ids)
        except PeerUnavailableError as error:
            absent[name] = str(error)
    with single_thread():
        targets = {f"{target:.2f}": _measure_target(trials, target) for target in TARGETS}
    return {
        "targets": targets,
        "absent": absent,
        "build_s": {NAME: seconds} | contenders.build_seconds(collection, cache),
        "autofaiss": None
        if "autofaiss' pick" in absent
        else contenders.autofaiss_pick(collection.rows),
        "tuned": {
            "setting": str(contender.tuned),
            "recall": trials[NAME].recall(contender.settings.index(contender.tuned)),
        },
    }


def _measure_target(trials: dict[str, Trial], target: float) -> dict[str, Any]:
    """Measure all indexes that reach the target.

    mmsearch and the peers that could be the best are timed once per round.
    """
    found_brackets = {name: trial.find_bracket(target) for name, trial in trials.items()}
    brackets = {name: bracket for name, bracket in found_brackets.items() if bracket}
    rates = {
        name: np.array([trials[name].rate(bracket, target)]) for name, bracket in brackets.items()
    }
    best_rate = max((rate[0] for name, rate in rates.items() if name != NAME), default=0.0)
    timed = [n for n, rate in rates.items() if n == NAME or rate[0] * MAX_SLOWDOWN > best_rate]
    rates |= _time_in_rounds({name: (trials[name], brackets[name]) for name in timed}, target)
    entries = {
        name: {
            "qps": float(np.median(rate)),
            "timed_in_rounds": name in timed,
            "settings": [
                str(trials[name].index.settings[position])
                for position in _positions(brackets[name])
            ],
            "recalls": [brackets[name].low_recall, brackets[name].high_recall],
        }
        for name, rate in rates.items()
    }
    peers = {name: entries[name]["qps"] for name in timed if name != NAME}
    if NAME not in rates or not peers:
        return {"contenders": entries, "row": None}
    best = max(peers, key=lambda name: peers[name])
    result = compare_times(1 / rates[NAME], 1 / rates[best])
    bar = 1.0 if target == JUDGED_RECALL else None
    name = f"R@{K} {target:.2f}; best peer {best}"
    own_recall = brackets[NAME].high_recall if len(_positions(brackets[NAME])) == 1 else target
    guard = f"R@{K} {own_recall:.3f} beside {target:.3f}"
    return {"contenders": entries, "row": row(name, result, bar, guard)}


def _time_in_rounds(
    timed: dict[str, tuple[Trial, Bracket]], target: float
) -> dict[str, NDArray[np.float64]]:
    """Return queries per second at the target in each round, float64 (rounds,), by name."""
    runs: dict[str, Callable[[], Any]] = {
        f"{name}:{position}": partial(trial.run, position, TIMED_QUERIES)
        for name, (trial, bracket) in timed.items()
        for position in _positions(bracket)
    }
    seconds = time_alternating(runs, ROUNDS)
    rates = {}
    for name, (_, bracket) in timed.items():
        low, high = (
            TIMED_QUERIES / seconds[f"{name}:{position}"]
            for position in (bracket.low, bracket.high)
        )
        pairs = zip(low, high, strict=True)
        rates[name] = np.array([bracket.interpolate_rate(target, *pair) for pair in pairs])
    return rates


def _positions(bracket: Bracket) -> list[int]:
    return sorted({bracket.low, bracket.high})


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    sections = []
    for kind, kind_results in results["kinds"].items():
        names = list(
            dict.fromkeys(n for t in kind_results["targets"].values() for n in t["contenders"])
        )
        lines = [
            f"| {name} | "
            + " | ".join(
                _cell(target["contenders"].get(name)) for target in kind_results["targets"].values()
            )
            + " |\n"
            for name in names
        ]
        head = "| | " + " | ".join(f"R@{K} {target}" for target in kind_results["targets"]) + " |\n"
        judged = [target["row"] for target in kind_results["targets"].values() if target["row"]]
        built = ", ".join(
            f"{name} {seconds:.0f} s" for name, seconds in kind_results["build_s"].items()
        )
        absent = "".join(f" {name}: {reason}" for name, reason in kind_results["absent"].items())
        sections.append(f"""\
*{kind}*, queries a second, and the settings they come from:

{head}|---|{"--:|" * len(kind_results["targets"])}
{"".join(lines)}
{table(judged, NAME, "best peer")}
By itself mmsearch takes {kind_results["tuned"]["setting"]}, R@{K} {kind_results["tuned"]["recall"]:.3f}. autofaiss picks {kind_results["autofaiss"]}. Built, processor time: {built}.{absent}
""")
    return f"""\
## Text queries a second at equal recall, {results["rows"]:,} vectors

{results["queries"]} text queries against picture vectors made by `benchmarks/speed/synthetic.py`, 512 columns, one query
a call, one thread, processor time. Each index is run at the two settings around a recall, and the rate between is
interpolated; mmsearch and the peers near the best do so in turns, {results["rounds"]} rounds of {results["timed"]} queries (*: clearly slower, timed in
one pass). Graphs have {contenders.HNSW_LINKS} links and are built with {contenders.EF_CONSTRUCTION} candidates; usearch holds float16, others float32.
autofaiss decides in its own environment (it needs faiss-cpu), and FAISS here builds what it picks with FAISS's
defaults, as it would. The settings around a recall are read off the test's own queries, for all alike; what
mmsearch learns, and its own choice of a setting, come from 20,000 other texts. The bar: not slower than the best peer
at R@{K} {JUDGED_RECALL:.2f}.

{chr(10).join(sections)}"""


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "not reached"
    once = "" if entry["timed_in_rounds"] else "*"
    return f"{entry['qps']:,.0f}{once} ({'-'.join(entry['settings'])})"
