"""torch -> ONNX, checked against torch. Imported only to compile."""

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

from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.encoders._onnx.cache import CompiledTower, ModelCache, Precision, Tower, TowerName
from mmsearch.encoders._onnx.graphs import convolution_share, optimise, put_weights_beside
from mmsearch.encoders._onnx.loaded import LoadedModel
from mmsearch.encoders._onnx.quantize import quantise
from mmsearch.encoders._onnx.verify import (
    Inputs,
    picture_batches,
    single_pictures,
    single_texts,
    text_batches,
)
from mmsearch.encoders._tokenizer import TextPreparation

LARGEST_DIFFERENCE = 1e-3
"""Of any column of a unit vector; beyond it a compiled tower is refused."""

ONE_FILE_BYTES = 1_800_000_000
"""ONNX files are limited to 2 GiB; larger weights go into a file beside it."""


def compile_tower(cache: ModelCache, name: TowerName, model: LoadedModel, *, exact: bool) -> Tower:
    """Compile a tower of a model, in int8 where that changes nothing.

    Args:
        cache: The model's; its lock must be held.
        name: Of the tower.
        model: Has it.
        exact: It stays in float32.

    Raises:
        UsageError: The model has no such tower.
        MMSearchError: The compiled tower differs from torch.
    """
    tower = model.tower(name)
    if tower is None:
        raise UsageError(
            f"{model.spec.name} gives no vectors of parts of pictures and words of texts.",
            "Choose another fusion than attention, or another model.",
        )
    single: list[Inputs] = []
    if name in (TowerName.IMAGE, TowerName.IMAGE_PATCHES):
        edge = model.preparation.size_px
        if name is TowerName.IMAGE and not exact:
            single = single_pictures(edge)
        return export_tower(cache, name.value, tower, picture_batches(edge), (0,), single)
    text = TextPreparation(model.tokenizer, model.tokenizer_json)
    axes = (0, 1) if model.tokenizer.pads_to_longest else (0,)
    if name is TowerName.TEXT and not exact:
        single = single_texts(text)
    return export_tower(cache, name.value, tower, text_batches(text), axes, single)


def export_tower(
    cache: ModelCache,
    name: str,
    tower: torch.nn.Module,
    samples: Sequence[Sequence[NDArray[Any]]],
    dynamic_axes: Sequence[int],
    single: Sequence[Sequence[NDArray[Any]]] = (),
) -> Tower:
    """Compile a tower and hold it to torch.

    Args:
        cache: Where it goes, as soon as it is found right; its lock must be held.
        name: Of the file.
        tower: Inputs -> float32 (n, dim), unit rows; n may be a multiple of the inputs'.
        samples: Inputs to compare on, of different shapes; the first one is traced.
        dynamic_axes: Axes of every input that may change.
        single: Inputs of one item each, on which a tower in int8 must say the same; none: it
            stays in float32.

    Returns:
        What was made, and how it was held to torch.

    Raises:
        MMSearchError: The compiled tower differs from torch.
    """
    weights = sum(p.numel() * p.element_size() for p in tower.state_dict().values())
    arguments = tuple(torch.from_numpy(array) for array in samples[0])
    with cache.workshop() as workshop:
        path = workshop / f"{name}.onnx"
        with torch.inference_mode(), _quiet():
            torch.onnx.export(
                tower,
                arguments,
                path,
                dynamo=True,
                dynamic_shapes=tuple(
                    dict.fromkeys(dynamic_axes, torch.export.Dim.DYNAMIC) for _ in arguments
                ),
                external_data=weights > ONE_FILE_BYTES,
                verbose=False,
            )
            difference = _difference(name, tower, CompiledTower(path), samples)
            smaller = quantise(path, single) if single and weights <= ONE_FILE_BYTES else None
            if smaller is not None:
                smaller.path.replace(path)
                files = cache.adopt(put_weights_beside(path))
                return Tower(
                    files,
                    difference,
                    Precision.INT8,
                    smaller.cosine,
                    optimised=True,
                    by_blocks=smaller.by_blocks,
                )
            optimised = weights <= ONE_FILE_BYTES and not convolution_share(path)
            if optimised:
                optimise(path, path.with_suffix(".optimised")).replace(path)
                compiled = CompiledTower(path, optimised=True)
                difference = max(difference, _difference(name, tower, compiled, samples))
        return Tower(cache.adopt(put_weights_beside(path)), difference, optimised=optimised)


def _difference(
    name: str,
    tower: torch.nn.Module,
    compiled: CompiledTower,
    samples: Sequence[Sequence[NDArray[Any]]],
) -> float:
    worst = 0.0
    for inputs in samples:
        with torch.inference_mode():
            truth = tower(*(torch.from_numpy(array) for array in inputs)).float().numpy()
        worst = max(worst, float(np.abs(truth - compiled.run(inputs)).max()))
    if not worst <= LARGEST_DIFFERENCE:
        raise MMSearchError(
            f"The compiled {name} tower differs from torch by {worst:.2g}, more than "
            f"{LARGEST_DIFFERENCE:g}.",
            "Please report the model and the versions of torch and onnxruntime.",
        )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's chatter from the user; everything is put back afterwards."""
    disabled = logging.root.manager.disable
    # To import ONNX Runtime's quantiser is to be given a root handler.
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
