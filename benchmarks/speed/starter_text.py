"""The starter's text tower: as it is compiled here, beside itself in float32."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmsearch
from benchmarks.quality.confidence import encode
from benchmarks.quality.starter import Trial, first_hits, photo_trials
from benchmarks.speed.compare import RESAMPLES, compare, machine, row, table
from mmsearch.core.protocols import Encoder
from mmsearch.core.settings import load_settings
from mmsearch.core.types import Kind, Vectors
from mmsearch.indexing.tuning_queries import phrases

TEXTS, ROUNDS, DEPTH = 50, 15, 10


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Times a text in each precision, and counts what each finds."""
    with tempfile.TemporaryDirectory() as folder:
        int8, float32 = (_encoder(Path(folder), precision) for precision in ("auto", "float32"))
        tokens = [int8.prepare(Kind.TEXT, text) for text in phrases(TEXTS)]

        def each(encoder: Encoder) -> None:
            for one in tokens:
                encoder.encode(Kind.TEXT, [one])

        each(int8)
        each(float32)
        times = compare(lambda: each(int8), lambda: each(float32), TEXTS, ROUNDS)
        both = [encoder.encode(Kind.TEXT, tokens) for encoder in (int8, float32)]
        cosine = float(np.vecdot(*both).min())
        runs = int8.device(Kind.TEXT).removeprefix("ONNX Runtime on ")
        trials = photo_trials(photos)
        pictures = encode(trials[0], float32).pictures
        found = [_found(trial, pictures, int8, float32) for trial in trials]
    guard = f"least cosine {cosine:.4f}"
    return {
        "machine": machine(),
        "rows": [row(f"one text, {runs}", times, None, guard)],
        "found": found,
    }


def _encoder(folder: Path, precision: str) -> Encoder:
    settings = replace(load_settings(), cache=folder / precision, precision=precision)
    return mmsearch.open_model("starter", settings=settings, device="cpu")


def _found(trial: Trial, pictures: Vectors, int8: Encoder, float32: Encoder) -> dict[str, Any]:
    """Recall in both precisions, and the interval of the difference over the same queries."""
    mine, theirs = (_hits(trial, pictures, encoder) for encoder in (int8, float32))
    picks = np.random.default_rng(0).integers(0, len(mine), (RESAMPLES, len(mine)))
    low, high = np.quantile((mine - theirs)[picks].mean(axis=1), [0.025, 0.975])
    return {
        "name": trial.name,
        "queries": len(mine),
        "int8": float(mine.mean()),
        "float32": float(theirs.mean()),
        "low": float(low),
        "high": float(high),
    }


def _hits(trial: Trial, pictures: Vectors, encoder: Encoder) -> NDArray[np.float64]:
    """Whether each query finds a picture that answers it among the first."""
    tokens = [encoder.prepare(Kind.TEXT, text) for text in trial.queries]
    scores = encoder.encode(Kind.TEXT, tokens) @ pictures.T
    return (first_hits(scores, trial.relevant) <= DEPTH).astype(float)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    return f"""\
## The starter's texts in int8

Processor time of one text, as queries come, by the text tower as it is compiled and by the same with
`precision = "float32"`. With one scale a call its vectors would change (cosine 0.97 at the least), so its weights and
activations have a scale for each block of 32. The guard: the least cosine between both over {TEXTS} texts, and below,
what both find.

{table(results["rows"], "as compiled", "float32")}
Recall@{DEPTH} over the photographs of tests/photos, and the 95% interval of the difference over the same queries.

| queries | number | as compiled | float32 | difference |
|---|--:|--:|--:|--:|
{"".join(map(_line, results["found"]))}"""


def _line(found: dict[str, Any]) -> str:
    change = found["int8"] - found["float32"]
    return (
        f"| {found['name']} | {found['queries']} | {found['int8']:.3f} | {found['float32']:.3f} "
        f"| {change:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}] |\n"
    )
