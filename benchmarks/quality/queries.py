"""Effect of prompts and negative terms on queries, measured through the public API."""

from __future__ import annotations

import csv
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import mmsearch
from mmsearch.api.evaluate import CaptionedSet, SearchSettings, compare, evaluate_index
from mmsearch.search import retrieval

PROMPTS: dict[str, tuple[str, ...]] = {
    "{}": ("{}",),
    "a photo of a {}": ("a photo of a {}",),
    "three": ("{}", "a photo of a {}", "a picture of a {}"),
    "seven": (
        "{}",
        "a photo of a {}",
        "a picture of a {}",
        "a close-up photo of a {}",
        "a photo of the small {}",
        "a photo of the large {}",
        "the {}",
    ),
}
NEGATIVE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_PAIRS = 200
DEPTH = 10
SEED = 0
SHOWN_METRICS = ("Success@1", "Success@10", "MRR")


@contextmanager
def open_temporary_index(pictures: Path) -> Iterator[mmsearch.Index]:
    """Open a temporary index of a folder; it is deleted at the end of the context."""
    with (
        tempfile.TemporaryDirectory() as home,
        mmsearch.open_index("queries", home=home, model="starter") as index,
    ):
        index.add_folder(pictures, texts="none")
        yield index


def measure(photos: Path, stamps: Path) -> dict[str, Any]:
    """Measure prompts on photographs and captions of stamps, and negative terms on photographs."""
    results: dict[str, Any] = {"prompts": []}
    with open_temporary_index(photos) as index:
        words = CaptionedSet(photos / "manifest.csv", "word")
        results["prompts"] += _measure_prompts("photos, word", index, words)
        results["negatives"] = _measure_negatives(photos, index)
    with open_temporary_index(stamps) as index:
        captions = CaptionedSet(stamps / "manifest.csv", "caption")
        results["prompts"] += _measure_prompts("stamps, caption", index, captions)
    return results


def _measure_prompts(
    trial: str, index: mmsearch.Index, captions: CaptionedSet
) -> list[dict[str, Any]]:
    rows = []
    baseline = None
    for name, prompts in PROMPTS.items():
        rating = evaluate_index(
            index, captions, SearchSettings("vector", prompts=prompts), depth=100
        )
        baseline = baseline or rating
        difference = compare(baseline, rating)["Success@10"].difference
        rows.append(
            {
                "trial": trial,
                "prompts": name,
                "queries": rating.queries,
                "metrics": {
                    metric: [estimate.value, estimate.low, estimate.high]
                    for metric, estimate in rating.metrics.items()
                    if metric in SHOWN_METRICS
                },
                "difference": [difference.value, difference.low, difference.high],
            }
        )
        print(trial, name, rows[-1]["metrics"], flush=True)
    return rows


def _measure_negatives(photos: Path, index: mmsearch.Index) -> list[dict[str, Any]]:
    """Measure how often "a and b" without b finds pictures of a, and pictures of b."""
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        word_of = {Path(row["path"]).name: row["word"] for row in csv.DictReader(stream)}
    generator = random.Random(SEED)
    words = sorted(set(word_of.values()))
    pairs = [generator.sample(words, 2) for _ in range(NUM_PAIRS)]
    rows = []
    for share in NEGATIVE_SHARES:
        found, unwanted = [], []
        with patch.object(retrieval, "NEGATIVE_WEIGHT", share):
            for wanted, other in pairs:
                terms = [mmsearch.Term(f"{wanted} and {other}")]
                if share:
                    terms.append(mmsearch.Term(other, weight=-1.0))
                hits = index.search(
                    mmsearch.Query(tuple(terms)), DEPTH, mode=None, fold=False, literal=True
                )
                shown = [word_of[hit.path.name] for hit in hits]
                found.append(wanted in shown)
                unwanted.append(other in shown)
        rows.append(
            {
                "share": share,
                "pairs": NUM_PAIRS,
                "found": _mean_with_interval(np.array(found)),
                "unwanted": _mean_with_interval(np.array(unwanted)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _mean_with_interval(values: NDArray[np.bool_]) -> list[float]:
    resampled = np.random.default_rng(SEED).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[resampled].mean(axis=1), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Prompts\n",
        "The starter asked by vectors alone, each query put into prompts whose vectors are averaged; "
        "the last column is\nSuccess@10 minus that of the bare query, query by query. 95% bootstrap "
        "intervals over queries.\n",
        f"| trial | prompts | queries | {' | '.join(SHOWN_METRICS)} | difference |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for result in results["prompts"]:
        cells = " | ".join(_cell(result["metrics"][metric]) for metric in SHOWN_METRICS)
        lines.append(
            f"| {result['trial']} | {result['prompts']} | {result['queries']} | {cells} "
            f"| {_cell(result['difference'], '+')} |"
        )
    lines += [
        "\nThe starter therefore takes queries as they are. OpenCLIP models could not be measured here "
        "and do the same;\n`--prompt` says otherwise.\n",
        "## Negative terms\n",
        f'{NUM_PAIRS} random pairs of words of tests/photos, asked as "A and B" without B. *wanted*: a '
        f"picture of A is among the first {DEPTH};\n*unwanted*: a picture of B is. The share is what "
        "a negative term counts beside a positive one (0: it is not given).\n",
        "| share | wanted | unwanted |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {result['share']:.2f} | {_cell(result['found'])} | {_cell(result['unwanted'])} |"
        for result in results["negatives"]
    ]
    return "\n".join(lines) + "\n"


def _cell(values: list[float], sign: str = "") -> str:
    value, low, high = values
    return f"{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]"
