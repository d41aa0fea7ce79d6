"""Batched JPEG decoding on the GPU, compared with the CPU."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.io import decode_jpeg

from benchmarks.gpu.calib import check_gpu, device, gpu_clock
from benchmarks.speed.compare import compare
from benchmarks.speed.decode import JpegSet, write_jpegs
from mmsearch.core.threads import available_cpus
from mmsearch.core.types import Pixels
from mmsearch.modalities.image import build

SIZES = {
    "500x375": JpegSet(500, 375, 200),
    "2 megapixels": JpegSet(1632, 1224, 64),
    "12 megapixels": JpegSet(4032, 3024, 16),
}
BATCH_SIZE, ROUNDS, EDGE_PX = 64, 7, 224


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure pictures per second."""
    check_gpu()
    paths = sorted(photos.rglob("*.jpg"))
    rows = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(available_cpus()) as threads:
        for name, jpeg_set in SIZES.items():
            files = write_jpegs(paths, jpeg_set, Path(folder))
            packed = [torch.frombuffer(bytearray(f.read_bytes()), dtype=torch.uint8) for f in files]

            def decode_on_gpu(packed: list[torch.Tensor] = packed) -> list[torch.Tensor]:
                unpacked: list[torch.Tensor] = []
                for start in range(0, len(packed), BATCH_SIZE):
                    unpacked += decode_jpeg(packed[start : start + BATCH_SIZE], device="cuda")
                return unpacked

            def decode_on_cpu(files: list[Path] = files) -> None:
                list(threads.map(_read, files))

            result = compare(decode_on_gpu, decode_on_cpu, len(files), ROUNDS, gpu_clock)
            with Image.open(files[0]) as image:
                expected = np.asarray(image.convert("RGB")).astype(int)
            decoded = decode_on_gpu()[0].permute(1, 2, 0).cpu().numpy()
            rows.append(
                asdict(result) | {"name": name, "off": float(abs(decoded - expected).mean())}
            )
    return {"machine": device(), "threads": available_cpus(), "rows": rows}


def _read(file: Path) -> Pixels:
    return build().read(os.fsencode(file), EDGE_PX).pixels


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        f"| {r['name']} | {1e3 / r['ours_ms']:,.0f} | {1e3 / r['theirs_ms']:,.0f}"
        f" | {r['ratio']:.2f}x [{r['low']:.2f}, {r['high']:.2f}] | {r['off']:.2f} |\n"
        for r in results["rows"]
    )
    return f"""\
### Decoding

Pictures a second: torchvision's `decode_jpeg` on the GPU, {BATCH_SIZE} a call, whole pictures from bytes in host memory, beside mmsearch's
reading by {results["threads"]} threads, which takes a reduction where {EDGE_PX} pixels are all that is needed. The guard: the mean
difference of the GPU's bytes to Pillow's.

| what | GPU | processor | faster, 95% interval | guard |
|---|--:|--:|--:|--:|
{lines}"""
