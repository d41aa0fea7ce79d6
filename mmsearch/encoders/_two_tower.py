"""An encoder made of two towers, whatever model they come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.protocols import ImagePreparation
from mmsearch.core.types import Calibration, EncoderOptions, Kind, Pixels, Prepared, Vectors
from mmsearch.encoders._onnx.cache import CompiledTower, Precision, TowerName
from mmsearch.encoders._onnx.model import Blueprint, CompiledModel
from mmsearch.encoders._tokenizer import TextPreparation

if TYPE_CHECKING:
    from mmsearch.encoders._torch import TorchTower

CPU_BATCH = 32

ALIKE = 8
"""Texts of one length that are given to a tower in int8 together: more were measured to save no
more, and fewer calls than processors leave some idle."""

FEW_TEXTS = 24
"""So many are encoded before packing the weights of a text tower has cost less than it saves."""


class TowerEncoder:
    """See `mmsearch.core.protocols.Encoder`.

    The first use compiles the text tower, and on a CPU the image tower, and from then on neither
    needs torch. A GPU's image tower runs in torch. One caller at a time.
    """

    def __init__(self, blueprint: Blueprint, options: EncoderOptions) -> None:
        self._blueprint = blueprint
        self._options = options
        self._model = CompiledModel(blueprint, options)
        self._texts = 0
        self.spec = replace(self._model.manifest.spec, name=blueprint.name)
        self.image_preparation = self._model.manifest.preparation

    @property
    def bulk_preparation(self) -> ImagePreparation:
        """As `image_preparation`, for processes that make very many pictures."""
        if self._model.image_device == "cpu":
            return self.image_preparation
        from mmsearch.encoders import _preprocess_torch  # noqa: PLC0415 - costs torch

        if not _preprocess_torch.is_fast_here():
            return self.image_preparation
        return _preprocess_torch.TorchPreparation.from_facts(self.image_preparation.facts())

    @property
    def prompts(self) -> Sequence[str]:
        """Phrasings whose vectors are averaged for a query."""
        return self._blueprint.prompts

    @property
    def calibration(self) -> Calibration:
        """How similarities become a probability."""
        return self._blueprint.calibration

    @property
    def batch_size(self) -> int:
        """Pictures a call of `encode` should be given."""
        return CPU_BATCH if self._model.image_device == "cpu" else self._gpu_tower.batch_size

    def prepare(self, kind: Kind, payload: Pixels | str) -> Prepared:
        """One picture or text -> one array."""
        if isinstance(payload, str):
            return self._text.prepare(payload)
        return self.image_preparation(payload)

    def dropped_tokens(self, text: str) -> int:
        """Tokens beyond the context length."""
        return self._text.dropped_tokens(text)

    def encode(self, kind: Kind, batch: Sequence[Prepared]) -> Vectors:
        """Prepared items -> float32 (n, dim), unit rows."""
        if not len(batch):
            return np.empty((0, self.spec.dim), dtype=np.float32)
        if kind == Kind.IMAGE and self._model.image_device != "cpu":
            return self._gpu_tower.run(batch)
        tower = self._text_tower_for(len(batch)) if kind == Kind.TEXT else self._image_tower
        if self._precision(kind) is not Precision.INT8:
            return tower.run(self._inputs(kind, batch))
        calls = self._calls(kind, batch)
        made = tower.run_each([self._inputs(kind, [batch[i] for i in call]) for call in calls])
        vectors = np.empty((len(batch), self.spec.dim), dtype=np.float32)
        vectors[[i for call in calls for i in call]] = np.concatenate(made)
        return vectors

    def _inputs(self, kind: Kind, batch: Sequence[Prepared]) -> list[NDArray[Any]]:
        return list(self._text.inputs(batch)) if kind == Kind.TEXT else [np.stack(batch)]

    def _precision(self, kind: Kind) -> Precision:
        tower = self._model.manifest.towers.get(TowerName(kind.value))
        return Precision.FLOAT32 if tower is None else tower.precision

    def _calls(self, kind: Kind, batch: Sequence[Prepared]) -> list[list[int]]:
        """Which items of a batch a tower in int8 may be given together."""
        if kind is not Kind.TEXT or not self._by_blocks:
            return [[number] for number in range(len(batch))]
        # Texts of one length need no padding, which would cost as much as words.
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, tokens in enumerate(batch):
            by_length[len(tokens)].append(number)
        calls = [
            alike[start : start + ALIKE]
            for alike in by_length.values()
            for start in range(0, len(alike), ALIKE)
        ]
        # The longest first, or some processors have nothing left to do while another begins it.
        return sorted(calls, key=lambda call: -len(call) * len(batch[call[0]]))

    @property
    def _by_blocks(self) -> bool:
        tower = self._model.manifest.towers.get(TowerName.TEXT)
        return tower is not None and tower.by_blocks

    def parts(self, kind: Kind, batch: Sequence[Prepared]) -> list[Vectors]:
        """Prepared items -> for each, float32 (p, dim): its patches, or its tokens.

        Raises:
            UsageError: The model has none that lie in the space of its vectors.
        """
        if not len(batch):
            return []
        if kind is Kind.IMAGE:
            rows = self._patch_tower.run([np.stack(batch)])
            return list(rows.reshape(len(batch), -1, self.spec.dim))
        rows = self._token_tower.run(self._text.inputs(batch))
        states = rows.reshape(len(batch), -1, self.spec.dim)
        # The first and the last token only say that a text begins and ends.
        return [
            own[1 : len(ids) - 1] if len(ids) > 2 else own[: len(ids)]
            for own, ids in zip(states, batch, strict=True)
        ]

    def device(self, kind: Kind) -> str:
        """Where a kind is encoded."""
        if kind == Kind.TEXT:
            return self._on_cpu(kind)
        if self._model.image_device != "cpu":
            return f"torch on {self._model.image_device}"
        if self._options.device == "auto" and has_nvidia_gpu():
            return f"{self._on_cpu(kind)} (this machine has an NVIDIA GPU that torch cannot use)"
        return self._on_cpu(kind)

    def release(self, kind: Kind) -> None:
        """Free its towers; those that are kept open are properties of this object."""
        towers = {
            Kind.IMAGE: ("_image_tower", "_patch_tower", "_gpu_tower"),
            Kind.TEXT: ("_text_tower", "_first_text_tower", "_token_tower"),
        }
        for tower in towers[kind]:
            held = self.__dict__.pop(tower, None)
            if tower == "_gpu_tower" and held is not None:
                held.close()

    def _on_cpu(self, kind: Kind) -> str:
        in_int8 = self._precision(kind) is Precision.INT8
        return f"ONNX Runtime on cpu{', int8' if in_int8 else ''}"

    # --- parts, made when they are first needed ---

    @cached_property
    def _text(self) -> TextPreparation:
        return self._model.text()

    def _text_tower_for(self, count: int) -> CompiledTower:
        self._texts += count
        if self._texts > FEW_TEXTS or self._by_blocks:
            return self._text_tower
        return self._first_text_tower

    @cached_property
    def _text_tower(self) -> CompiledTower:
        return self._model.tower(TowerName.TEXT)

    @cached_property
    def _first_text_tower(self) -> CompiledTower:
        """Ready at once, for a query that is alone."""
        return self._model.tower(TowerName.TEXT, packed=False)

    @cached_property
    def _image_tower(self) -> CompiledTower:
        return self._model.tower(TowerName.IMAGE)

    @cached_property
    def _patch_tower(self) -> CompiledTower:
        return self._model.tower(TowerName.IMAGE_PATCHES)

    @cached_property
    def _token_tower(self) -> CompiledTower:
        return self._model.tower(TowerName.TEXT_TOKENS)

    @cached_property
    def _gpu_tower(self) -> TorchTower:
        from mmsearch.encoders._torch import TorchTower  # noqa: PLC0415 - costs torch

        return TorchTower(self._model.in_torch().image_tower, self._model.image_device)
