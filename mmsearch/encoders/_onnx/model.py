"""Models: where they come from, and their towers, compiled to ONNX on first use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmsearch.core.errors import ModelUnavailableError
from mmsearch.core.types import Calibration, EncoderOptions, EncoderSpec
from mmsearch.encoders._onnx.cache import (
    CompiledTower,
    Manifest,
    Precision,
    SourceFile,
    TowerName,
    model_cache,
)
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TextTokenizer, TokenizerConfig


@dataclass(frozen=True)
class LoadedModel:
    """A model loaded in torch, for compilation or for a GPU.

    A tower whose patches or tokens are in the embedding space also has a method ``parts``: it takes
    the same input and returns float32 (n * p, dim) with unit rows, for p patches or tokens of each
    item.

    Attributes:
        spec: Description of the encoder: name, dimension and digest of the weights.
        preparation: Preprocessor of its pictures.
        tokenizer: Configuration of its tokenizer.
        tokenizer_json: Definition of the tokenizer for the `tokenizers` library.
        image_tower: Module that maps uint8 (n, s, s, 3) to float32 (n, dim) with unit rows.
        text_tower: Module that maps int64 (n, t) token ids, and a mask if the tokenizer's
            ``takes_mask`` is set, to float32 (n, dim) with unit rows.
    """

    spec: EncoderSpec
    preparation: PixelPreprocessor
    tokenizer: TokenizerConfig
    tokenizer_json: str
    image_tower: Any
    text_tower: Any


@dataclass(frozen=True)
class ModelSource:
    """The identity of a model and the function that loads it.

    Attributes:
        name: Name of the model as the user types it.
        slug: Name of its folder in the cache.
        sources: Local files that the model is built from; if one changes, the model is recompiled.
        code_version: Version of the loading code; towers compiled by another version are not used.
        load: Function that loads the model in torch.
        prompts: See `Encoder.prompts`.
        calibration: See `Encoder.calibration`.
        languages: Codes of the languages that it reads; empty if it reads many.
        has_weights: Function that returns False if the weights are not on this machine. Without
            them, pictures are encoded on the CPU.
        weights_sha256: Digest that the weights must have; towers of other weights are not used.
        reads_images: False for a model that has only a text tower.
    """

    name: str
    slug: str
    sources: tuple[Path, ...]
    code_version: int
    load: Callable[[], LoadedModel]
    prompts: tuple[str, ...] = ("{}",)
    calibration: Calibration = field(default_factory=Calibration)
    languages: tuple[str, ...] = ()
    weights_sha256: str | None = None
    has_weights: Callable[[], bool] = lambda: True
    reads_images: bool = True


class CompiledModel:
    """A model in the cache of compiled towers; missing towers are compiled, which needs torch.

    The constructor compiles the text tower and, on a CPU, the image tower if they are missing.

    Args:
        model_source: Source of the model.
        options: Options of the encoder.
    """

    def __init__(self, model_source: ModelSource, options: EncoderOptions) -> None:
        self._model_source = model_source
        self._options = options
        self._float32_only = options.precision == Precision.FLOAT32
        self._cache = model_cache(model_source.slug, options)
        self._loaded: LoadedModel | None = None
        self._sources: tuple[SourceFile, ...] = ()
        self._fingerprint: str | None = None
        self.manifest = self._read_current_manifest() or self.compile_missing(
            self._default_towers()
        )
        self._fingerprint = self.manifest.spec.fingerprint

    @cached_property
    def image_device(self) -> str:
        """Device that encodes pictures: ``cpu``, or the name of a torch device."""
        from mmsearch.core.gpu_memory import has_nvidia_gpu  # noqa: PLC0415 - texts need no GPU

        requested_device = self._options.device
        has_accelerator = has_nvidia_gpu() or sys.platform == "darwin"
        if requested_device == "cpu" or (requested_device == "auto" and not has_accelerator):
            return "cpu"
        manifest = self._cache.read()
        is_compiled = manifest is not None and TowerName.IMAGE in manifest.towers
        if requested_device == "auto" and is_compiled and not self._model_source.has_weights():
            return "cpu"
        from mmsearch.encoders._torch import choose_device  # noqa: PLC0415 - imports torch

        return choose_device(requested_device)

    def load_tokenizer(self) -> TextTokenizer:
        """Return the tokenizer of the text tower."""
        if not self._cache.verify([self.manifest.tokenizer_file]):
            self.manifest = self.compile_missing((TowerName.TEXT,))
        path = self._cache.folder / self.manifest.tokenizer_file.name
        return TextTokenizer.from_file(self.manifest.tokenizer, path)

    def open_tower(self, name: TowerName, *, prepacked: bool = True) -> CompiledTower:
        """Open a tower, compiling it first if necessary; see `CompiledTower`.

        Raises:
            UsageError: The model has no such tower.
        """
        cached_tower = self.manifest.towers.get(name)
        identities_before = self._cache.file_identities(cached_tower.files) if cached_tower else []
        if not self._is_cached(self.manifest, name):
            self.manifest = self.compile_missing((name,))
            identities_before = self._cache.file_identities(self.manifest.towers[name].files)
        tower = self.manifest.towers[name]
        compiled = CompiledTower.from_cache(self._cache.folder, tower, prepacked=prepacked)
        if self._cache.file_identities(tower.files) != identities_before:
            # Another process has recompiled the tower: graph and weights may not match.
            return self.open_tower(name, prepacked=prepacked)
        return compiled

    def load_torch_model(self) -> LoadedModel:
        """Return the model loaded in torch.

        Raises:
            ModelUnavailableError: The weights are unavailable or have changed since it was opened.
        """
        if self._loaded is None:
            sources = tuple(
                SourceFile.from_path(path) for path in self._model_source.sources if path.exists()
            )
            loaded = self._model_source.load()
            self._check_unchanged(loaded.spec)
            if None in [source.refresh() for source in sources]:
                raise self._weights_changed_error()
            self._loaded, self._sources = loaded, sources
        return self._loaded

    def _check_unchanged(self, spec: EncoderSpec) -> None:
        """Raise if the weights have changed: vectors of two models cannot be compared."""
        if self._fingerprint not in (None, spec.fingerprint):
            raise self._weights_changed_error()

    def _weights_changed_error(self) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"The weights of {self._model_source.name} have changed since it was opened.",
            f"Restart; if the error persists, delete {self._cache.folder} to compile it again.",
        )

    def _default_towers(self) -> tuple[TowerName, ...]:
        with_images = self._model_source.reads_images and self.image_device == "cpu"
        return (TowerName.TEXT, TowerName.IMAGE) if with_images else (TowerName.TEXT,)

    def _read_current_manifest(self) -> Manifest | None:
        """Return the manifest, or None if its code version or its source files do not match."""
        manifest = self._cache.read()
        if manifest is None or manifest.spec.code_version != self._model_source.code_version:
            return None
        if self._model_source.weights_sha256 not in (None, manifest.spec.weights_sha256):
            return None
        now = [source.refresh() for source in manifest.sources]
        sources = tuple(source for source in now if source is not None)
        if len(sources) < len(now):
            return None
        if sources != manifest.sources:
            # Only times have changed: they are stored, so that the files are not read every time.
            with self._cache.lock():
                if self._cache.read() == manifest:
                    self._cache.write(replace(manifest, sources=sources))
        return manifest

    def compile_missing(self, names: tuple[TowerName, ...]) -> Manifest:
        """Compile the towers that the cache lacks, in one process at a time."""
        with self._cache.lock():
            manifest = self._read_current_manifest()
            missing = [name for name in names if not self._is_cached(manifest, name)]
            if manifest is not None and not missing:
                self._check_unchanged(manifest.spec)
                return manifest
            self._options.on_message(
                f"Compiling {self._model_source.name} for ONNX Runtime (only once) ..."
            )
            started = time.monotonic()
            model = self.load_torch_model()
            from mmsearch.encoders._onnx.export import compile_tower  # noqa: PLC0415 - imports torch

            if manifest is not None and manifest.spec.fingerprint != model.spec.fingerprint:
                # The cached towers were compiled from other weights and cannot be used.
                manifest, missing = None, list(names)
            new_manifest = Manifest(
                spec=model.spec,
                preparation=model.preparation,
                tokenizer=model.tokenizer,
                tokenizer_file=self._cache.write_tokenizer(model.tokenizer_json),
                towers=dict(manifest.towers) if manifest else {},
                sources=self._sources,
            )
            for name in missing:
                tower = compile_tower(self._cache, name, model, float32_only=self._float32_only)
                new_manifest = replace(new_manifest, towers={**new_manifest.towers, name: tower})
            self._cache.write(new_manifest)
            worst = max(tower.max_difference for tower in new_manifest.towers.values())
            self._options.on_message(
                f"Compiled in {time.monotonic() - started:.0f} s; "
                f"the vectors differ from torch's by at most {worst:.1e}."
                f"{_int8_summary(new_manifest)}"
            )
            if not self._model_source.reads_images or self.image_device == "cpu":
                self._loaded = None
            return new_manifest

    def _is_cached(self, manifest: Manifest | None, name: TowerName) -> bool:
        if manifest is None or name not in manifest.towers:
            return False
        tower = manifest.towers[name]
        is_float32 = tower.precision is Precision.FLOAT32 and not (
            tower.table and tower.table.is_int8
        )
        if self._float32_only and not is_float32:
            return False
        return self._cache.verify([manifest.tokenizer_file]) and self._cache.verify_tower(tower)


def _int8_summary(manifest: Manifest) -> str:
    int8_towers = [
        f"{name} (cosine to float32 at least {tower.cosine:.4f})"
        for name, tower in manifest.towers.items()
        if tower.precision is Precision.INT8
    ]
    return f" In int8: {', '.join(int8_towers)}." if int8_towers else ""
