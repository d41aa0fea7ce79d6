"""Measures, prints, writes results/*.json and RESULTS.md; see `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from benchmarks.quality import confidence, fusion, queries, starter

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"starter": starter, "fusion": fusion, "confidence": confidence, "queries": queries}
PREFACE = """\
# Results

Written by `scripts/bench`, which measures all of it again; `scripts/bench --only fusion` one part.
"""


def measure(part: str, photos: Path, stamps: Path, cache: Path) -> Any:
    """One part's results, as JSON has them."""
    if part == "fusion":
        return fusion.measure(photos)
    if part == "queries":
        return queries.measure(photos, stamps)
    trials = [*starter.photo_trials(photos), *starter.stamp_trials(stamps)]
    if part == "starter":
        return starter.measure([*trials, starter.clip_art_trial(cache)])
    by_name = {trial.name: trial for trial in trials}
    judged = ("photos, word", "photos, description", "stamps, photographs only")
    return confidence.measure([by_name[name] for name in judged], by_name[confidence.FITTED_ON])


def main() -> int:
    """Measure some parts, and write the page of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "tests/photos")
    parser.add_argument("--stamps", type=Path, required=True, help="made by fetch_eval_sets")
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    parser.add_argument(
        "--only",
        choices=[*PARTS, "page"],
        action="append",
        help="this part (again: and that one); page: measure nothing, write the page",
    )
    arguments = parser.parse_args()
    # Sums depend on the number of threads.
    torch.set_num_threads(2)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    (ROOT / "results").mkdir(exist_ok=True)
    pages = [PREFACE]
    for part, module in PARTS.items():
        stored = ROOT / f"results/{part}.json"
        if part in (arguments.only or PARTS):
            results = measure(part, arguments.photos, arguments.stamps, arguments.cache)
            stored.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if stored.is_file():
            pages.append(module.page(json.loads(stored.read_text(encoding="utf-8"))))
    (ROOT / "RESULTS.md").write_text("\n".join(pages), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
