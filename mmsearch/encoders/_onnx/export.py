"""Export torch towers to ONNX and verify them; imported only to compile."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
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
    take_rows_as_input,
)
from mmsearch.encoders._onnx.token_table import Rows, TableInfo, TokenTable, write_table
from mmsearch.encoders._onnx.verify import (
    Inputs,
    min_cosine,
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


MIN_TABLE_BYTES = 300_000_000
"""Size of a table of tokens, in float32, above which it is stored outside the graph."""

MIN_TABLE_COSINE = 0.9995
"""Lowest cosine allowed between vectors by the int8 and float32 rows of a table.

Below it the table stays in float32.
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
    embedding = _find_large_table(tower)
    with (
        cache.staging_dir() as staging_dir,
        torch.inference_mode(),
        _silence_exporter(),
    ):
        path = staging_dir / f"{name}.onnx"
        weight_bytes = _export_graph(tower, path, samples[0], dynamic_axes, embedding)
        is_single_file = weight_bytes <= MAX_SINGLE_FILE_BYTES
        exact_rows = None if embedding is None else _torch_rows(embedding[1])
        exact = CompiledTower(path, rows=exact_rows)
        difference = _max_difference(name, tower, exact, samples)
        expected = [exact.run(sample)[0] for sample in single_inputs]
        table, cosine, rows = None, 1.0, None
        if embedding is not None:
            table, cosine = _write_table(embedding[1], path, single_inputs, expected)
            rows = TokenTable(staging_dir, table).rows
        int8_tower = (
            quantize_tower(path, single_inputs, expected, rows)
            if single_inputs and is_single_file
            else None
        )
        optimised = int8_tower is not None
        if int8_tower is not None:
            cosine = int8_tower.cosine
            int8_tower.path.replace(path)
        elif is_single_file and not convolution_share(path):
            optimised = True
            optimize_graph(path, path.with_suffix(".optimised")).replace(path)
            compiled = CompiledTower(path, optimised=True, rows=exact_rows)
            difference = max(difference, _max_difference(name, tower, compiled, samples))
        files = externalize_weights(path)
        if table is not None:
            files += [staging_dir / table.name, staging_dir / table.checksums]
        return Tower(
            cache.install(files),
            difference,
            Precision.FLOAT32 if int8_tower is None else Precision.INT8,
            cosine,
            optimised=optimised,
            by_blocks=int8_tower is not None and int8_tower.by_blocks,
            table=table,
        )


def _export_graph(
    tower: torch.nn.Module,
    path: Path,
    inputs: Sequence[NDArray[Any]],
    dynamic_axes: Sequence[int],
    embedding: tuple[str, torch.nn.Embedding] | None,
) -> int:
    """Write the float32 graph of a tower without its table of tokens; return its size in bytes."""
    example_inputs = tuple(torch.from_numpy(array) for array in inputs)
    with _shrink_table(embedding):
        weight_bytes: int = sum(p.numel() * p.element_size() for p in tower.state_dict().values())
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
    if embedding is not None:
        take_rows_as_input(path, f"{embedding[0]}.weight")
    return weight_bytes


def _find_large_table(tower: torch.nn.Module) -> tuple[str, torch.nn.Embedding] | None:
    """Return the name and module of open_clip's table of tokens if it is large, else None."""
    for name, module in tower.named_modules():
        if name.rpartition(".")[2] == "token_embedding" and isinstance(module, torch.nn.Embedding):
            return (name, module) if module.weight.nbytes >= MIN_TABLE_BYTES else None
    return None


@contextmanager
def _shrink_table(embedding: tuple[str, torch.nn.Embedding] | None) -> Iterator[None]:
    """Replace a table by its first row, so that it is not exported."""
    if embedding is None:
        yield
        return
    module, weight = embedding[1], embedding[1].weight
    module.weight = torch.nn.Parameter(weight[:1].clone(), requires_grad=False)
    try:
        yield
    finally:
        module.weight = weight


def _torch_rows(embedding: torch.nn.Embedding) -> Rows:
    weight = embedding.weight.detach().float().numpy()
    return lambda ids: weight[ids]


def _write_table(
    embedding: torch.nn.Embedding,
    path: Path,
    single_inputs: Sequence[Sequence[NDArray[Any]]],
    expected: Sequence[NDArray[Any]],
) -> tuple[TableInfo, float]:
    """Write the table of a tower next to its graph, in int8 if its vectors stay accurate.

    Returns:
        The table, and the lowest cosine between vectors by its rows and the exact ones.
    """
    weight = embedding.weight.detach().float().numpy()
    if single_inputs:
        table = write_table(weight, path.parent, path.stem, is_int8=True)
        tower = CompiledTower(path, rows=TokenTable(path.parent, table).rows)
        cosine = min_cosine([tower.run(sample)[0] for sample in single_inputs], expected)
        if cosine >= MIN_TABLE_COSINE:
            return table, cosine
    return write_table(weight, path.parent, path.stem, is_int8=False), 1.0


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
