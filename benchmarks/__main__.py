"""Run benchmarks, print the results, write results/*.json and RESULTS.md; see `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path

from benchmarks.gpu import calib, decode_gpu, encode_gpu, flat_gpu
from benchmarks.quality import (
    captions,
    confidence,
    duplicates,
    feedback,
    fusion,
    modules,
    ocr,
    queries,
    speech,
    starter,
    suggestions,
    understanding,
    words,
)
from benchmarks.scale import catalog as scale_catalog
from benchmarks.scale import federated as scale_federated
from benchmarks.scale import ray as scale_ray
from benchmarks.scale import search_servers
from benchmarks.speed import (
    additions,
    ann,
    build,
    coldstart,
    decode,
    embeddings,
    encode_cpu,
    facets,
    flat,
    incremental,
    memory,
    metadata,
    ood,
    pipeline,
    quant,
    scale,
    serving,
    simd_guard,
    starter_text,
)

ROOT = Path(__file__).resolve().parent
QUALITY: dict[str, Any] = {
    "starter": starter,
    "captions": captions,
    "fusion": fusion,
    "words": words,
    "confidence": confidence,
    "queries": queries,
    "speech": speech,
    "ocr": ocr,
    "duplicates": duplicates,
    "modules": modules,
    "understanding": understanding,
    "suggestions": suggestions,
    "feedback": feedback,
}
SPEED: dict[str, Any] = {
    "decode": decode,
    "encode_cpu": encode_cpu,
    "starter_text": starter_text,
    "coldstart": coldstart,
    "incremental": incremental,
    "additions": additions,
    "pipeline": pipeline,
    "flat": flat,
    "ann": ann,
    "ood": ood,
    "quant": quant,
    "simd_guard": simd_guard,
    "build": build,
    "memory": memory,
    "metadata": metadata,
    "facets": facets,
    "embeddings": embeddings,
    "serving": serving,
}
LARGE: dict[str, Any] = {
    "flat_1m": flat,
    "ann_1m": ann,
    "ood_1m": ood,
    "build_1m": build,
    "facets_1m": facets,
    "scale_1m": scale,
    "scale": scale,
    "scale_federated": scale_federated,
}
ROWS = dict.fromkeys(LARGE, 1_000_000) | {
    "scale": scale.ROWS,
    "scale_federated": scale_federated.PICTURES,
}
"""Parts with a million vectors or more. They take hours on two cores and run only if named."""

GPU: dict[str, Any] = {
    "gpu_calib": calib,
    "gpu_encode": encode_gpu,
    "gpu_flat": flat_gpu,
    "gpu_decode": decode_gpu,
}
CLUSTER: dict[str, Any] = {
    "scale_ray": scale_ray,
    "scale_search": search_servers,
    "scale_catalog": scale_catalog,
}
"""Parts that start services, which run only if named."""

PARTS: dict[str, Any] = QUALITY | SPEED | LARGE | GPU | CLUSTER
PREFACE = """\
# Results

Written by `scripts/bench`, which measures all of it again; `scripts/bench --only fusion` one part.
"""


def measure(part: str, photos: Path, stamps: Path, wallpapers: Path, cache: Path) -> Any:
    """Run one part and return its results as JSON values."""
    if part in LARGE:
        return LARGE[part].measure(photos, cache, rows=ROWS[part])
    if part in SPEED or part in GPU or part in CLUSTER:
        return PARTS[part].measure(photos, cache)
    # Float sums depend on the number of threads.
    torch.set_num_threads(2)
    measured_alone: dict[str, Callable[[], Any]] = {
        "fusion": lambda: fusion.measure(photos),
        "captions": lambda: captions.measure(photos, wallpapers),
        "words": lambda: words.measure(photos),
        "queries": lambda: queries.measure(photos, stamps),
        "speech": lambda: speech.measure(photos, cache),
        "ocr": lambda: ocr.measure(photos),
        "duplicates": lambda: duplicates.measure(photos),
        "feedback": lambda: feedback.measure(photos, stamps, cache),
        "modules": lambda: modules.measure(photos),
        "understanding": understanding.measure,
        "suggestions": lambda: suggestions.measure(photos),
        "confidence": lambda: confidence.measure(photos, stamps, wallpapers, cache)[0],
    }
    if part in measured_alone:
        return measured_alone[part]()
    trials = [*starter.photo_trials(photos), *starter.stamp_trials(stamps)]
    return starter.measure([*trials, starter.clip_art_trial(cache)])


def fetch_set(name: str, folder: Path, column: str) -> None:
    """Fetch a captioned set if its manifest does not exist yet or lacks a column."""
    manifest = folder / "manifest.csv"
    if not manifest.is_file() or column not in manifest.read_text(encoding="utf-8"):
        script = ROOT.parent / "scripts/fetch_eval_sets.py"
        subprocess.run([sys.executable, script, folder, "--set", name], check=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the selected parts and write the page with the results of all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "tests/photos")
    parser.add_argument(
        "--stamps", type=Path, default=Path(tempfile.gettempdir()) / "mmsearch-stamps"
    )
    parser.add_argument("--wallpapers", type=Path, default=captions.WALLPAPERS)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "starter-build")
    parser.add_argument(
        "--only",
        choices=[*PARTS, "quality", "speed", "page"],
        action="append",
        help="this part (again: and that one); page: measure nothing, write the page",
    )
    parser.add_argument(
        "--gpu", action="store_true", help="what a GPU does, alone or beside --only"
    )
    options = parser.parse_args(arguments)
    selected = set(options.only or ([] if options.gpu else [*QUALITY, *SPEED]))
    selected |= set(QUALITY if "quality" in selected else ()) | set(
        SPEED if "speed" in selected else ()
    )
    selected |= set(GPU if options.gpu else ())
    if selected & set(GPU):
        try:
            calib.check_gpu()
        except calib.NoGpuError as error:
            print(error, file=sys.stderr)
            return 1
    if selected & {"starter", "confidence", "queries", "feedback"}:
        fetch_set("stamps", options.stamps, "caption_de")
    if selected & {"captions", "confidence"}:
        fetch_set("wallpapers", options.wallpapers, "package")
    options.cache.mkdir(parents=True, exist_ok=True)
    (ROOT / "results").mkdir(exist_ok=True)
    pages = [PREFACE]
    for part, module in PARTS.items():
        stored = ROOT / f"results/{part}.json"
        if part in selected:
            folders = (options.photos, options.stamps, options.wallpapers, options.cache)
            results = measure(part, *folders)
            stored.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if stored.is_file():
            pages.append(module.page(json.loads(stored.read_text(encoding="utf-8"))))
    (ROOT / "RESULTS.md").write_text("\n".join(pages), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
