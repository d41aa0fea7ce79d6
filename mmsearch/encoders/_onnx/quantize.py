"""Towers in int8: weights once, activations as they come. Imported only to compile.

It is kept only where the vectors stay what they were. Two ways are tried. A column of weights has a
scale of its own, and activations one for a whole call: the smallest and fastest, but one large
activation drowns the others. Or each block of 32 weights or activations has a scale of its own
(MatMulNBits, https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). A vector
must not depend on what else is in a batch: a tower of the first kind is given one picture or text
at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from mmsearch.encoders._onnx.cache import CompiledTower, Precision
from mmsearch.encoders._onnx.graphs import convolution_share, optimize_graph

MIN_COSINE = 0.995
"""Between the vectors of a sample; below it a tower stays in float32."""

MAX_CONVOLUTION_SHARE = 0.2
"""Share of a tower's weights: convolutions in int8 were measured slower than in float32."""

BLOCK_SIZE = 32
"""Weights or activations that share a scale."""

INT8_ACCURACY_LEVEL = 4
"""ONNX Runtime's level of accuracy at which activations are int8, too."""

TIMING_RUNS = 7
"""Of which the fastest counts, where a tower in int8 must be faster than in float32."""


@dataclass(frozen=True)
class QuantizedTower:
    """A tower in int8 that says the same as in float32.

    Attributes:
        path: Its file, optimised for this version of ONNX Runtime.
        cosine: The least one between vectors of both.
        by_blocks: See `Tower`.
    """

    path: Path
    cosine: float
    by_blocks: bool


def quantize_tower(path: Path, samples: Sequence[Sequence[NDArray[Any]]]) -> QuantizedTower | None:
    """Make a tower in int8 beside one in float32.

    Args:
        path: A tower in float32, in one file.
        samples: Inputs of one picture or text each.

    Returns:
        None if no tower in int8 says the same as float32, or is faster.
    """
    if convolution_share(path) > MAX_CONVOLUTION_SHARE:
        return None
    reference = CompiledTower(path)
    expected = [reference.run(sample)[0] for sample in samples]
    for candidate, by_blocks in _int8_candidates(path):
        tower = CompiledTower(candidate, Precision.INT8, optimised=True)
        cosines = [
            tower.run(s)[0] @ expected_vector
            for s, expected_vector in zip(samples, expected, strict=True)
        ]
        is_accurate = all(cosine >= MIN_COSINE for cosine in cosines)
        # Where a processor has no products of int8, blocks are unpacked one by one.
        if is_accurate and (not by_blocks or is_faster(tower, reference, samples[0])):
            return QuantizedTower(candidate, float(min(cosines)), by_blocks)
    return None


def is_faster(
    tower: CompiledTower, baseline: CompiledTower, sample: Sequence[NDArray[Any]]
) -> bool:
    """Whether a tower takes less time than another for one call."""
    return _min_call_seconds(tower, sample) < _min_call_seconds(baseline, sample)


def _int8_candidates(path: Path) -> Iterator[tuple[Path, bool]]:
    """Towers in int8, the smallest result first, and whether each is made by blocks."""
    unoptimized, optimized = path.with_suffix(".rough"), path.with_suffix(".int8")
    # Gather holds the table of a text's tokens.
    for op_types in (("MatMul", "Gemm", "Gather"), ("MatMul", "Gemm")):
        _quantize_per_channel(path, unoptimized, op_types)
        yield optimize_graph(unoptimized, optimized), False
    _quantize_per_channel(path, unoptimized, ("Gather",))
    _quantize_blockwise(unoptimized, unoptimized)
    yield optimize_graph(unoptimized, optimized), True


def _quantize_per_channel(source: Path, target: Path, op_types: Sequence[str]) -> None:
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(op_types),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def _quantize_blockwise(source: Path, target: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415 - sets up logging
        MatMulNBitsQuantizer,
    )

    # Symmetric ones were measured to give NaN in ONNX Runtime 1.32.
    quantizer = MatMulNBitsQuantizer(
        str(source),
        bits=8,
        block_size=BLOCK_SIZE,
        is_symmetric=False,
        accuracy_level=INT8_ACCURACY_LEVEL,
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), False)


def _min_call_seconds(tower: CompiledTower, sample: Sequence[NDArray[Any]]) -> float:
    times = []
    for _ in range(TIMING_RUNS):
        started = time.perf_counter()
        tower.run(sample)
        times.append(time.perf_counter() - started)
    return min(times)
