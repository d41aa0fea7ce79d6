"""Fusion study: the value of texts, the best way to use them, and the cost of wrong texts.

The photographs of tests/photos are searched by their words. The texts are the titles under which
their authors published them. A share of the photographs has a title (coverage), and a share of
these titles belongs to another photograph (misplaced). Everything runs through the public API.
"""

from __future__ import annotations

import csv
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmsearch
from mmsearch.api.evaluate import CaptionedSet, Evaluation, SearchSettings, compare, evaluate_index

CONDITIONS = (
    (0.0, 0.0),
    *((coverage, wrong) for coverage in (0.25, 0.5, 1.0) for wrong in (0.0, 0.2, 0.5)),
)
HYBRID = {"odds": "log_odds", "score": "weighted_sum", "rank": "reciprocal_rank"}
SEED = 0
CONCLUSION = """
The default is *image: hybrid, odds*. Over the nine conditions with titles its mean Success@10 is that of the best
(0.72; fused vectors 0.67 to 0.71), it alone comes before the better of its two parts under each of them (as far as the
middle of the intervals tells), vectors stay short, and a wrong text can be mended without touching a vector. Its mean
Success@1 is 0.50, that of *score* and of *rank* 0.48; where half of the titles are wrong, *score* is a little ahead. Where
texts can be trusted, *concat* and *weighted* put the right picture first more often (mean Success@1 0.52 and 0.51).

*attention* does not pay: its vectors come after those of *concat* (mean Success@1 0.47 against 0.52, Success@10
0.67 against 0.71), and with the starter the patches and tokens of a captioned picture take 1.7 times the
processor time of its vectors (124 ms beside 75 ms, alternating), in addition to it.
"""
SHOWN_METRICS = ("Success@1", "Success@10")


@dataclass(frozen=True)
class System:
    """A fusion and the settings of a search.

    Attributes:
        name: Name in the results.
        fusion: Fusion of the index.
        settings: Settings of the search.
    """

    name: str
    fusion: str
    settings: SearchSettings


SYSTEMS = (
    System("image: vector", "image", SearchSettings("vector")),
    System("text", "image", SearchSettings("text")),
    *(
        System(f"image: hybrid, {short}", "image", SearchSettings("hybrid", blend))
        for short, blend in HYBRID.items()
    ),
    System("weighted: vector", "weighted", SearchSettings("vector")),
    System("weighted: hybrid, score", "weighted", SearchSettings("hybrid", HYBRID["score"])),
    System("concat: vector", "concat", SearchSettings("vector")),
    System("concat: hybrid, score", "concat", SearchSettings("hybrid", HYBRID["score"])),
    System("attention: vector", "attention", SearchSettings("vector")),
    System("attention: hybrid, score", "attention", SearchSettings("hybrid", HYBRID["score"])),
)


def assign_titles(rows: list[dict[str, str]], coverage: float, misplaced: float) -> dict[str, str]:
    """Return titles by path: some photographs get a title, and some of these get a wrong one."""
    order = list(range(len(rows)))
    random.Random(SEED).shuffle(order)
    covered = order[: round(coverage * len(rows))]
    wrong = covered[: round(misplaced * len(covered))]
    titles = {i: rows[i]["source_title"] for i in covered}
    # Each photograph gets the title of the next one, so that none keeps its own.
    shifted = dict(zip(wrong, [titles[i] for i in wrong[1:] + wrong[:1]], strict=True))
    return {rows[i]["path"]: title for i, title in (titles | shifted).items()}


def measure(photos: Path) -> dict[str, Any]:
    """Measure every system under every condition."""
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    captioned = CaptionedSet(photos / "manifest.csv", "word", "{}")
    conditions = []
    for coverage, misplaced in CONDITIONS:
        ratings = _evaluate_systems(photos, captioned, assign_titles(rows, coverage, misplaced))
        for name, rating in ratings.items():
            print(f"{coverage:.2f} {misplaced:.1f} {name:26}", _format_line(rating), flush=True)
        conditions.append(
            {
                "coverage": coverage,
                "misplaced": misplaced,
                "systems": {name: _metric_values(rating) for name, rating in ratings.items()},
                "against_better_part": _compare_with_parts(ratings),
            }
        )
    queries = next(iter(ratings.values())).queries
    return {"queries": queries, "pictures": len(rows), "conditions": conditions}


def _evaluate_systems(
    photos: Path, captioned: CaptionedSet, titles: dict[str, str]
) -> dict[str, Evaluation]:
    ratings = {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "titles.jsonl"
        lines = (json.dumps({"path": p, "caption": t}) + "\n" for p, t in titles.items())
        table.write_text("".join(lines), encoding="utf-8")
        with mmsearch.open_index("study", home=folder, model="starter") as index:
            index.add_folder(photos, captions=table if titles else None, texts="table")
            fusion = ""
            for system in SYSTEMS:
                if system.fusion != fusion:
                    fusion = system.fusion
                    index.reindex(fusion=fusion, reencode=fusion == "attention")
                    index.close()
                if titles or system.name == "image: vector":
                    ratings[system.name] = evaluate_index(
                        index,
                        captioned,
                        system.settings,
                        depth=len(list((photos / "photos").iterdir())),
                    )
    return ratings


def _metric_values(rating: Evaluation) -> dict[str, list[float]]:
    return {
        name: [round(v, 4) for v in (estimate.value, estimate.low, estimate.high)]
        for name, estimate in rating.metrics.items()
    }


def _compare_with_parts(ratings: dict[str, Evaluation]) -> dict[str, dict[str, list[float]]]:
    """Return hybrid minus the better of its two parts, by metric, with the paired interval."""
    differences: dict[str, dict[str, list[float]]] = {}
    for name, rating in ratings.items():
        fusion, _, mode = name.partition(": ")
        if not mode.startswith("hybrid"):
            continue
        differences[name] = {}
        for metric in SHOWN_METRICS:
            parts = (ratings[f"{fusion}: vector"], ratings["text"])
            better = max(parts, key=lambda part: part.metrics[metric].value)
            difference = compare(better, rating)[metric].difference
            differences[name][metric] = [
                round(v, 4) for v in (difference.value, difference.low, difference.high)
            ]
    return differences


def _format_line(rating: Evaluation) -> str:
    metrics = (rating.metrics[name] for name in SHOWN_METRICS)
    return "  ".join(f"{m.value:.3f} [{m.low:.2f}, {m.high:.2f}]" for m in metrics)


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Texts and fusion\n",
        f"{results['pictures']} photographs of tests/photos, asked for by {results['queries']} "
        "distinct words. Texts are the titles under which\ntheir authors published them, given to "
        "a share of the photographs (*titles*); some stand with the wrong\nphotograph (*wrong*). "
        "Cells are Success@1 / Success@10 with 95% bootstrap intervals over queries.\n",
    ]
    names = list(results["conditions"][-1]["systems"])
    lines += ["| titles | wrong | system | Success@1 | Success@10 |", "|--:|--:|---|--:|--:|"]
    for condition in results["conditions"]:
        for name in names:
            system_metrics = condition["systems"].get(name)
            if system_metrics:
                cells = " | ".join(_cell(system_metrics[metric]) for metric in SHOWN_METRICS)
                lines.append(
                    f"| {condition['coverage']:.0%} | {condition['misplaced']:.0%} "
                    f"| {name} | {cells} |"
                )
    lines += [
        "\nHybrid ranking minus the better of its two parts (vectors of the same fusion, or texts "
        "alone), query by query:\n",
        "| titles | wrong | system | Success@1 | Success@10 |",
        "|--:|--:|---|--:|--:|",
    ]
    for condition in results["conditions"]:
        for name, system_metrics in condition["against_better_part"].items():
            cells = " | ".join(_cell(system_metrics[metric], "+") for metric in SHOWN_METRICS)
            lines.append(
                f"| {condition['coverage']:.0%} | {condition['misplaced']:.0%} | {name} | {cells} |"
            )
    lines.append(CONCLUSION)
    return "\n".join(lines) + "\n"


def _cell(values: list[float], sign: str = "") -> str:
    value, low, high = values
    return f"{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]"
