"""A model: how to come by it, and its towers, compiled to ONNX when they are first needed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.core.errors import ModelUnavailableError
from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.types import Calibration, EncoderOptions, EncoderSpec
from mmsearch.encoders._onnx.cache import (
    CompiledTower,
    Manifest,
    Precision,
    SourceFile,
    TowerName,
    model_cache,
)
from mmsearch.encoders._tokenizer import TextPreparation

if TYPE_CHECKING:
    from mmsearch.encoders._onnx.loaded import LoadedModel


@dataclass(frozen=True)
class Blueprint:
    """How to come by a model.

    Attributes:
        name: As a user types it.
        slug: Name of its folder in the cache.
        sources: The local files that it must keep matching, if any.
        code_version: Of the code that loads it; what older code compiled is not used.
        load: Loads it in torch.
        prompts: See `Encoder.prompts`.
        calibration: See `Encoder.calibration`.
    """

    name: str
    slug: str
    sources: tuple[Path, ...]
    code_version: int
    load: Callable[[], LoadedModel]
    prompts: tuple[str, ...] = ("{}",)
    calibration: Calibration = field(default_factory=Calibration)


class CompiledModel:
    """A model as its cache has it; what the cache lacks is compiled, and only that takes torch.

    At first these are the text tower and, on a CPU, the image tower.

    Args:
        blueprint: How to come by it.
        options: Of the encoder.
    """

    def __init__(self, blueprint: Blueprint, options: EncoderOptions) -> None:
        self._blueprint = blueprint
        self._options = options
        self._exact = options.precision == Precision.FLOAT32
        self._cache = model_cache(blueprint.slug, options)
        self._loaded: LoadedModel | None = None
        self._sources: tuple[SourceFile, ...] = ()
        self._fingerprint: str | None = None
        self.manifest = self._current() or self._compile(self._first_towers())
        self._fingerprint = self.manifest.spec.fingerprint

    @cached_property
    def image_device(self) -> str:
        """``cpu``, or the device on which torch encodes pictures."""
        wanted = self._options.device
        possible = has_nvidia_gpu() or sys.platform == "darwin"
        if wanted == "cpu" or (wanted == "auto" and not possible):
            return "cpu"
        from mmsearch.encoders._torch import choose_device  # noqa: PLC0415 - costs torch

        return choose_device(wanted)

    def text(self) -> TextPreparation:
        """Makes what the text tower takes."""
        if not self._cache.holds([self.manifest.tokenizer_file]):
            self.manifest = self._compile((TowerName.TEXT,))
        path = self._cache.folder / self.manifest.tokenizer_file.name
        return TextPreparation.from_file(self.manifest.tokenizer, path)

    def tower(self, name: TowerName, *, packed: bool = True) -> CompiledTower:
        """A tower, opened; see `CompiledTower`.

        Raises:
            UsageError: The model has none of that name.
        """
        known = self.manifest.towers.get(name)
        before = self._cache.places(known.files) if known else []
        if not self._has(self.manifest, name):
            self.manifest = self._compile((name,))
            before = self._cache.places(self.manifest.towers[name].files)
        tower = self.manifest.towers[name]
        compiled = CompiledTower(
            self._cache.folder / tower.files[0].name,
            tower.precision,
            optimised=tower.optimised,
            packed=packed or tower.by_blocks,
        )
        if self._cache.places(tower.files) != before:
            # Another process has compiled it anew meanwhile: graph and weights may be of two.
            return self.tower(name, packed=packed)
        return compiled

    def in_torch(self) -> LoadedModel:
        """The model itself.

        Raises:
            ModelUnavailableError: Its weights cannot be had, or are not those it was opened with.
        """
        if self._loaded is None:
            sources = tuple(
                SourceFile.of(path) for path in self._blueprint.sources if path.exists()
            )
            loaded = self._blueprint.load()
            self._check_unchanged(loaded.spec)
            if None in [source.now() for source in sources]:
                raise self._changed()
            self._loaded, self._sources = loaded, sources
        return self._loaded

    def _check_unchanged(self, spec: EncoderSpec) -> None:
        """Refuse to mix two models in one encoder: their vectors cannot be compared."""
        if self._fingerprint not in (None, spec.fingerprint):
            raise self._changed()

    def _changed(self) -> ModelUnavailableError:
        return ModelUnavailableError(
            f"The weights of {self._blueprint.name} are not those that it was opened with.",
            f"Start again; if this stays, delete {self._cache.folder} to compile it again.",
        )

    def _first_towers(self) -> tuple[TowerName, ...]:
        on_cpu = self.image_device == "cpu"
        return (TowerName.TEXT, TowerName.IMAGE) if on_cpu else (TowerName.TEXT,)

    def _current(self) -> Manifest | None:
        """The manifest, if it still belongs to the weights."""
        manifest = self._cache.read()
        if manifest is None or manifest.spec.code_version != self._blueprint.code_version:
            return None
        now = [source.now() for source in manifest.sources]
        sources = tuple(source for source in now if source is not None)
        if len(sources) < len(now):
            return None
        if sources != manifest.sources:
            # The same content under another time: kept, so that it is not read again every time.
            with self._cache.lock():
                if self._cache.read() == manifest:
                    self._cache.write(replace(manifest, sources=sources))
        return manifest

    def _compile(self, names: tuple[TowerName, ...]) -> Manifest:
        """Compile towers that the cache lacks; one process at a time."""
        with self._cache.lock():
            manifest = self._current()
            missing = [name for name in names if not self._has(manifest, name)]
            if manifest is not None and not missing:
                self._check_unchanged(manifest.spec)
                return manifest
            self._options.say(f"Compiling {self._blueprint.name} for ONNX Runtime, once ...")
            began = time.monotonic()
            model = self.in_torch()
            from mmsearch.encoders._onnx.export import compile_tower  # noqa: PLC0415 - costs torch

            if manifest is not None and manifest.spec.fingerprint != model.spec.fingerprint:
                # Compiled from other weights of that name: none of it fits these.
                manifest, missing = None, list(names)
            fresh = Manifest(
                spec=model.spec,
                preparation=model.preparation,
                tokenizer=model.tokenizer,
                tokenizer_file=self._cache.write_tokenizer(model.tokenizer_json),
                towers=dict(manifest.towers) if manifest else {},
                sources=self._sources,
            )
            for name in missing:
                tower = compile_tower(self._cache, name, model, exact=self._exact)
                fresh = replace(fresh, towers={**fresh.towers, name: tower})
            self._cache.write(fresh)
            worst = max(tower.max_difference for tower in fresh.towers.values())
            self._options.say(
                f"Compiled in {time.monotonic() - began:.0f} s; "
                f"the vectors differ from torch's by at most {worst:.1e}.{_in_int8(fresh)}"
            )
            if self.image_device == "cpu":
                self._loaded = None
            return fresh

    def _has(self, manifest: Manifest | None, name: TowerName) -> bool:
        if manifest is None or name not in manifest.towers:
            return False
        if self._exact and manifest.towers[name].precision is not Precision.FLOAT32:
            return False
        files = [manifest.tokenizer_file, *manifest.towers[name].files]
        return self._cache.holds(files)


def _in_int8(manifest: Manifest) -> str:
    smaller = [
        f"{name} (cosine to float32 at least {tower.cosine:.4f})"
        for name, tower in manifest.towers.items()
        if tower.precision is Precision.INT8
    ]
    return f" In int8: {', '.join(smaller)}." if smaller else ""
