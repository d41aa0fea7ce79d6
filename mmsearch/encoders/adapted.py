"""Encoder plugin for adapted models: another model with a linear map of its vectors.

A model is named ``adapted:FILE``, where FILE is an adapter; see `mmsearch.encoders._adapter`. The
vectors of an index of the base model become those of the adapted one without the pictures.

The model cache keeps a copy of each adapter by the fingerprint of the adapted model, so that an
index works after the file has moved, and after another adapter has replaced it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmsearch.core import plugins
from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    EncoderMismatchError,
    Hint,
    ModelUnavailableError,
    UnknownNameError,
)
from mmsearch.core.files import expand_user
from mmsearch.core.types import (
    Calibration,
    EncoderOptions,
    EncoderSpec,
    InputKind,
    ModelInfo,
    ModelInput,
    Pixels,
    Vectors,
)
from mmsearch.encoders._adapter import Adapter, missing_error, parse_adapter, read_file
from mmsearch.encoders._onnx.cache import ModelCache, model_cache
from mmsearch.storage.atomic import atomic_write

if TYPE_CHECKING:
    from mmsearch.core.protocols import Encoder, EncoderPlugin, ImagePreprocessor

CODE_VERSION: Final = 1
"""Version of this code; increased when a change alters the vectors of an unchanged adapter."""

_COPY: Final = "adapter.safetensors"
_DESCRIPTION: Final = "adapter.json"


def build(options: EncoderOptions) -> AdaptedEncoder:
    """Return the adapted encoder of the file ``options.variant``.

    The copy in the model cache is used if it is the one that ``options.fingerprint`` names, or if
    the file is gone.

    Raises:
        UnknownNameError: No file is named.
        ModelUnavailableError: There is neither the file nor a copy, it is not an adapter, or its
            base model is not available.
        EncoderMismatchError: The adapter was made for other weights or another version of its base.
    """
    if not options.variant:
        raise UnknownNameError("'adapted:' names no adapter.", "Write adapted:FILE.safetensors.")
    path = expand_user(options.variant).absolute()
    if options.fingerprint:
        kept = _open_kept(path, _cache(options.fingerprint, options), options)
        if kept is not None and kept.spec.fingerprint == options.fingerprint:
            return kept
    if path.exists():
        content = read_file(path)
        adapter = parse_adapter(path, content)
        encoder = _open(path, adapter, options)
        _keep(encoder.spec, adapter, content, options)
        return encoder
    for cache, info in _list_kept(options):
        kept = _open_kept(path, cache, options) if info.name == f"adapted:{path}" else None
        if kept is not None:
            return kept
    raise missing_error(path)


def models(options: EncoderOptions) -> list[ModelInfo]:
    """Return the adapted models that the cache keeps, the newest first."""
    return [info for _, info in _list_kept(options)]


class AdaptedEncoder:
    """Encoder that maps the vectors of another one; see `mmsearch.core.protocols.DerivedEncoder`.

    Args:
        name: Name of the model.
        adapter: The map.
        base: Encoder of the base model.

    Attributes:
        spec: Identity of the model.
        base_spec: Identity of the base model.
        prompts: Those of the base model.
        calibration: Not measured, unless the map changes nothing.
        languages: Those of the base model.
    """

    def __init__(self, name: str, adapter: Adapter, base: Encoder) -> None:
        self._maps = adapter.maps
        self._base = base
        self.base_spec = base.spec
        self.spec = EncoderSpec(
            name=name,
            dim=adapter.dim,
            weights_sha256=adapter.sha256,
            preprocessing=base.spec.preprocessing,
            code_version=CODE_VERSION,
            context_length=base.spec.context_length,
        )
        is_identity = all(linear_map.is_identity for linear_map in adapter.maps.values())
        self.prompts = base.prompts
        self.calibration = base.calibration if is_identity else Calibration()
        self.languages: tuple[str, ...] = getattr(base, "languages", ())

    @property
    def image_preprocessor(self) -> ImagePreprocessor:
        """Preprocessor of the base model."""
        return self._base.image_preprocessor

    @property
    def batch_preprocessor(self) -> ImagePreprocessor:
        """Preprocessor of the base model for many pictures."""
        return self._base.batch_preprocessor

    @property
    def batch_size(self) -> int:
        """Recommended number of pictures per call of `encode`."""
        return self._base.batch_size

    def prepare(self, kind: InputKind, payload: Pixels | str) -> ModelInput:
        """Return the model input of one picture or text."""
        return self._base.prepare(kind, payload)

    def prepare_query(self, text: str) -> ModelInput:
        """Return the model input of a query, which the base model may read in its own way."""
        prepare = getattr(self._base, "prepare_query", None)
        model_input: ModelInput = (
            prepare(text) if prepare else self._base.prepare(InputKind.TEXT, text)
        )
        return model_input

    def dropped_tokens(self, text: str) -> int:
        """Return the number of tokens beyond the context length."""
        return self._base.dropped_tokens(text)

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Encode n prepared items as float32 (n, dim) with unit rows."""
        return self.derive(kind, self._base.encode(kind, batch))

    def derive(self, kind: InputKind, vectors: Vectors) -> Vectors:
        """Map (n, base dim) vectors of the base model to the (n, dim) vectors of this one.

        Raises:
            VectorError: A result is zero.
        """
        return self._maps[kind](vectors)

    def token_vectors(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[Vectors]:
        """Encode the patches or tokens of prepared items, float32 (p, dim) for each item.

        Raises:
            UsageError: The patches or tokens of the base model are not in its embedding space.
        """
        return [self.derive(kind, rows) for rows in self._base.token_vectors(kind, batch)]

    def device(self, kind: InputKind) -> str:
        """Return a description of the runtime and device of the base model."""
        return self._base.device(kind)

    def release(self, kind: InputKind) -> None:
        """Free the memory that the base model uses for an input kind."""
        self._base.release(kind)


def _open(path: Path, adapter: Adapter, options: EncoderOptions) -> AdaptedEncoder:
    """Return the encoder of an adapter, with its base model."""
    plugin_name, _, variant = adapter.base.partition(":")
    if plugin_name == "adapted" or not plugins.exists("encoders", plugin_name):
        raise ModelUnavailableError(
            f"The adapter {display_path(path)} names {adapter.base!r} as its base, which is not a"
            " model that can be adapted.",
            Hint("Known models: {}.", "mmsearch.list_models()", "'mmsearch models list'"),
        )
    plugin: EncoderPlugin = plugins.load("encoders", plugin_name)
    base = plugin.build(replace(options, variant=variant, fingerprint=adapter.base_fingerprint))
    if base.spec.fingerprint == adapter.base_fingerprint and base.spec.dim != adapter.base_dim:
        raise ModelUnavailableError(
            f"The adapter {display_path(path)} takes vectors of {adapter.base_dim:,} dimensions,"
            f" but those of {adapter.base!r} have {base.spec.dim:,}.",
            "Use an adapter that was made for this model.",
        )
    if base.spec.fingerprint != adapter.base_fingerprint:
        raise EncoderMismatchError(
            f"The adapter {display_path(path)} was made for other weights or another version of"
            f" {adapter.base!r}.",
            "Make it again for this model; vectors of the two cannot be compared.",
            adapter=adapter.base_fingerprint,
            encoder=base.spec.fingerprint,
        )
    return AdaptedEncoder(f"adapted:{path}", adapter, base)


def _cache(fingerprint: str, options: EncoderOptions) -> ModelCache:
    return model_cache(f"adapted-{fingerprint}", options)


def _open_kept(path: Path, cache: ModelCache, options: EncoderOptions) -> AdaptedEncoder | None:
    """Return the encoder of a kept copy; None for a missing or damaged one."""
    copy, described = cache.folder / _COPY, _read_description(cache.folder / _DESCRIPTION)
    try:
        adapter = parse_adapter(copy, read_file(copy))
    except ModelUnavailableError:
        return None
    if described is None or described | _describe(adapter) != described:
        return None
    return _open(path, adapter, options)


def _keep(spec: EncoderSpec, adapter: Adapter, content: bytes, options: EncoderOptions) -> None:
    """Keep a copy of an adapter, so that indexes work without the file."""
    cache = _cache(spec.fingerprint, options)
    described = {"name": spec.name, **_describe(adapter)}
    copy, description = cache.folder / _COPY, cache.folder / _DESCRIPTION
    # A cache that is read-only serves its models, and the file itself is here.
    with suppress(OSError):
        is_kept = copy.is_file() and copy.read_bytes() == content
        if is_kept and _read_description(description) == described:
            return
        with cache.lock():
            atomic_write(copy, content)
            atomic_write(description, json.dumps(described).encode())


def _list_kept(options: EncoderOptions) -> Iterator[tuple[ModelCache, ModelInfo]]:
    """Yield the kept copies and their models, the newest first."""
    paths = model_cache("", options).folder.glob(f"adapted-*/{_DESCRIPTION}")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        described = _read_description(path)
        if described is not None:
            yield (
                ModelCache(path.parent),
                ModelInfo(
                    str(described["name"]),
                    f"{described['base']} with a linear map of its vectors",
                    int(described["dim"]),
                    local=True,
                    compiled=True,
                ),
            )


def _describe(adapter: Adapter) -> dict[str, str | int]:
    return {
        "base": adapter.base,
        "base_fingerprint": adapter.base_fingerprint,
        "dim": adapter.dim,
        "sha256": adapter.sha256,
    }


def _read_description(path: Path) -> dict[str, str | int] | None:
    try:
        described: dict[str, str | int] = json.loads(path.read_bytes())
        return described if {"name", "base", "dim"} <= described.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
