"""A model in torch, to be compiled, or for a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmsearch.core.types import EncoderSpec
from mmsearch.encoders._onnx.cache import TowerName
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig


@dataclass(frozen=True)
class LoadedModel:
    """A model in torch.

    Attributes:
        spec: What it is.
        preparation: Makes its pictures.
        tokenizer: How a text becomes its input.
        tokenizer_json: For the `tokenizers` library.
        image_tower: Module: uint8 (n, s, s, 3) -> float32 (n, dim), unit rows.
        text_tower: Module: int64 (n, t) ids, and a mask if the tokenizer says so -> the same.
        patch_tower: As the image tower, but -> float32 (n * p, dim), the p patches of each picture
            in the space of the vectors; None if the model has none.
        token_tower: As the text tower, but -> float32 (n * t, dim); None likewise.
    """

    spec: EncoderSpec
    preparation: PixelPreprocessor
    tokenizer: TokenizerConfig
    tokenizer_json: str
    image_tower: Any
    text_tower: Any
    patch_tower: Any = None
    token_tower: Any = None

    def get_tower(self, name: TowerName) -> Any:
        """The module of that name; None if there is none."""
        return {
            TowerName.IMAGE: self.image_tower,
            TowerName.TEXT: self.text_tower,
            TowerName.IMAGE_PATCHES: self.patch_tower,
            TowerName.TEXT_TOKENS: self.token_tower,
        }[name]
