"""Cache of towers compiled to ONNX, and their inference without torch.

Each model has one folder with ``manifest.json``, ``tokenizer.json`` and the towers' files. Files
are verified before use, and damaged ones are compiled again. The checksum (XXH3) detects accidental
damage, not tampering: anyone who can write to the folder can also write the manifest. It covers all
bytes and is computed at every start, in milliseconds. Only tables of tokens, which are large, are
verified block by block where they are read.
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
from mmsearch.core.threads import available_cpus, parallel_map
from mmsearch.core.types import EncoderOptions, EncoderSpec, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.encoders._onnx.token_table import Rows, TableInfo, TokenTable
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TokenizerConfig
from mmsearch.storage.atomic import file_sha256

if TYPE_CHECKING:
    import filelock

MANIFEST_VERSION = 6
"""Version of the manifest format; manifests of other versions are ignored."""

_STAGING_PREFIX = "export-"


class TowerName(StrEnum):
    """Names of the towers that a model may have."""

    IMAGE = "image"
    TEXT = "text"
    IMAGE_PATCHES = "image_patches"
    TEXT_TOKENS = "text_tokens"


class Precision(StrEnum):
    """Numeric precision of a tower."""

    FLOAT32 = "float32"
    INT8 = "int8"


@dataclass(frozen=True)
class CachedFile:
    """A file in a model's folder: name, size in bytes and XXH3-128 checksum."""

    name: str
    bytes: int
    xxh3: str


@dataclass(frozen=True)
class Tower:
    """A compiled tower.

    Attributes:
        files: The .onnx file, followed by its external data file and those of its table of tokens,
            if it has them.
        max_difference: Largest absolute difference between the float32 tower and torch over the
            vectors of the samples.
        precision: Numeric precision of the tower.
        cosine: Lowest cosine between its vectors and those of the float32 tower.
        optimised: True if the stored graph is already optimised by ONNX Runtime, so that a start
            can skip this step.
        by_blocks: True for int8 with one scale per block. Such a tower is fast only with prepacked
            weights, see `CompiledTower`, and one call may take several texts of equal length.
        table: Table of tokens outside the graph, if there is one.
    """

    files: tuple[CachedFile, ...]
    max_difference: float
    precision: Precision = Precision.FLOAT32
    cosine: float = 1.0
    optimised: bool = False
    by_blocks: bool = False
    table: TableInfo | None = None

    def __post_init__(self) -> None:
        names = {file.name for file in self.files}
        if self.table and not {self.table.name, self.table.checksums} <= names:
            raise ValueError("The files of a tower do not include its table.")


@dataclass(frozen=True)
class SourceFile:
    """A local file that a model was built from, with its state at that time."""

    path: str
    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def from_path(cls, path: Path) -> SourceFile:
        """Return the current state of the file."""
        # The stat comes before the read, so that a change in between shows as a different time.
        file_stat = path.stat()
        return cls(str(path), file_stat.st_size, file_stat.st_mtime_ns, file_sha256(path))

    def refresh(self) -> SourceFile | None:
        """Return the current state of the file, or None if its content has changed.

        A deleted file counts as unchanged: the towers compiled from it are still valid.
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
    """Description of a compiled model. ``sources`` are the local files that it was built from."""

    spec: EncoderSpec
    preparation: PixelPreprocessor
    tokenizer: TokenizerConfig
    tokenizer_file: CachedFile
    towers: Mapping[TowerName, Tower] = field(default_factory=dict)
    sources: tuple[SourceFile, ...] = ()


class ModelCache:
    """The cache folder of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self) -> filelock.BaseFileLock:
        """Return the lock to hold while writing to the folder.

        A second process waits for it and then finds the work done. The lock is reentrant.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._lock

    @cached_property
    def _lock(self) -> filelock.BaseFileLock:
        from filelock import FileLock  # noqa: PLC0415 - reading takes no lock

        return FileLock(self.folder / "lock")

    @contextmanager
    def staging_dir(self) -> Iterator[Path]:
        """Yield a temporary folder for unfinished files; the lock must be held."""
        for leftover in self.folder.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=self.folder) as folder:
            yield Path(folder)

    def install(self, files: Sequence[Path]) -> tuple[CachedFile, ...]:
        """Move finished files into the folder.

        Files are replaced, not overwritten, so a process that has the old ones open keeps them.
        """
        return tuple(
            self.describe_file(file.replace(self.folder / file.name).name) for file in files
        )

    def read(self) -> Manifest | None:
        """Return the manifest, or None if it is missing, unreadable or of another version."""
        try:
            stored = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            if stored.pop("version") != MANIFEST_VERSION:
                return None
            return Manifest(
                spec=EncoderSpec(**stored["spec"]),
                preparation=PixelPreprocessor(**stored["preparation"]),
                tokenizer=TokenizerConfig(**stored["tokenizer"]),
                tokenizer_file=CachedFile(**stored["tokenizer_file"]),
                towers={
                    TowerName(name): Tower(
                        tuple(CachedFile(**file) for file in tower["files"]),
                        tower["max_difference"],
                        Precision(tower["precision"]),
                        tower["cosine"],
                        tower["optimised"],
                        tower["by_blocks"],
                        TableInfo(**tower["table"]) if tower.get("table") else None,
                    )
                    for name, tower in stored["towers"].items()
                },
                sources=tuple(SourceFile(**source) for source in stored["sources"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest atomically."""
        stored = {"version": MANIFEST_VERSION, **asdict(manifest)}
        self._write_atomic("manifest.json", json.dumps(stored, indent=2))

    def write_tokenizer(self, tokenizer_json: str) -> CachedFile:
        """Write tokenizer.json atomically and return its size and checksum."""
        self._write_atomic("tokenizer.json", tokenizer_json)
        return self.describe_file("tokenizer.json")

    def describe_file(self, name: str) -> CachedFile:
        """Return the size and checksum of a file in the folder."""
        with (self.folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # An empty file cannot be memory-mapped.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            return CachedFile(name, size, xxhash.xxh3_128_hexdigest(content))

    def verify_tower(self, tower: Tower) -> bool:
        """Return True if a tower's files are complete and undamaged, except for rows of its table.

        The table is verified where it is read, see `TokenTable`.
        """
        table = tower.table
        if table is None:
            return self.verify(tower.files)
        with suppress(OSError):
            has_size = (self.folder / table.name).stat().st_size == table.bytes
            return has_size and self.verify([f for f in tower.files if f.name != table.name])
        return False

    def verify(self, files: Sequence[CachedFile]) -> bool:
        """Return True if all files exist and match their size and checksum."""
        with suppress(OSError):
            return all(self.describe_file(file.name) == file for file in files)
        return False

    def file_identities(self, files: Sequence[CachedFile]) -> list[tuple[int, int]]:
        """Return the inode and modification time of each file, to detect replaced files.

        Missing files are skipped.
        """
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
    """Return the cache of the model with this folder name."""
    return ModelCache(options.cache / "models" / slug)


class CompiledTower:
    """A tower that runs in ONNX Runtime on the CPU.

    In float32 all processors share one call; in int8 each processor runs its own call.

    Args:
        path: Path of the ONNX graph.
        precision: See `Tower`.
        optimised: See `Tower`.
        prepacked: Copy the weights into a layout that makes each call a third faster. If False,
            they are used from the memory-mapped file, and a start takes a tenth of the time.
        rows: Table of tokens outside the graph: its last input takes their vectors. `run` and
            `run_many` take token ids all the same.
    """

    def __init__(
        self,
        path: Path,
        precision: Precision = Precision.FLOAT32,
        *,
        optimised: bool = False,
        prepacked: bool = True,
        rows: Rows | None = None,
    ) -> None:
        self._rows = rows
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if precision is Precision.INT8 else available_cpus()
        if optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if not prepacked:
            options.add_session_config_entry("session.disable_prepacking", "1")
        options.log_severity_level = 3
        # Spinning threads would take CPU time from the image decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's errors have no common base class below Exception.
        except Exception as error:
            raise MMSearchError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {error}",
                "Delete the folder of this file to compile the model again.",
            ) from error
        self._input_names = [value.name for value in self._session.get_inputs()]

    @classmethod
    def from_cache(cls, folder: Path, tower: Tower, *, prepacked: bool = True) -> CompiledTower:
        """Open a tower of a model's folder.

        Raises:
            MMSearchError: ONNX Runtime cannot open the file.
            OSError: A file of its table cannot be opened.
        """
        return cls(
            folder / tower.files[0].name,
            tower.precision,
            optimised=tower.optimised,
            prepacked=prepacked or tower.by_blocks,
            rows=TokenTable(folder, tower.table).rows if tower.table else None,
        )

    def run(self, inputs: Sequence[NDArray[Any]]) -> Vectors:
        """Run the tower on one batch of inputs and return float32 (n, dim) with unit rows."""
        if self._rows is not None:
            inputs = [*inputs, self._rows(inputs[0])]
        outputs = self._session.run(None, dict(zip(self._input_names, inputs, strict=True)))
        return as_unit_vectors(np.asarray(outputs[0], dtype=np.float32))

    def run_many(self, batches: Sequence[Sequence[NDArray[Any]]]) -> list[Vectors]:
        """Run several calls in parallel and return float32 (n, dim) for each."""
        return parallel_map(self.run, batches)
