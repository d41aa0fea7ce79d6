"""Towers in int8: weights once, activations as they come. Imported only to compile.

It is kept only where the vectors stay what they were. A column of weights has a scale of its own;
activations have one for a whole call, so that such a tower is given one picture or text at a time:
a vector must not depend on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from mmsearch.encoders._compiled import CompiledTower, Precision
from mmsearch.encoders._graphs import convolution_share, optimise

LEAST_COSINE = 0.995
"""Between the vectors of a sample; below it a tower stays in float32."""

MOST_CONVOLUTION = 0.2
"""Share of a tower's weights: convolutions in int8 were measured slower than in float32."""

_CHOICES = (("MatMul", "Gemm", "Gather"), ("MatMul", "Gemm"))
"""Operators to quantise, the smallest result first. Gather holds the table of a text's tokens."""


def quantise(path: Path, samples: Sequence[Sequence[NDArray[Any]]]) -> tuple[Path, float] | None:
    """Make a tower in int8 beside one in float32.

    Args:
        path: A tower in float32, in one file.
        samples: Inputs of one picture or text each.

    Returns:
        Its file, optimised for this version of ONNX Runtime, and the least cosine; None if none
        says the same as float32.
    """
    if convolution_share(path) > MOST_CONVOLUTION:
        return None
    exact = CompiledTower(path)
    truth = [exact.run(sample)[0] for sample in samples]
    rough, made = path.with_suffix(".rough"), path.with_suffix(".int8")
    for operators in _CHOICES:
        quantize_dynamic(
            path,
            rough,
            op_types_to_quantize=list(operators),
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        optimise(rough, made)
        tower = CompiledTower(made, Precision.INT8, optimised=True)
        cosines = [tower.run(s)[0] @ true for s, true in zip(samples, truth, strict=True)]
        if min(cosines) >= LEAST_COSINE:
            return made, float(min(cosines))
    return None


def lifelike(edge_px: int, count: int) -> NDArray[np.uint8]:
    """uint8 (count, edge, edge, 3): noise with the spectrum of photographs (1/f), of many moods."""
    random = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(edge_px)[:, None], np.fft.rfftfreq(edge_px)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / edge_px)
    pictures = np.empty((count, edge_px, edge_px, 3), dtype=np.uint8)
    for picture in pictures:
        white = np.fft.rfft2(random.standard_normal((3, edge_px, edge_px)))
        grey, *colours = np.fft.irfft2(white * fall, s=(edge_px, edge_px))
        mixed = np.stack([grey, grey + 0.4 * colours[0], grey + 0.4 * colours[1]], axis=2)
        mixed /= mixed.std()
        level, contrast = random.uniform(70, 180), random.uniform(20, 70)
        picture[:] = np.clip(level + contrast * mixed, 0, 255)
    return pictures
