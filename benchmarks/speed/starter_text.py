"""The starter's text tower in int8, compared with the same tower in float32."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmsearch
from benchmarks.quality.confidence import encode_pictures
from benchmarks.quality.starter import Trial, first_hit_ranks, photo_trials
from benchmarks.speed.compare import RESAMPLES, compare, machine, row, table
from mmsearch.core.protocols import Encoder
from mmsearch.core.settings import load_settings
from mmsearch.core.types import InputKind, Vectors
from mmsearch.indexing.tuning_queries import synthetic_queries

TEXTS, ROUNDS, DEPTH = 50, 15, 10


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time per text and the recall in each precision."""
    with tempfile.TemporaryDirectory() as folder:
        int8, float32 = (_encoder(Path(folder), precision) for precision in ("auto", "float32"))
        tokens = [int8.prepare(InputKind.TEXT, text) for text in synthetic_queries(TEXTS)]

        def encode_each(encoder: Encoder) -> None:
            for token_ids in tokens:
                encoder.encode(InputKind.TEXT, [token_ids])

        encode_each(int8)
        encode_each(float32)
        times = compare(lambda: encode_each(int8), lambda: encode_each(float32), TEXTS, ROUNDS)
        precision_vectors = [encoder.encode(InputKind.TEXT, tokens) for encoder in (int8, float32)]
        cosine = float(np.vecdot(*precision_vectors).min())
        provider = int8.device(InputKind.TEXT).removeprefix("ONNX Runtime on ")
        trials = photo_trials(photos)
        pictures = encode_pictures(float32, trials[0].pictures)
        found = [_compare_recall(trial, pictures, int8, float32) for trial in trials]
    guard = f"least cosine {cosine:.4f}"
    return {
        "machine": machine(),
        "rows": [row(f"one text, {provider}", times, None, guard)],
        "found": found,
    }


def _encoder(folder: Path, precision: str) -> Encoder:
    settings = replace(load_settings(), cache=folder / precision, precision=precision)
    return mmsearch.open_model("starter", settings=settings, device="cpu")


def _compare_recall(
    trial: Trial, pictures: Vectors, int8: Encoder, float32: Encoder
) -> dict[str, Any]:
    """Return the recall in both precisions, and the paired interval of the difference."""
    int8_hits, float32_hits = (_hit_flags(trial, pictures, encoder) for encoder in (int8, float32))
    resampled = np.random.default_rng(0).integers(0, len(int8_hits), (RESAMPLES, len(int8_hits)))
    low, high = np.quantile((int8_hits - float32_hits)[resampled].mean(axis=1), [0.025, 0.975])
    return {
        "name": trial.name,
        "queries": len(int8_hits),
        "int8": float(int8_hits.mean()),
        "float32": float(float32_hits.mean()),
        "low": float(low),
        "high": float(high),
    }


def _hit_flags(trial: Trial, pictures: Vectors, encoder: Encoder) -> NDArray[np.float64]:
    """Return 1 for each query with a relevant picture in the top k, else 0."""
    tokens = [encoder.prepare(InputKind.TEXT, text) for text in trial.queries]
    scores = encoder.encode(InputKind.TEXT, tokens) @ pictures.T
    return (first_hit_ranks(scores, trial.relevant) <= DEPTH).astype(float)


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
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
