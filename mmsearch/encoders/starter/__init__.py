"""The built-in model. Its weights are installed as Python packages, so it needs no model hub.

It combines a frozen image classifier, a frozen sentence encoder and a small learned alignment; see
`mmsearch.encoders.starter.heads` and ``scripts/build_starter``.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from mmsearch.core.errors import ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderOptions, EncoderSpec, ModelInfo
from mmsearch.encoders._onnx.cache import ModelCache, model_cache
from mmsearch.encoders._onnx.model import LoadedModel, ModelSource
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.encoders.starter.alignment import ALIGNMENT_FILE, load_alignment
from mmsearch.encoders.starter.calibration import SPACE_VERSION, load_calibration
from mmsearch.storage.atomic import file_sha256

if TYPE_CHECKING:
    from mmsearch.core.protocols import Encoder

CODE_VERSION: Final = 1
"""Version of this code; increased when a change alters the vectors of unchanged weights."""

END_TOKEN_ID: Final = 102
"""Id of BERT's [SEP] token, which ends a text."""

PROMPTS: Final = ("{}",)
"""Prompt templates; other prompts do not improve the results, see benchmarks/RESULTS.md."""


def build(options: EncoderOptions) -> Encoder:
    """Return the starter encoder.

    Raises:
        UnknownNameError: A variant is given; the model has none.
        ModelUnavailableError: A package with its weights is missing.
    """
    if options.variant:
        raise UnknownNameError(f"The starter model has no variant {options.variant!r}.")
    model_source = ModelSource(
        "starter",
        _slug(),
        (),
        CODE_VERSION,
        _load_model,
        prompts=PROMPTS,
        calibration=load_calibration(SPACE_VERSION),
        languages=("en",),
    )
    return TwoTowerEncoder(model_source, options)


def models(options: EncoderOptions) -> list[ModelInfo]:
    """Return the only model of this plugin."""
    manifest = model_cache(_slug(), options).read()
    return [
        ModelInfo(
            name="starter",
            summary="built in, small and fast; knows everyday objects, not scenes or relations",
            dim=manifest.spec.dim if manifest else None,
            local=True,
            compiled=manifest is not None,
        )
    ]


def compiled_cache(options: EncoderOptions) -> ModelCache:
    """Return the cache of the compiled towers."""
    return model_cache(_slug(), options)


def _slug() -> str:
    if not ALIGNMENT_FILE.exists():
        raise ModelUnavailableError(
            f"The starter model's alignment is missing: {ALIGNMENT_FILE}.",
            "Run scripts/build_starter.",
        )
    return f"starter-{file_sha256(ALIGNMENT_FILE)[:12]}-{CODE_VERSION}"


def _load_model() -> LoadedModel:
    from mmsearch.encoders.starter import heads  # noqa: PLC0415 - imports torch

    preprocessor = PixelPreprocessor(size_px=heads.IMAGE_EDGE_PX, resize_mode="squash")
    facts = TokenizerConfig(
        context_length=heads.MAX_TOKENS,
        clean="whitespace",
        pad_id=heads.PAD_TOKEN_ID,
        end_id=END_TOKEN_ID,
        pads_to_longest=True,
        takes_mask=True,
    )
    digests = heads.IMAGE_SHA256 + heads.TEXT_SHA256 + file_sha256(ALIGNMENT_FILE)
    spec = EncoderSpec(
        name="starter",
        dim=load_alignment().dim,
        weights_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        preprocessing=asdict(preprocessor),
        code_version=CODE_VERSION,
        context_length=facts.context_length,
    )
    tokenizer_json = heads.tokenizer_path().read_text(encoding="utf-8")
    return LoadedModel(
        spec, preprocessor, facts, tokenizer_json, heads.ImageTower(), heads.TextTower()
    )
