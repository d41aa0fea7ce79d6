"""Quantization and optimisation of ONNX files; imported only to compile.

Weights are quantized once, activations dynamically. A quantized tower is kept only if its vectors
stay accurate. Two schemes are tried. Per-channel: one scale per column of weights and one for all
activations of a call. It is the smallest and fastest, but one large activation reduces the accuracy
of the others. Block-wise: one scale per block of 32 weights or activations (MatMulNBits,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). A vector must not
depend on the other items of a batch, so a per-channel tower gets one picture or text per call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from mmsearch.encoders._onnx.cache import CompiledTower, Precision
from mmsearch.encoders._onnx.token_table import Rows
from mmsearch.encoders._onnx.verify import min_cosine

MIN_COSINE = 0.995
"""Lowest cosine allowed between the int8 and float32 vectors of a sample.

Below it the tower stays in float32.
"""

MAX_CONVOLUTION_SHARE = 0.2
"""Maximum share of convolutions in a tower's weights; above it the tower stays in float32.

Convolutions were measured to be slower in int8 than in float32.
"""

BLOCK_SIZE = 32
"""Number of weights or activations that share a scale."""

INT8_ACCURACY_LEVEL = 4
"""ONNX Runtime's accuracy level at which activations are int8 as well."""

TIMING_RUNS = 7
"""Timed runs per tower; the fastest of them is compared."""


EXTERNAL_DATA_MIN_BYTES = 1_000_000
"""Size of a graph's file above which its weights move to an external data file.

That file is memory-mapped instead of being read.
"""

_MIN_EXTERNAL_TENSOR_BYTES = 1024


@dataclass(frozen=True)
class QuantizedTower:
    """An int8 tower whose vectors agree with the float32 tower.

    Attributes:
        path: The tower's file, optimised by this version of ONNX Runtime.
        cosine: Lowest cosine between the int8 and float32 vectors of a sample.
        by_blocks: See `Tower`.
    """

    path: Path
    cosine: float
    by_blocks: bool


def quantize_tower(
    path: Path,
    samples: Sequence[Sequence[NDArray[Any]]],
    expected: Sequence[NDArray[Any]],
    rows: Rows | None = None,
) -> QuantizedTower | None:
    """Quantize a float32 tower to int8, next to its file.

    Args:
        path: A float32 tower in a single file.
        samples: Inputs of one picture or text each.
        expected: The unit vector of each sample, float32 (dim,).
        rows: Table of tokens of the tower, see `CompiledTower`.

    Returns:
        The first candidate that is accurate (and, if block-wise, faster than float32), or None.
    """
    if convolution_share(path) > MAX_CONVOLUTION_SHARE:
        return None
    reference = CompiledTower(path, rows=rows)
    for candidate, by_blocks in _int8_candidates(path):
        tower = CompiledTower(candidate, Precision.INT8, optimised=True, rows=rows)
        cosine = min_cosine([tower.run(sample)[0] for sample in samples], expected)
        # Processors without int8 products unpack the blocks one by one, which can be slower.
        if cosine >= MIN_COSINE and (not by_blocks or is_faster(tower, reference, samples[0])):
            return QuantizedTower(candidate, cosine, by_blocks)
    return None


def is_faster(
    tower: CompiledTower, baseline: CompiledTower, sample: Sequence[NDArray[Any]]
) -> bool:
    """Return True if one call of ``tower`` takes less time than one of ``baseline``."""
    # The towers take turns, so that other work on the machine slows both of them.
    seconds, baseline_seconds = [], []
    for _ in range(TIMING_RUNS):
        seconds.append(_call_seconds(tower, sample))
        baseline_seconds.append(_call_seconds(baseline, sample))
    return min(seconds) < min(baseline_seconds)


def _int8_candidates(path: Path) -> Iterator[tuple[Path, bool]]:
    """Yield int8 towers, smallest first, each with True if it is quantized block-wise."""
    unoptimized, optimized = path.with_suffix(".rough"), path.with_suffix(".int8")
    with_tables = ("MatMul", "Gemm", "Gather")
    # Gather contains the token embedding table of a text tower.
    for op_types in (with_tables, with_tables[:2]) if _has_table(path) else (with_tables[:2],):
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

    # Symmetric quantization was measured to return NaN in ONNX Runtime 1.32.
    quantizer = MatMulNBitsQuantizer(
        str(source),
        bits=8,
        block_size=BLOCK_SIZE,
        is_symmetric=False,
        accuracy_level=INT8_ACCURACY_LEVEL,
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(target), False)


def _call_seconds(tower: CompiledTower, sample: Sequence[NDArray[Any]]) -> float:
    started = time.perf_counter()
    tower.run(sample)
    return time.perf_counter() - started


# --- ONNX files ---


def _has_table(path: Path) -> bool:
    graph = onnx.load(path, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    return any(node.op_type == "Gather" and node.input[0] in weights for node in graph.node)


def take_rows_as_input(path: Path, table_name: str) -> None:
    """Replace the table of a graph by a last input that takes rows of it, float32 (n, t, columns).

    Args:
        path: A graph whose first input, int64 (n, t), are the numbers of the rows.
        table_name: Name of the weights.
    """
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    (lookup,) = (
        node for node in graph.node if node.op_type == "Gather" and node.input[0] == table_name
    )
    (table,) = (weight for weight in graph.initializer if weight.name == table_name)
    (name,) = lookup.output
    for value in [value for value in graph.value_info if value.name == name]:
        graph.value_info.remove(value)
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    graph.input.append(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [*dims, table.dims[1]])
    )
    graph.node.remove(lookup)
    graph.initializer.remove(table)
    onnx.save(model, path)


def convolution_share(path: Path) -> float:
    """Return the share of a graph's weights that belongs to convolutions, 0..1."""
    graph = onnx.load(path, load_external_data=False).graph
    weight_sizes = {weight.name: math.prod(weight.dims) for weight in graph.initializer}
    conv_inputs = {n for node in graph.node if node.op_type == "Conv" for n in node.input}
    share: float = sum(weight_sizes[n] for n in conv_inputs if n in weight_sizes) / max(
        sum(weight_sizes.values()), 1
    )
    return share


def optimize_graph(source: Path, target: Path) -> Path:
    """Write the optimised graph that this ONNX Runtime would build from ``source`` at every start.

    Layouts that depend on the processor, such as those of convolutions, are not applied.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return target


def externalize_weights(path: Path) -> list[Path]:
    """Move the weights of a large graph to an external data file.

    Returns:
        The graph's file, followed by the file of the weights if there is one.
    """
    weights_file = Path(f"{path}.data")
    if not weights_file.exists() and path.stat().st_size > EXTERNAL_DATA_MIN_BYTES:
        onnx.save_model(
            onnx.load(path),
            path,
            save_as_external_data=True,
            location=weights_file.name,
            size_threshold=_MIN_EXTERNAL_TENSOR_BYTES,
        )
        # onnx creates the file readable by its owner only.
        weights_file.chmod(path.stat().st_mode)
    return [file for file in (path, weights_file) if file.exists()]
