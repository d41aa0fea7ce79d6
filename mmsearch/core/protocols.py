"""The seams, on one screen. Their meaning is held by tests/contract/."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.records import (
    FailedFile,
    FileRef,
    ScannedFolder,
)
from mmsearch.core.requests import TaskFailure
from mmsearch.core.text_matches import HybridCandidates
from mmsearch.core.types import (
    Calibration,
    DecodedImage,
    EncoderOptions,
    EncoderSpec,
    FusionSpec,
    Ids,
    IndexSpec,
    InputKind,
    ModelInfo,
    ModelInput,
    Pixels,
    Ranking,
    TextVectors,
    TrainingData,
    Vectors,
)

Task = TypeVar("Task")
Result = TypeVar("Result")


class ImagePreprocessor(Protocol):
    """The CPU half of an image encoder: picklable, needs no torch, runs in decode workers."""

    @property
    def edge_px(self) -> int:
        """A decoder may hand over a reduced picture whose short side is at least this."""

    def __call__(self, pixels: Pixels) -> ModelInput:
        """uint8 (h, w, 3) -> what `Encoder.encode` takes for one picture."""


class Encoder(Protocol):
    """Pictures and words -> unit vectors of one space. One caller at a time."""

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def image_preprocessor(self) -> ImagePreprocessor: ...

    @property
    def batch_preprocessor(self) -> ImagePreprocessor:
        """The same pictures but for rounding, made faster, by what takes a while to load."""

    @property
    def batch_size(self) -> int:
        """Pictures that one call of `encode` should be given."""

    def prepare(self, kind: InputKind, payload: Pixels | str) -> ModelInput:
        """One picture (uint8 (h, w, 3)) or one text -> one array; a long text is cut."""

    def dropped_tokens(self, text: str) -> int:
        """Tokens of ``text`` beyond the context length; 0 if all of it is read."""

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Prepared items -> (n, dim); order kept, n = 0 allowed, alone or in a batch the same."""

    def token_vectors(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[Vectors]:
        """Prepared items -> for each, (p, dim) vectors of its patches or of its tokens.

        Raises:
            UnsupportedError: The model has none that lie in the space of its vectors.
        """

    @property
    def prompts(self) -> Sequence[str]:
        """Phrasings whose vectors are averaged for a query, each with one ``{}``."""

    @property
    def calibration(self) -> Calibration:
        """How its similarities become a probability."""

    def device(self, kind: InputKind) -> str:
        """Where ``kind`` is encoded, for people: ``onnxruntime on cpu``, ``torch on cuda``."""

    def release(self, kind: InputKind) -> None:
        """Free the memory that encoding ``kind`` takes; the next call loads it again."""


class EncoderPlugin(Protocol):
    """What a module of encoders/ offers."""

    def build(self, options: EncoderOptions) -> Encoder:
        """The encoder; ModelUnavailableError or UnknownNameError if it cannot be had."""

    def models(self, options: EncoderOptions) -> list[ModelInfo]:
        """The models it could build, best known first."""


class Fusion(Protocol):
    """One picture's vectors -> one vector. Pure.

    A picture without text scores as its image vector does, the order of texts does not matter, and
    whatever the texts are, the result is finite and of norm 1.
    """

    @property
    def spec(self) -> FusionSpec: ...

    @property
    def needs_token_vectors(self) -> bool:
        """It reads what `cross_attend` made of a picture's patches and its texts' tokens."""

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """(n, dim) image vectors and, for each, its texts' vectors -> (n, fused dim)."""

    def fuse_query(self, queries: Vectors) -> Vectors:
        """(q, dim) query vectors -> (q, fused dim)."""

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """(p, dim) patches of a picture and (t, dim) tokens of its texts -> (1, dim).

        Only called if `needs_token_vectors`; the vector is kept as a text of kind `CROSS_ATTENTION`.
        """


class FusionPlugin(Protocol):
    """What a module of fusions/ offers."""

    def build(self, spec: FusionSpec) -> Fusion:
        """The fusion; UsageError for a weight out of range."""


class VectorIndex(Protocol):
    """Vectors -> neighbours. Built once, then read."""

    @property
    def spec(self) -> IndexSpec: ...

    @property
    def ids(self) -> Ids:
        """The ids it holds, ascending."""

    @property
    def score_tolerance(self) -> float:
        """How far a score may be from the true cosine (storage precision)."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """Plain values: ``recall``, 1.0 for exact search, else as measured, and how it was tuned.

        An approximate index says ``recall_low`` and ``recall_high``, too: a 95% interval.
        """

    def search(self, queries: Vectors, k: int, allowed: Ids | None = None) -> Ranking:
        """(q, dim) -> the k best of ``allowed`` (default: all) for each query.

        The answer for k is the beginning of the answer for any larger k; in an approximate index,
        of any larger k up to 100. Its scores are true ones all the same: a true neighbour may be
        missing, and then the next one stands in its place.

        Raises:
            DimensionError: Queries of another dim.
            IndexLimitError: k beyond what the index can serve.
        """

    def vectors(self, ids: Ids) -> Vectors:
        """float32 (n, dim): the rows of ids that it holds, as they are stored, in their order."""


class RankFusion(Protocol):
    """Two ranked lists -> one. Pure."""

    name: str

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """float64 (c,): the score of each candidate, higher is better.

        Of two candidates that differ in one kind of evidence, the one with more of it does not come
        behind; where no text matches, the order is the visual one.
        """


class VectorIndexPlugin(Protocol):
    """What a module of vector_indexes/ offers."""

    SUFFIX: str
    """Of its files."""

    def uses_gpu(self, device: str) -> bool:
        """Whether an index of this kind would be searched on a GPU; see `IndexSpec.device`."""

    def build(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        training: TrainingData | None = None,
    ) -> VectorIndex:
        """Blocks of ids (each once, in any order) and their vectors -> an index in memory."""

    def write(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        path: Path,
        training: TrainingData | None = None,
    ) -> FileRef:
        """The same, durably to a file; memory does not grow with the number of vectors.

        Without ``training`` an approximate index is exact.
        """

    def load(self, spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
        """Read what `write` wrote; DamagedFileError if it is not that."""


class Modality(Protocol):
    """A kind of file -> pictures. Picklable; runs in decode workers."""

    def can_read(self, path: bytes) -> bool:
        """Whether the name says that this modality reads the file."""

    def read(self, path: bytes, edge_px: int) -> DecodedImage:
        """Pixels (short side at least ``edge_px`` if the picture has that) and facts.

        Raises:
            DecodeError: The file cannot be read; the message is the reason.
        """

    def thumbnail(self, path: bytes, edge_px: int, file_format: str = "JPEG") -> bytes:
        """A small file (``JPEG``, ``WEBP``): its long side is at most ``edge_px``.

        Raises DecodeError.
        """


class Walk(Protocol):
    """The folders below a folder, and that itself, each with its files, as they are met."""

    @property
    def unreadable(self) -> Sequence[FailedFile]:
        """Folders that could not be listed; complete once the iteration has ended."""

    def __iter__(self) -> Iterator[ScannedFolder]: ...


class Executor(Protocol):
    """Tasks -> results, somewhere."""

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Apply a worker to every task; no task lost or doubled, any order.

        ``make_worker`` is called once a process (there a model is loaded). Tasks are drawn only
        as far ahead as needed. Closing the iterator cancels what has not begun.
        """

    def close(self) -> None:
        """Free processes and threads."""
