"""Towers compiled to ONNX: the cache that keeps them, and running them without torch.

One folder a model: ``manifest.json``, ``tokenizer.json`` and the towers' files. Nothing is used
before its checksum is found right; what is damaged is compiled again. The checksum (XXH3) finds
what disks and programs do to a file by accident, not what somebody does on purpose: whoever can
write here can write the manifest as well. It is reckoned of all bytes at every start, in
milliseconds.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import xxhash
from numpy.typing import NDArray

from mmsearch.core.errors import MMSearchError
from mmsearch.core.hardware import available_cpus
from mmsearch.core.threads import parallel_map
from mmsearch.core.types import EncoderOptions, EncoderSpec, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.storage.atomic import file_sha256

if TYPE_CHECKING:
    import filelock

MANIFEST_VERSION = 6

_STAGING_PREFIX = "export-"


class TowerName(StrEnum):
    """The towers that a model may have."""

    IMAGE = "image"
    TEXT = "text"
    IMAGE_PATCHES = "image_patches"
    TEXT_TOKENS = "text_tokens"


class Precision(StrEnum):
    """What a tower computes with."""

    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class CachedFile:
    """A file of a model's folder."""

    name: str
    bytes: int
    xxh3: str


@dataclass(frozen=True)
class Tower:
    """A compiled tower.

    Attributes:
        files: The .onnx file first, then its external data if it has any.
        max_difference: In float32, the largest absolute difference from torch over the vectors of
            the samples.
        precision: What it computes with.
        cosine: The least one between its vectors and those in float32.
        optimised: Its graph is as ONNX Runtime would make it: nothing is left to do at a start.
        by_blocks: In int8 with a scale for each block: it is fast only with its weights packed,
            see `CompiledTower`, and a call may hold several texts of one length.
    """

    files: tuple[CachedFile, ...]
    max_difference: float
    precision: Precision = Precision.FLOAT32
    cosine: float = 1.0
    optimised: bool = False
    by_blocks: bool = False


@dataclass(frozen=True)
class SourceFile:
    """A local file that a model was made of, as it was then."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def from_path(cls, path: Path) -> SourceFile:
        """The file as it is now."""
        # Looked at before it is read: a change meanwhile then shows as another time.
        file_stat = path.stat()
        return cls(str(path), file_stat.st_size, file_stat.st_mtime_ns, file_sha256(path))

    def refresh(self) -> SourceFile | None:
        """The file as it is now; None if its content is another.

        A file that is gone counts as unchanged: what was compiled from it is still good.
        """
        path = Path(self.path)
        try:
            file_stat = path.stat()
            if (file_stat.st_size, file_stat.st_mtime_ns) == (self.bytes, self.mtime_ns):
                return self
            current = SourceFile.from_path(path)
        except FileNotFoundError:
            return self
        return current if current.sha256 == self.sha256 else None


@dataclass(frozen=True)
class Manifest:
    """What is known of a compiled model. ``sources`` are the local files that it was made of."""

    spec: EncoderSpec
    preparation: PixelPreprocessor
    tokenizer: TokenizerConfig
    tokenizer_file: CachedFile
    towers: Mapping[TowerName, Tower] = field(default_factory=dict)
    sources: tuple[SourceFile, ...] = ()


class ModelCache:
    """The folder of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self) -> filelock.BaseFileLock:
        """Held while the folder is written; a second process waits and then finds the work done.

        Whoever holds it may take it again.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._lock

    @cached_property
    def _lock(self) -> filelock.BaseFileLock:
        from filelock import FileLock  # noqa: PLC0415 - what is compiled is read without a lock

        return FileLock(self.folder / "lock")

    @contextmanager
    def staging_dir(self) -> Iterator[Path]:
        """A folder for what is not finished; the lock must be held."""
        for leftover in self.folder.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=self.folder) as folder:
            yield Path(folder)

    def install(self, files: Sequence[Path]) -> tuple[CachedFile, ...]:
        """Move finished files here.

        A process that still reads the old ones keeps them: they are replaced, not written over.
        """
        return tuple(
            self.describe_file(file.replace(self.folder / file.name).name) for file in files
        )

    def read(self) -> Manifest | None:
        """The manifest; None if there is none that this version can use."""
        try:
            stored = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            if stored.pop("version") != MANIFEST_VERSION:
                return None
            return Manifest(
                spec=EncoderSpec(**stored["spec"]),
                preparation=PixelPreprocessor.from_dict(stored["preparation"]),
                tokenizer=TokenizerConfig.from_dict(stored["tokenizer"]),
                tokenizer_file=CachedFile(**stored["tokenizer_file"]),
                towers={
                    TowerName(name): Tower(
                        tuple(CachedFile(**file) for file in tower["files"]),
                        tower["max_difference"],
                        Precision(tower["precision"]),
                        tower["cosine"],
                        tower["optimised"],
                        tower["by_blocks"],
                    )
                    for name, tower in stored["towers"].items()
                },
                sources=tuple(SourceFile(**source) for source in stored["sources"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, manifest: Manifest) -> None:
        """Make a manifest the one that counts."""
        stored = {"version": MANIFEST_VERSION, **asdict(manifest)}
        self._write_atomic("manifest.json", json.dumps(stored, indent=2))

    def write_tokenizer(self, tokenizer_json: str) -> CachedFile:
        """Store a tokenizer.json."""
        self._write_atomic("tokenizer.json", tokenizer_json)
        return self.describe_file("tokenizer.json")

    def describe_file(self, name: str) -> CachedFile:
        """Size and checksum of a file of the folder."""
        with (self.folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # An empty file cannot be mapped.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            return CachedFile(name, size, xxhash.xxh3_128_hexdigest(content))

    def verify(self, files: Sequence[CachedFile]) -> bool:
        """Whether files are there and are what they were."""
        with suppress(OSError):
            return all(self.describe_file(file.name) == file for file in files)
        return False

    def file_identities(self, files: Sequence[CachedFile]) -> list[tuple[int, int]]:
        """What tells a file from one that has taken its place; shorter if one is missing."""
        identities = []
        for file in files:
            with suppress(OSError):
                file_stat = (self.folder / file.name).stat()
                identities.append((file_stat.st_ino, file_stat.st_mtime_ns))
        return identities

    def _write_atomic(self, name: str, text: str) -> None:
        temporary = self.folder / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.folder / name)


def model_cache(slug: str, options: EncoderOptions) -> ModelCache:
    """The cache folder of a model."""
    return ModelCache(options.cache / "models" / slug)


class CompiledTower:
    """A tower in ONNX Runtime, on the CPU.

    In float32 all processors work on one call; in int8 each works on a call of its own.

    Args:
        path: Its graph.
        precision: See `Tower`.
        optimised: See `Tower`.
        prepacked: Copy the weights into an order that makes each call a third faster. Without, they
            stay where the file is mapped, and a start takes a tenth of the time.
    """

    def __init__(
        self,
        path: Path,
        precision: Precision = Precision.FLOAT32,
        *,
        optimised: bool = False,
        prepacked: bool = True,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if precision is Precision.INT8 else available_cpus()
        if optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not prepacked:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 3
        # Threads that spin while they wait would take the processors from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's own errors have no common class of their own.
        except Exception as error:
            raise MMSearchError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {error}",
                "Delete its folder to compile the model again.",
            ) from error
        self._input_names = [value.name for value in self._session.get_inputs()]

    def run(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        """The tower's inputs -> float32 (n, dim), unit rows."""
        outputs = self._session.run(None, dict(zip(self._input_names, inputs, strict=True)))
        return as_unit_vectors(np.asarray(outputs[0], dtype=np.float32))

    def run_many(self, batches: Sequence[Sequence[NDArray[Any]]]) -> list[Vectors]:
        """The inputs of many calls, at once -> for each, float32 (n, dim)."""
        return parallel_map(self.run, batches)
