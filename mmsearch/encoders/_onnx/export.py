"""Export torch towers to ONNX and verify them; imported only to compile."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.encoders._onnx.cache import CompiledTower, ModelCache, Precision, Tower, TowerName
from mmsearch.encoders._onnx.model import LoadedModel
from mmsearch.encoders._onnx.quantize import (
    convolution_share,
    externalize_weights,
    optimize_graph,
    quantize_tower,
)
from mmsearch.encoders._onnx.verify import (
    Inputs,
    sample_image_batches,
    sample_text_batches,
    single_image_samples,
    single_text_samples,
)
from mmsearch.encoders._tokenizer import TextTokenizer

MAX_DIFFERENCE = 1e-3
"""Largest difference from torch in any column of a unit vector; above it export fails."""

MAX_SINGLE_FILE_BYTES = 1_800_000_000
"""Maximum size of weights stored in the ONNX file itself, in bytes.

ONNX files are limited to 2 GiB, so larger weights are written to an external data file.
"""


class PartTower(torch.nn.Module):
    """A tower that returns a unit vector for each patch or token; it shares a tower's weights.

    Raises:
        UsageError: The tower has no ``parts``, see `LoadedModel`.
    """

    def __init__(self, tower: Any, model_name: str) -> None:
        super().__init__()
        if not hasattr(tower, "parts"):
            raise UsageError(
                f"{model_name} has no vectors for image patches and text tokens.",
                "Use a fusion other than attention, or another model.",
            )
        self.tower = tower

    def forward(self, items: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode n items as float32 (n * p, dim) with unit rows."""
        vectors: Tensor = self.tower.parts(*((items,) if mask is None else (items, mask)))
        return vectors


def compile_tower(
    cache: ModelCache, name: TowerName, model: LoadedModel, *, float32_only: bool
) -> Tower:
    """Compile a tower of a model, in int8 if the vectors stay accurate.

    Args:
        cache: Cache of the model; its lock must be held.
        name: Name of the tower.
        model: The model that contains the tower.
        float32_only: Keep the tower in float32.

    Raises:
        UsageError: The model has no vectors of patches or tokens.
        MMSearchError: The compiled tower differs from torch by more than `MAX_DIFFERENCE`.
    """
    is_image = name in (TowerName.IMAGE, TowerName.IMAGE_PATCHES)
    tower = model.image_tower if is_image else model.text_tower
    if name in (TowerName.IMAGE_PATCHES, TowerName.TEXT_TOKENS):
        tower = PartTower(tower, model.spec.name)
    single_inputs: list[Inputs] = []
    if is_image:
        edge_px = model.preparation.size_px
        if name is TowerName.IMAGE and not float32_only:
            single_inputs = single_image_samples(edge_px)
        return export_tower(
            cache, name.value, tower, sample_image_batches(edge_px), (0,), single_inputs
        )
    tokenizer = TextTokenizer(model.tokenizer, model.tokenizer_json)
    axes = (0, 1) if model.tokenizer.pads_to_longest else (0,)
    if name is TowerName.TEXT and not float32_only:
        single_inputs = single_text_samples(tokenizer)
    return export_tower(
        cache, name.value, tower, sample_text_batches(tokenizer), axes, single_inputs
    )


def export_tower(
    cache: ModelCache,
    name: str,
    tower: torch.nn.Module,
    samples: Sequence[Sequence[NDArray[Any]]],
    dynamic_axes: Sequence[int],
    single_inputs: Sequence[Sequence[NDArray[Any]]] = (),
) -> Tower:
    """Compile a tower and verify it against torch.

    Args:
        cache: Cache that receives the tower after verification; its lock must be held.
        name: File name without suffix.
        tower: Module that maps the inputs to float32 (n, dim) with unit rows; n may be a multiple
            of the number of input items.
        samples: Inputs of different shapes to compare on; the first one is traced.
        dynamic_axes: Axes of variable length in every input.
        single_inputs: Inputs of one item each, on which an int8 tower must agree with float32. If
            empty, the tower stays in float32.

    Returns:
        The compiled tower, with the results of the verification.

    Raises:
        MMSearchError: The compiled tower differs from torch by more than `MAX_DIFFERENCE`.
    """
    weight_bytes = sum(p.numel() * p.element_size() for p in tower.state_dict().values())
    example_inputs = tuple(torch.from_numpy(array) for array in samples[0])
    with cache.staging_dir() as staging_dir:
        path = staging_dir / f"{name}.onnx"
        with torch.inference_mode(), _silence_exporter():
            torch.onnx.export(
                tower,
                example_inputs,
                path,
                dynamo=True,
                dynamic_shapes=tuple(
                    dict.fromkeys(dynamic_axes, torch.export.Dim.DYNAMIC) for _ in example_inputs
                ),
                external_data=weight_bytes > MAX_SINGLE_FILE_BYTES,
                verbose=False,
            )
            difference = _max_difference(name, tower, CompiledTower(path), samples)
            int8_tower = (
                quantize_tower(path, single_inputs)
                if single_inputs and weight_bytes <= MAX_SINGLE_FILE_BYTES
                else None
            )
            if int8_tower is not None:
                int8_tower.path.replace(path)
                files = cache.install(externalize_weights(path))
                return Tower(
                    files,
                    difference,
                    Precision.INT8,
                    int8_tower.cosine,
                    optimised=True,
                    by_blocks=int8_tower.by_blocks,
                )
            optimised = weight_bytes <= MAX_SINGLE_FILE_BYTES and not convolution_share(path)
            if optimised:
                optimize_graph(path, path.with_suffix(".optimised")).replace(path)
                compiled = CompiledTower(path, optimised=True)
                difference = max(difference, _max_difference(name, tower, compiled, samples))
        return Tower(cache.install(externalize_weights(path)), difference, optimised=optimised)


def _max_difference(
    name: str,
    tower: torch.nn.Module,
    compiled: CompiledTower,
    samples: Sequence[Sequence[NDArray[Any]]],
) -> float:
    largest = 0.0
    for inputs in samples:
        with torch.inference_mode():
            expected = tower(*(torch.from_numpy(array) for array in inputs)).float().numpy()
        largest = max(largest, float(np.abs(expected - compiled.run(inputs)).max()))
    if not largest <= MAX_DIFFERENCE:
        raise MMSearchError(
            f"The compiled {name} tower differs from torch by {largest:.2g}, more than "
            f"{MAX_DIFFERENCE:g}.",
            "Please report the model and the versions of torch and onnxruntime.",
        )
    return largest


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the exporter's output and restore the logging configuration afterwards."""
    disabled = logging.root.manager.disable
    # Importing ONNX Runtime's quantiser installs a handler on the root logger.
    level, handlers = logging.root.level, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.setLevel(level)
        logging.root.handlers[:] = handlers
