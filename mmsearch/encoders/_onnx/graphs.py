"""ONNX graphs as files: optimised once, their weights beside them. Imported only to compile."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnxruntime

BESIDE_BYTES = 1_000_000
"""Larger weights lie in a file beside the graph: it is mapped into memory instead of being read."""

_SMALLEST_BESIDE_BYTES = 1024


def convolution_share(path: Path) -> float:
    """The share of a graph's weights that convolutions have."""
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {weight.name: math.prod(weight.dims) for weight in graph.initializer}
    inside = {n for node in graph.node if node.op_type == "Conv" for n in node.input}
    share: float = sum(sizes[n] for n in inside if n in sizes) / max(sum(sizes.values()), 1)
    return share


def optimise(source: Path, target: Path) -> Path:
    """Write a graph as this version of ONNX Runtime would make it of ``source`` at every start.

    Layouts that suit one processor only, as convolutions have, are left out.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return target


def put_weights_beside(path: Path) -> list[Path]:
    """Lay large weights of a graph into a second file.

    Returns:
        The graph's file, then that of the weights if it has one.
    """
    beside = Path(f"{path}.data")
    if not beside.exists() and path.stat().st_size > BESIDE_BYTES:
        onnx.save_model(
            onnx.load(path),
            path,
            save_as_external_data=True,
            location=beside.name,
            size_threshold=_SMALLEST_BESIDE_BYTES,
        )
        # onnx lets nobody else read it.
        beside.chmod(path.stat().st_mode)
    return [file for file in (path, beside) if file.exists()]
