"""An encoder made of two towers, whatever model they come from."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import ModelUnavailableError, UsageError
from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.protocols import ImagePreparation
from mmsearch.core.types import (
    Calibration,
    EncoderOptions,
    EncoderSpec,
    Kind,
    Pixels,
    Prepared,
    Vectors,
)
from mmsearch.encoders._compiled import (
    CompiledTower,
    Manifest,
    ModelCache,
    Precision,
    SourceFile,
    Tower,
    TowerName,
)
from mmsearch.encoders._preparation import PixelPreparation
from mmsearch.encoders._text import TextPreparation, TokenizerFacts

if TYPE_CHECKING:
    from mmsearch.encoders._torch import TorchTower

CPU_BATCH = 32

FEW_TEXTS = 24
"""So many are encoded before packing the weights of a text tower has cost less than it saves."""

_SAMPLES = (
    "a photo of a red car in front of a house",
    "windmill",
    "two dogs playing on a sunny beach, seen from far above, while a boat goes by",
)


_MORE_SAMPLES = (
    "a child eating an apple in the garden",
    "sunset over the sea",
    "black and white portrait of an old man with a hat",
    "a cat",
    "people waiting for the train at night in the rain",
    "church",
    "an aerial view of fields, with a river that winds through them towards the mountains",
    "hand-drawn map of an island, 1890",
)

LIFELIKE = 16
"""Pictures on which a tower in int8 is held to float32."""


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
    preparation: PixelPreparation
    tokenizer: TokenizerFacts
    tokenizer_json: str
    image_tower: Any
    text_tower: Any
    patch_tower: Any = None
    token_tower: Any = None

    def tower(self, name: TowerName) -> Any:
        """The module of that name; None if there is none."""
        return {
            TowerName.IMAGE: self.image_tower,
            TowerName.TEXT: self.text_tower,
            TowerName.IMAGE_PATCHES: self.patch_tower,
            TowerName.TEXT_TOKENS: self.token_tower,
        }[name]


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


class TowerEncoder:
    """See `mmsearch.core.protocols.Encoder`.

    The first use compiles the text tower, and on a CPU the image tower, and from then on neither
    needs torch. A GPU's image tower runs in torch. One caller at a time.
    """

    def __init__(self, blueprint: Blueprint, options: EncoderOptions) -> None:
        self._blueprint = blueprint
        self._options = options
        self._cache = model_cache(blueprint.slug, options)
        self._loaded: LoadedModel | None = None
        self._sources: tuple[SourceFile, ...] = ()
        self._fingerprint: str | None = None
        self._texts = 0
        self._manifest = self._current() or self._compile((TowerName.TEXT, *self._cpu_image()))
        self._fingerprint = self._manifest.spec.fingerprint
        self.spec = replace(self._manifest.spec, name=blueprint.name)
        self.image_preparation = self._manifest.preparation

    @property
    def bulk_preparation(self) -> ImagePreparation:
        """As `image_preparation`, for processes that make very many pictures."""
        if self._image_device == "cpu":
            return self.image_preparation
        from mmsearch.encoders import _preparation_torch  # noqa: PLC0415 - costs torch

        if not _preparation_torch.is_fast_here():
            return self.image_preparation
        return _preparation_torch.TorchPreparation.from_facts(self.image_preparation.facts())

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
        return CPU_BATCH if self._image_device == "cpu" else self._gpu_tower.batch_size

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
        if kind == Kind.IMAGE and self._image_device != "cpu":
            return self._gpu_tower.run(batch)
        tower = self._text_tower_for(len(batch)) if kind == Kind.TEXT else self._image_tower
        if self._precision(kind) is Precision.INT8:
            return tower.run_each([self._inputs(kind, [item]) for item in batch])
        return tower.run(self._inputs(kind, batch))

    def _inputs(self, kind: Kind, batch: Sequence[Prepared]) -> list[NDArray[Any]]:
        return list(self._text.inputs(batch)) if kind == Kind.TEXT else [np.stack(batch)]

    def _precision(self, kind: Kind) -> Precision:
        tower = self._manifest.towers.get(TowerName(kind.value))
        return Precision.FLOAT32 if tower is None else tower.precision

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
        if self._image_device != "cpu":
            return f"torch on {self._image_device}"
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
        if not self._cache.holds([self._manifest.tokenizer_file]):
            self._manifest = self._compile((TowerName.TEXT,))
        path = self._cache.folder / self._manifest.tokenizer_file.name
        return TextPreparation.from_file(self._manifest.tokenizer, path)

    def _text_tower_for(self, count: int) -> CompiledTower:
        self._texts += count
        return self._text_tower if self._texts > FEW_TEXTS else self._first_text_tower

    @cached_property
    def _text_tower(self) -> CompiledTower:
        return self._compiled(TowerName.TEXT)

    @cached_property
    def _first_text_tower(self) -> CompiledTower:
        """Ready at once, for a query that is alone."""
        return self._compiled(TowerName.TEXT, packed=False)

    @cached_property
    def _image_tower(self) -> CompiledTower:
        return self._compiled(TowerName.IMAGE)

    @cached_property
    def _patch_tower(self) -> CompiledTower:
        return self._compiled(TowerName.IMAGE_PATCHES)

    @cached_property
    def _token_tower(self) -> CompiledTower:
        return self._compiled(TowerName.TEXT_TOKENS)

    @cached_property
    def _gpu_tower(self) -> TorchTower:
        from mmsearch.encoders._torch import TorchTower  # noqa: PLC0415 - costs torch

        return TorchTower(self._model().image_tower, self._image_device)

    @cached_property
    def _image_device(self) -> str:
        wanted = self._options.device
        possible = has_nvidia_gpu() or sys.platform == "darwin"
        if wanted == "cpu" or (wanted == "auto" and not possible):
            return "cpu"
        from mmsearch.encoders._torch import choose_device  # noqa: PLC0415 - costs torch

        return choose_device(wanted)

    def _cpu_image(self) -> tuple[TowerName, ...]:
        return (TowerName.IMAGE,) if self._image_device == "cpu" else ()

    def _model(self) -> LoadedModel:
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
            f"Start again; if this stays, delete {self._cache.folder} to compile it anew.",
        )

    # --- the cache ---

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

    def _compiled(self, name: TowerName, *, packed: bool = True) -> CompiledTower:
        known = self._manifest.towers.get(name)
        before = self._cache.places(known.files) if known else []
        if not self._has(self._manifest, name):
            self._manifest = self._compile((name,))
            before = self._cache.places(self._manifest.towers[name].files)
        tower = self._manifest.towers[name]
        compiled = CompiledTower(
            self._cache.folder / tower.files[0].name,
            tower.precision,
            optimised=tower.optimised,
            packed=packed,
        )
        if self._cache.places(tower.files) != before:
            # Another process has compiled it anew meanwhile: graph and weights may be of two.
            return self._compiled(name, packed=packed)
        return compiled

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
            model = self._model()
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
                exact = self._options.precision == Precision.FLOAT32
                tower = _exported(self._cache, name, model, exact=exact)
                fresh = replace(fresh, towers={**fresh.towers, name: tower})
            self._cache.write(fresh)
            worst = max(tower.max_difference for tower in fresh.towers.values())
            self._options.say(
                f"Compiled in {time.monotonic() - began:.0f} s; "
                f"the vectors differ from torch's by at most {worst:.1e}.{_in_int8(fresh)}"
            )
            if self._image_device == "cpu":
                self._loaded = None
            return fresh

    def _has(self, manifest: Manifest | None, name: TowerName) -> bool:
        if manifest is None or name not in manifest.towers:
            return False
        exact = self._options.precision == Precision.FLOAT32
        if exact and manifest.towers[name].precision is not Precision.FLOAT32:
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


def model_cache(slug: str, options: EncoderOptions) -> ModelCache:
    """The cache folder of a model."""
    return ModelCache(options.cache / "models" / slug)


def _exported(cache: ModelCache, name: TowerName, model: LoadedModel, *, exact: bool) -> Tower:
    tower = model.tower(name)
    if tower is None:
        raise UsageError(
            f"{model.spec.name} gives no vectors of parts of pictures and words of texts.",
            "Choose another fusion than attention, or another model.",
        )
    from mmsearch.encoders._export import export_tower  # noqa: PLC0415 - costs torch
    from mmsearch.encoders._quantise import lifelike  # noqa: PLC0415 - costs onnx

    single: list[list[NDArray[Any]]] = []
    if name in (TowerName.IMAGE, TowerName.IMAGE_PATCHES):
        noise = np.random.default_rng(0)
        edge = model.preparation.size_px
        shapes = ((2, edge, edge, 3), (1, edge, edge, 3), (3, edge, edge, 3))
        pictures = [noise.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
        # Half of each picture is one colour, as no noise is.
        for batch in pictures:
            batch[:, edge // 2 :] = 200
        if name is TowerName.IMAGE and not exact:
            single = [[picture[None]] for picture in lifelike(edge, LIFELIKE)]
            single.append([pictures[1]])
        return export_tower(cache, name.value, tower, [[batch] for batch in pictures], (0,), single)
    text = TextPreparation(model.tokenizer, model.tokenizer_json)
    samples: list[list[NDArray[np.int64]]] = [
        text.inputs([text.prepare(line) for line in lines])
        for lines in (_SAMPLES, _SAMPLES[:1], _SAMPLES[1:2], (" ".join(_SAMPLES * 40),))
    ]
    axes = (0, 1) if model.tokenizer.pads_to_longest else (0,)
    if name is TowerName.TEXT and not exact:
        single = [list(text.inputs([text.prepare(line)])) for line in (*_SAMPLES, *_MORE_SAMPLES)]
    return export_tower(cache, name.value, tower, samples, axes, single)
