"""A model loaded in torch, for compilation or for a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmsearch.core.types import EncoderSpec
from mmsearch.encoders._onnx.cache import TowerName
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded in torch.

    Attributes:
        spec: Description of the encoder: name, dimension and digest of the weights.
        preparation: Preprocessor of its pictures.
        tokenizer: Configuration of its tokenizer.
        tokenizer_json: Definition of the tokenizer for the `tokenizers` library.
        image_tower: Module that maps uint8 (n, s, s, 3) to float32 (n, dim) with unit rows.
        text_tower: Module that maps int64 (n, t) token ids, and a mask if the tokenizer's
            ``takes_mask`` is set, to float32 (n, dim) with unit rows.
        patch_tower: Like the image tower, but returns float32 (n * p, dim): the p patches of each
            picture in the embedding space. None if the model does not support this.
        token_tower: Like the text tower, but returns float32 (n * t, dim): the tokens of each text
            in the embedding space. None if the model does not support this.
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
        """Return the tower with this name, or None if the model lacks it."""
        return {
            TowerName.IMAGE: self.image_tower,
            TowerName.TEXT: self.text_tower,
            TowerName.IMAGE_PATCHES: self.patch_tower,
            TowerName.TEXT_TOKENS: self.token_tower,
        }[name]
