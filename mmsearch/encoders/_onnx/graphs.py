"""Optimise ONNX files and move their weights to external data; imported only to compile."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnxruntime

EXTERNAL_DATA_MIN_BYTES = 1_000_000
"""Size of a graph's file above which its weights move to an external data file.

That file is memory-mapped instead of being read.
"""

_MIN_EXTERNAL_TENSOR_BYTES = 1024


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
