"""A compiled ViT-B/32 on one core, compared with torch in float32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import EncoderOptions, InputKind
from mmsearch.encoders import open_clip as plugin

ARCHITECTURE = "ViT-B-32"
PICTURES, ROUNDS = 16, 7
MIN_SPEEDUPS = {
    ("auto", InputKind.IMAGE): 2.5,
    ("auto", InputKind.TEXT): 3.0,
    ("float32", InputKind.IMAGE): None,
    ("float32", InputKind.TEXT): 3.0,
}
PRECISIONS = ("auto", "float32")
TEXTS = ["a red car", "two dogs playing on a beach", "a church", "people in the rain at night"] * 4


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time per picture and per text."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE).eval()
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    pixels = []
    for path in sorted(photos.rglob("*.jpg")):
        with Image.open(path) as image:
            pixels.append(np.asarray(image.convert("RGB")))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
        encoders = {}
        for precision in PRECISIONS:
            options = EncoderOptions(
                f"{ARCHITECTURE}@{file}",
                "cpu",
                Path(folder) / precision,
                offline=True,
                precision=precision,
            )
            encoders[precision] = plugin.build(options)
        prepared = [
            encoders["float32"].prepare(InputKind.IMAGE, image_pixels) for image_pixels in pixels
        ]
        tokens = [encoders["float32"].prepare(InputKind.TEXT, text) for text in TEXTS]
        batch = torch.from_numpy(np.stack(prepared[:PICTURES])).permute(0, 3, 1, 2) / 255
        padded = tokenizer(TEXTS)

        def their_pictures() -> None:
            with torch.inference_mode():
                model.encode_image(batch)

        def their_texts() -> None:
            with torch.inference_mode():
                for token_row in padded:
                    model.encode_text(token_row[None])

        for precision, encoder in encoders.items():
            for kind, items, theirs in (
                (InputKind.IMAGE, prepared, their_pictures),
                (InputKind.TEXT, tokens, their_texts),
            ):
                batch_items = items[:PICTURES]

                def ours(
                    encoder: Encoder = encoder,
                    kind: InputKind = kind,
                    batch_items: Any = batch_items,
                ) -> None:
                    for part in (
                        [batch_items]
                        if kind is InputKind.IMAGE
                        else [[item] for item in batch_items]
                    ):
                        encoder.encode(kind, part)

                cosine = (
                    encoder.encode(kind, items) * encoders["float32"].encode(kind, items)
                ).sum(axis=1)
                difference_note = (
                    _difference_from_torch(model, padded, encoder, items)
                    if kind is InputKind.TEXT
                    else ""
                )
                rows.append(
                    row(
                        f"{kind.value}, {encoder.device(kind).removeprefix('ONNX Runtime on ')}",
                        compare(ours, theirs, len(batch_items), ROUNDS),
                        MIN_SPEEDUPS[precision, kind],
                        f"least cosine {cosine.min():.4f}{difference_note}",
                    )
                )
    return {"machine": machine(), "pictures": len(pixels), "rows": rows}


def _difference_from_torch(model: Any, padded: torch.Tensor, encoder: Encoder, tokens: Any) -> str:
    """Describe the difference between text vectors and those of torch, which pads texts."""
    with torch.inference_mode():
        expected = model.encode_text(padded, normalize=True).numpy()
    max_difference = np.abs(encoder.encode(InputKind.TEXT, tokens) - expected).max()
    return f"; at most {max_difference:.0e} from torch"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Encoding on the processor

{ARCHITECTURE} with random weights of the true shapes, processor time of one picture or text on one core: mmsearch's
compiled towers, as chosen by themselves (int8) and with `precision = "float32"`, beside open_clip in torch,
float32. Pictures in a batch of {PICTURES}; texts one by one, as queries come, padded to 77 tokens in torch. The guard:
the least cosine between int8 and float32 over the {results["pictures"]} photographs of tests/photos, and over the texts;
for texts also the largest difference of any number from torch's, of which float32 may have 1e-5.

Random weights say nothing of how a trained model bears int8. So each model is held to float32 when it is
compiled, on pictures of noise with the spectrum of photographs and on sentences, and stays in float32 where
a cosine falls below 0.995. The starter's image tower is made of convolutions and stays in float32, too.

{table(results["rows"], "mmsearch", "torch")}"""
