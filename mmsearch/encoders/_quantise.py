"""Towers in int8: weights once, activations as they come. Imported only to compile.

It is kept only where the vectors stay what they were. A column of weights has a scale of its own;
activations have one for a whole call, so that such a tower is given one picture or text at a time:
a vector must not depend on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
