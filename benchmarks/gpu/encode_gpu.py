"""Pictures per second through image towers on a GPU, compared with open_clip in float16."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from benchmarks.gpu.calib import check_gpu, device, gpu_clock, limits
from benchmarks.speed.compare import Comparison, compare
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import open_clip as plugin

GFLOP_PER_PICTURE = {"ViT-B-32": 8.82, "ViT-B-16": 35.13, "ViT-L-14": 162.03}
"""GFLOP to encode one picture (docs/model_profile.csv of open_clip)."""

BATCHES = (1, 64, 256, 1024)
JUDGED_BATCH, MIN_SHARE, MIN_SPEEDUP, MIN_COSINE = 1024, 0.45, 1.3, 0.99
GUARD_PICTURES, ROUNDS, EDGE_PX = 64, 11, 224


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure rates by model and batch size."""
    check_gpu()
    rows = [line for name in GFLOP_PER_PICTURE for line in _measure_model(name)]
    return {"machine": device(), "rows": rows}


def _measure_model(name: str) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
        encoder = plugin.build(
            EncoderOptions(f"{name}@{weights}", "cuda", Path(folder) / "cache", offline=True)
        )
        pixel_bytes = np.random.default_rng(0).integers(
            0, 256, (max(BATCHES), EDGE_PX, EDGE_PX, 3), dtype=np.uint8
        )
        pictures = list(pixel_bytes)
        mean, std = (
            torch.tensor(value, device="cuda").view(1, 3, 1, 1) * 255
            for value in (model.visual.image_mean, model.visual.image_std)
        )
        exact = model.to("cuda")
        expected = _embed(exact, _pixels(pixel_bytes[:GUARD_PICTURES], mean, std))
        cosine = float(
            (encoder.encode(InputKind.IMAGE, pictures[:GUARD_PICTURES]) * expected)
            .sum(axis=1)
            .min()
        )
        half = exact.half()
        rows = []
        for batch in BATCHES:
            batch_pictures = pictures[:batch]
            # open_clip gets pixels that are already on the GPU; mmsearch gets bytes in host memory,
            # as decode workers deliver them.
            their_pixels = _pixels(pixel_bytes[:batch], mean, std).half()
            result = compare(
                partial(encoder.encode, InputKind.IMAGE, batch_pictures),
                partial(_embed, half, their_pixels),
                rounds=ROUNDS,
                clock=gpu_clock,
            )
            rows.append(_row(name, batch, result, cosine))
    return rows


def _pixels(pictures: np.ndarray, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    return (torch.from_numpy(pictures).cuda().permute(0, 3, 1, 2).float() - mean) / std


def _embed(model: Any, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        vectors: np.ndarray = model.encode_image(pixels, normalize=True).float().cpu().numpy()
    return vectors


def _row(name: str, batch: int, result: Comparison, cosine: float) -> dict[str, Any]:
    rate = batch / result.ours_ms * 1e3
    return asdict(result) | {
        "model": name,
        "batch": batch,
        "ours_per_s": rate,
        "theirs_per_s": batch / result.theirs_ms * 1e3,
        "share": rate * GFLOP_PER_PICTURE[name] / 1e3 / limits()["tflop_per_s"],
        "cosine": cosine,
    }


def _bar(row: dict[str, Any]) -> str:
    if row["batch"] != JUDGED_BATCH:
        return ""
    is_accurate = row["cosine"] >= MIN_COSINE
    speed_verdict = "held" if is_accurate and row["low"] >= MIN_SPEEDUP else "missed"
    share = "held" if is_accurate and row["share"] >= MIN_SHARE else "missed"
    return f"{MIN_SPEEDUP}x: {speed_verdict}; {MIN_SHARE:.0%}: {share}"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        f"| {r['model']} | {r['batch']} | {r['ours_per_s']:,.0f} | {r['theirs_per_s']:,.0f}"
        f" | {r['ratio']:.2f}x [{r['low']:.2f}, {r['high']:.2f}] | {r['share']:.0%}"
        f" | {r['cosine']:.4f} | {_bar(r)} |\n"
        for r in results["rows"]
    )
    return f"""\
### Encoding

Pictures a second, random weights of the true shapes: mmsearch's encoder as the indexer calls it, from bytes in host memory to
unit vectors in host memory, beside open_clip eager in float16, whose pixels lie on the GPU already. The share is
of the product limit, at the model's operations. The guard: the least cosine to float32 over {GUARD_PICTURES} pictures of noise, at least {MIN_COSINE}.

| model | batch | mmsearch | open_clip | faster, 95% interval | share of the limit | guard | bar |
|---|--:|--:|--:|--:|--:|--:|---|
{lines}"""
