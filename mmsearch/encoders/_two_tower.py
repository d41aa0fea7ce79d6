"""An encoder with an image tower and a text tower, shared by all models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import EncoderOptions, InputKind, ModelInput, Pixels, Vectors
from mmsearch.encoders._onnx.cache import CompiledTower, Precision, TowerName
from mmsearch.encoders._onnx.model import CompiledModel, ModelSource
from mmsearch.encoders._tokenizer import TextTokenizer

if TYPE_CHECKING:
    from mmsearch.core.protocols import ImagePreprocessor
    from mmsearch.encoders._torch import TorchTower

CPU_BATCH_SIZE = 32
"""Pictures per batch on a CPU."""

MAX_SAME_LENGTH = 8
"""Maximum number of texts of equal length in one call of an int8 tower.

Larger groups were measured to be no faster, and fewer calls than processors leave some idle.
"""

UNPACKED_TEXT_LIMIT = 24
"""Number of texts after which prepacking the weights of a text tower saves more than it costs."""


class TwoTowerEncoder:
    """Encoder with an image tower and a text tower; see `mmsearch.core.protocols.Encoder`.

    The first use compiles the text tower and, on a CPU, the image tower; after that neither needs
    torch. On a GPU the image tower runs in torch. Not thread-safe.

    Attributes:
        spec: Identity of the model.
        image_preprocessor: Prepares pictures for the image tower.
        prompts: Prompt templates whose vectors are averaged for a query.
        calibration: Parameters that convert similarities to a probability.
        languages: Codes of the languages that it reads; empty if it reads many.
    """

    def __init__(self, model_source: ModelSource, options: EncoderOptions) -> None:
        self._model_source = model_source
        self._options = options
        self._model = CompiledModel(model_source, options)
        self._encoded_text_count = 0
        self.spec = replace(self._model.manifest.spec, name=model_source.name)
        self.image_preprocessor = self._model.manifest.preparation
        self.prompts = model_source.prompts
        self.calibration = model_source.calibration
        self.languages = model_source.languages

    @property
    def batch_preprocessor(self) -> ImagePreprocessor:
        """Variant of `image_preprocessor` for processes that prepare many pictures."""
        if self._model.image_device == "cpu":
            return self.image_preprocessor
        from mmsearch.encoders import _preprocess_torch  # noqa: PLC0415 - imports torch

        if not _preprocess_torch.is_fast_on_this_cpu():
            return self.image_preprocessor
        return _preprocess_torch.TorchPixelPreprocessor(**asdict(self.image_preprocessor))

    @property
    def batch_size(self) -> int:
        """Recommended number of pictures per call of `encode`."""
        return CPU_BATCH_SIZE if self._model.image_device == "cpu" else self._gpu_tower.batch_size

    def prepare(self, kind: InputKind, payload: Pixels | str) -> ModelInput:
        """Return the model input of one picture or text as one array."""
        if isinstance(payload, str):
            return self._tokenizer.prepare(payload)
        return self.image_preprocessor(payload)

    def dropped_tokens(self, text: str) -> int:
        """Return the number of tokens beyond the context length."""
        return self._tokenizer.dropped_tokens(text)

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Encode n prepared items as float32 (n, dim) with unit rows."""
        if not len(batch):
            return np.empty((0, self.spec.dim), dtype=np.float32)
        if kind == InputKind.IMAGE and self._model.image_device != "cpu":
            return self._gpu_tower.run(batch)
        tower = self._select_text_tower(len(batch)) if kind == InputKind.TEXT else self._image_tower
        if self._precision(kind) is not Precision.INT8:
            return tower.run(self._inputs(kind, batch))
        groups = self._group_for_int8(kind, batch)
        outputs = tower.run_many(
            [self._inputs(kind, [batch[i] for i in group]) for group in groups]
        )
        vectors = np.empty((len(batch), self.spec.dim), dtype=np.float32)
        vectors[[i for group in groups for i in group]] = np.concatenate(outputs)
        return vectors

    def _inputs(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[NDArray[Any]]:
        return (
            list(self._tokenizer.pad_batch(batch)) if kind == InputKind.TEXT else [np.stack(batch)]
        )

    def _precision(self, kind: InputKind) -> Precision:
        tower = self._model.manifest.towers.get(TowerName(kind.value))
        return Precision.FLOAT32 if tower is None else tower.precision

    def _group_for_int8(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[list[int]]:
        """Group the positions of items that an int8 tower may process in one call."""
        if kind is not InputKind.TEXT or not self._is_text_blockwise:
            return [[position] for position in range(len(batch))]
        # Texts of equal length need no padding; padding costs as much as real tokens.
        by_length: dict[int, list[int]] = defaultdict(list)
        for position, tokens in enumerate(batch):
            by_length[len(tokens)].append(position)
        groups = [
            same_length[start : start + MAX_SAME_LENGTH]
            for same_length in by_length.values()
            for start in range(0, len(same_length), MAX_SAME_LENGTH)
        ]
        # Largest groups first, so that no processor starts one while the others are already idle.
        return sorted(groups, key=lambda group: -len(group) * len(batch[group[0]]))

    @property
    def _is_text_blockwise(self) -> bool:
        tower = self._model.manifest.towers.get(TowerName.TEXT)
        return tower is not None and tower.by_blocks

    def token_vectors(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[Vectors]:
        """Encode the patches or tokens of prepared items, float32 (p, dim) for each item.

        Raises:
            UsageError: The model's patches or tokens are not in its embedding space.
        """
        if not len(batch):
            return []
        if kind is InputKind.IMAGE:
            rows = self._patch_tower.run([np.stack(batch)])
            return list(rows.reshape(len(batch), -1, self.spec.dim))
        rows = self._token_tower.run(self._tokenizer.pad_batch(batch))
        vectors = rows.reshape(len(batch), -1, self.spec.dim)
        # The first and last tokens only mark the start and end of a text.
        return [
            item_vectors[1 : len(ids) - 1] if len(ids) > 2 else item_vectors[: len(ids)]
            for item_vectors, ids in zip(vectors, batch, strict=True)
        ]

    def device(self, kind: InputKind) -> str:
        """Return a description of the runtime and device that encode an input kind."""
        if kind == InputKind.TEXT:
            return self._cpu_runtime_name(kind)
        if self._model.image_device != "cpu":
            return f"torch on {self._model.image_device}"
        from mmsearch.core.gpu_memory import has_nvidia_gpu  # noqa: PLC0415 - texts need no GPU

        if self._options.device == "auto" and has_nvidia_gpu():
            return (
                f"{self._cpu_runtime_name(kind)} "
                "(this machine has an NVIDIA GPU that torch cannot use)"
            )
        return self._cpu_runtime_name(kind)

    def release(self, kind: InputKind) -> None:
        """Free the towers of an input kind."""
        # Open towers are cached properties: removing the attribute releases them.
        towers = {
            InputKind.IMAGE: ("_image_tower", "_patch_tower", "_gpu_tower"),
            InputKind.TEXT: ("_text_tower", "_first_text_tower", "_token_tower"),
        }
        for attribute in towers[kind]:
            loaded = self.__dict__.pop(attribute, None)
            if attribute == "_gpu_tower" and loaded is not None:
                loaded.close()

    def _cpu_runtime_name(self, kind: InputKind) -> str:
        is_int8 = self._precision(kind) is Precision.INT8
        return f"ONNX Runtime on cpu{', int8' if is_int8 else ''}"

    # --- parts created on first use ---

    @cached_property
    def _tokenizer(self) -> TextTokenizer:
        return self._model.load_tokenizer()

    def _select_text_tower(self, count: int) -> CompiledTower:
        self._encoded_text_count += count
        if self._encoded_text_count > UNPACKED_TEXT_LIMIT or self._is_text_blockwise:
            return self._text_tower
        return self._first_text_tower

    @cached_property
    def _text_tower(self) -> CompiledTower:
        return self._model.open_tower(TowerName.TEXT)

    @cached_property
    def _first_text_tower(self) -> CompiledTower:
        """The text tower without prepacked weights: it opens faster, for a single query."""
        return self._model.open_tower(TowerName.TEXT, prepacked=False)

    @cached_property
    def _image_tower(self) -> CompiledTower:
        return self._model.open_tower(TowerName.IMAGE)

    @cached_property
    def _patch_tower(self) -> CompiledTower:
        return self._model.open_tower(TowerName.IMAGE_PATCHES)

    @cached_property
    def _token_tower(self) -> CompiledTower:
        return self._model.open_tower(TowerName.TEXT_TOKENS)

    @cached_property
    def _gpu_tower(self) -> TorchTower:
        from mmsearch.encoders._torch import TorchTower  # noqa: PLC0415 - imports torch

        return TorchTower(self._model.load_torch_model().image_tower, self._model.image_device)
