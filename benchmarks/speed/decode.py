"""Decoding of files to pixels for the encoder, compared with open_clip's inference transform."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch.core.settings import load_settings
from mmsearch.core.types import InputKind, ModelInput, Pixels, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._preprocess_torch import TorchPixelPreprocessor
from mmsearch.factories.plugins import make_encoder
from mmsearch.modalities.image import build


@dataclass(frozen=True)
class JpegSet:
    """A kind of JPEG files, and the target to reach on them."""

    width: int
    height: int
    files: int
    bar: float | None = None
    progressive: bool = False
    grain: float = 4
    """Standard deviation of simulated sensor noise; enlarged photographs alone are too smooth."""


SIZES = {
    "500x375": JpegSet(500, 375, 40, bar=2.5),
    "375x500": JpegSet(375, 500, 40),
    "500x375, progressive": JpegSet(500, 375, 40, progressive=True),
    "2 megapixels": JpegSet(1632, 1224, 12),
    "12 megapixels": JpegSet(4032, 3024, 4, bar=5.0),
    "12 megapixels, no grain": JpegSet(4032, 3024, 4, bar=5.0, grain=0),
    "12 megapixels, progressive": JpegSet(4032, 3024, 4, progressive=True),
}
NUM_GUARD_PHOTOS, ENLARGEMENT = 60, 4
EDGE_PX = 224


def write_jpegs(photos: list[Path], jpeg_set: JpegSet, folder: Path) -> list[Path]:
    """Write photographs at one size, with grain, in quality 90."""
    noise = np.random.default_rng(0)
    paths = []
    for number, path in enumerate(photos[: jpeg_set.files]):
        with Image.open(path) as opened:
            scaled = opened.convert("RGB").resize((jpeg_set.width, jpeg_set.height))
        grain = noise.normal(0, jpeg_set.grain, (jpeg_set.height, jpeg_set.width, 1)).astype(
            np.int16
        )
        values = np.asarray(scaled, dtype=np.int16) + grain
        content = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
        paths.append(folder / f"{number}.jpg")
        content.save(paths[-1], quality=90, progressive=jpeg_set.progressive)
    return paths


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time per picture and the change of its embedding."""
    torch.set_num_threads(1)
    paths = sorted(photos.rglob("*.jpg"))
    theirs = open_clip.image_transform(EDGE_PX, is_train=False)
    modality = build()
    rows = []
    guard = _measure_guards(paths[:NUM_GUARD_PHOTOS])
    with tempfile.TemporaryDirectory() as folder:
        for name, jpeg_set in SIZES.items():
            files = write_jpegs(paths, jpeg_set, Path(folder))

            def transform(files: list[Path] = files) -> None:
                for file in files:
                    with Image.open(file) as image:
                        theirs(image)

            for kind in (TorchPixelPreprocessor, PixelPreprocessor):
                prepare = kind(EDGE_PX)

                def ours(files: list[Path] = files, prepare: Any = prepare) -> None:
                    for file in files:
                        prepare(modality.read(os.fsencode(file), EDGE_PX).pixels)

                bulk = kind is TorchPixelPreprocessor
                where = "torch's kernels" if bulk else "Pillow's"
                rows.append(
                    row(
                        f"{name}, scaled by {where}",
                        compare(ours, transform, jpeg_set.files),
                        jpeg_set.bar if bulk else None,
                        guard[where],
                    )
                )
    return {"machine": machine(), "guarded": NUM_GUARD_PHOTOS, "rows": rows}


def _measure_guards(paths: list[Path]) -> dict[str, str]:
    """Return the least cosine between embeddings by mmsearch's decoding and by full decoding."""
    starter = make_encoder("starter", load_settings(), lambda line: None)
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32").eval()
    mean, std = (torch.tensor(v) * 255 for v in (clip.visual.image_mean, clip.visual.image_std))

    def embed(pictures: list[ModelInput]) -> Vectors:
        batch = (torch.from_numpy(np.stack(pictures)).float() - mean) / std
        with torch.inference_mode():
            vectors = clip.encode_image(batch.permute(0, 3, 1, 2), normalize=True).numpy()
        # With random weights all vectors are similar, so their common part is removed.
        return as_unit_vectors(vectors - vectors.mean(axis=0))

    guards = {}
    for where, kind in (
        ("torch's kernels", TorchPixelPreprocessor),
        ("Pillow's", PixelPreprocessor),
    ):
        pairs = [_prepare_both(kind(**asdict(starter.image_preprocessor)), path) for path in paths]
        one, other = (
            starter.encode(InputKind.IMAGE, list(side)) for side in zip(*pairs, strict=True)
        )
        min_cosine = (one * other).sum(axis=1).min()
        pairs = [_prepare_both(kind(EDGE_PX), path) for path in paths]
        vectors = embed([picture for pair in pairs for picture in pair])
        guards[where] = f"{min_cosine:.4f}; {(vectors[::2] * vectors[1::2]).sum(axis=1).min():.4f}"
    return guards


def _prepare_both(prepare: PixelPreprocessor, path: Path) -> tuple[ModelInput, ModelInput]:
    """Prepare an enlarged photograph by mmsearch's decoding and from the full picture."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    size = (image.width * ENLARGEMENT, image.height * ENLARGEMENT)
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        image.resize(size, Image.Resampling.LANCZOS).save(file.name, quality=90)
        ours = prepare(build().read(os.fsencode(file.name), prepare.edge_px).pixels)
        with Image.open(file.name) as whole:
            pixels: Pixels = np.asarray(whole.convert("RGB"))
    expected = PixelPreprocessor(**asdict(prepare))(pixels)
    return ours, expected


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Decoding and scaling

From a JPEG file to the bytes that an encoder takes (224 pixels), one core, processor time of one picture:
mmsearch, which reads the facts of the file as well, beside open_clip's transform for inference, in turns.
The pictures are photographs of tests/photos brought to that size, with the grain of a sensor. Workers use torch's kernels where a GPU encodes, and Pillow's where the processor does, which is
then busy for ten times as long with the model. The guard: {results["guarded"]} photographs enlarged by {ENLARGEMENT},
embedded from the reduced decoding and from the whole picture; the least cosine by the starter, and by ViT-B-32
with random weights, its mean removed. The bar at 12 megapixels was set on enlarged pictures, which leave less
to unpack than a camera's; with grain, unpacking alone takes a fifth of the other's time.

{table(results["rows"], "mmsearch", "open_clip")}"""
