"""What prompts and negative terms do to a query, through the public interface."""

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
from mmsearch.api.evaluate import CaptionedSet, SearchSettings, compare, rate
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
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
PAIRS = 200
DEPTH = 10
SEED = 0
SHOWN = ("Success@1", "Success@10", "MRR")


@contextmanager
def indexed(pictures: Path) -> Iterator[mmsearch.Index]:
    """An index of a folder, for as long as it is needed."""
    with (
        tempfile.TemporaryDirectory() as home,
        mmsearch.open_index("queries", home=home, model="starter") as index,
    ):
        index.add_folder(pictures, texts="none")
        yield index


def measure(photos: Path, stamps: Path) -> dict[str, Any]:
    """Prompts on photographs' words and stamps' captions; negatives on photographs."""
    results: dict[str, Any] = {"prompts": []}
    with indexed(photos) as index:
        words = CaptionedSet(photos / "manifest.csv", "word")
        results["prompts"] += _prompts("photos, word", index, words)
        results["negatives"] = _negatives(photos, index)
    with indexed(stamps) as index:
        captions = CaptionedSet(stamps / "manifest.csv", "caption")
        results["prompts"] += _prompts("stamps, caption", index, captions)
    return results


def _prompts(trial: str, index: mmsearch.Index, captions: CaptionedSet) -> list[dict[str, Any]]:
    rows = []
    plain = None
    for name, prompts in PROMPTS.items():
        rating = rate(index, captions, SearchSettings("vector", prompts=prompts), depth=100)
        plain = plain or rating
        difference = compare(plain, rating)["Success@10"].difference
        rows.append(
            {
                "trial": trial,
                "prompts": name,
                "queries": rating.queries,
                "metrics": {
                    metric: [own.value, own.low, own.high]
                    for metric, own in rating.metrics.items()
                    if metric in SHOWN
                },
                "difference": [difference.value, difference.low, difference.high],
            }
        )
        print(trial, name, rows[-1]["metrics"], flush=True)
    return rows


def _negatives(photos: Path, index: mmsearch.Index) -> list[dict[str, Any]]:
    """Ask for "a b" without b: are pictures of a still found, and those of b gone?"""
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        word_of = {Path(row["path"]).name: row["word"] for row in csv.DictReader(stream)}
    chance = random.Random(SEED)
    words = sorted(set(word_of.values()))
    pairs = [chance.sample(words, 2) for _ in range(PAIRS)]
    rows = []
    for share in SHARES:
        found, unwanted = [], []
        with patch.object(retrieval, "NEGATIVE_SHARE", share):
            for wanted, other in pairs:
                terms = [mmsearch.Term(f"{wanted} and {other}")]
                if share:
                    terms.append(mmsearch.Term(other, weight=-1.0))
                hits = index.search(mmsearch.Query(tuple(terms)), DEPTH, mode=None)
                shown = [word_of[hit.path.name] for hit in hits]
                found.append(wanted in shown)
                unwanted.append(other in shown)
        rows.append(
            {
                "share": share,
                "pairs": PAIRS,
                "found": _mean(np.array(found)),
                "unwanted": _mean(np.array(unwanted)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _mean(values: NDArray[np.bool_]) -> list[float]:
    drawn = np.random.default_rng(SEED).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return [float(values.mean()), float(low), float(high)]


def page(results: dict[str, Any]) -> str:
    """As Markdown."""
    lines = [
        "## Prompts\n",
        "The starter asked by vectors alone, each query put into prompts whose vectors are averaged; "
        "the last column is\nSuccess@10 minus that of the bare query, query by query. 95% bootstrap "
        "intervals over queries.\n",
        f"| trial | prompts | queries | {' | '.join(SHOWN)} | difference |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for own in results["prompts"]:
        cells = " | ".join(_cell(own["metrics"][metric]) for metric in SHOWN)
        lines.append(
            f"| {own['trial']} | {own['prompts']} | {own['queries']} | {cells} "
            f"| {_cell(own['difference'], '+')} |"
        )
    lines += [
        "\nThe starter therefore takes queries as they are. OpenCLIP models could not be measured here "
        "and do the same;\n`--prompt` says otherwise.\n",
        "## Negative terms\n",
        f'{PAIRS} random pairs of words of tests/photos, asked as "A and B" without B. *wanted*: a '
        f"picture of A is among the first {DEPTH};\n*unwanted*: a picture of B is. The share is what "
        "a negative term counts beside a positive one (0: it is not given).\n",
        "| share | wanted | unwanted |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {own['share']:.2f} | {_cell(own['found'])} | {_cell(own['unwanted'])} |"
        for own in results["negatives"]
    ]
    return "\n".join(lines) + "\n"


def _cell(values: list[float], sign: str = "") -> str:
    value, low, high = values
    return f"{value:{sign}.3f} [{low:{sign}.2f}, {high:{sign}.2f}]"
