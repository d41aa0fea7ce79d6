"""Protocols of plugins, stores and locks. The tests in tests/contract/ check their behavior."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.query import HybridCandidates
from mmsearch.core.records import (
    FailedFile,
    FileRef,
    ScannedFolder,
)
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import (
    WHOLE,
    Calibration,
    DecodedImage,
    EncoderOptions,
    EncoderSpec,
    FusionSpec,
    Ids,
    IndexSpec,
    InputKind,
    ItemLocator,
    ModelInfo,
    ModelInput,
    Pixels,
    Ranking,
    Text,
    TextItem,
    TextVectors,
    TrainingData,
    Vectors,
)

if TYPE_CHECKING:
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.reports import CaptionsReport

Task = TypeVar("Task")
Result = TypeVar("Result")


class ImagePreprocessor(Protocol):
    """CPU preprocessing of an image encoder: picklable, free of torch, run in decode workers."""

    @property
    def edge_px(self) -> int:
        """Minimum short side in pixels to which a decoder may reduce a picture."""

    def __call__(self, pixels: Pixels) -> ModelInput:
        """Convert uint8 (h, w, 3) pixels to the input of `Encoder.encode` for one picture."""


class Encoder(Protocol):
    """Encoder of pictures and texts as unit vectors in a shared space; not thread-safe.

    It may also have ``languages``, a tuple of the codes of the languages that it reads, such as
    ``("en",)``. Without them it is taken to read every language. And it may have
    ``prepare_query``, which takes the place of `prepare` for the text of a query.
    """

    @property
    def spec(self) -> EncoderSpec: ...

    @property
    def image_preprocessor(self) -> ImagePreprocessor: ...

    @property
    def batch_preprocessor(self) -> ImagePreprocessor:
        """Faster preprocessor for many pictures: slow to load, same output except for rounding."""

    @property
    def batch_size(self) -> int:
        """Recommended number of pictures per call of `encode`."""

    def prepare(self, kind: InputKind, payload: Pixels | str) -> ModelInput:
        """Convert one picture (uint8 (h, w, 3)) or one text to an array; truncate long texts."""

    def dropped_tokens(self, text: str) -> int:
        """Return the number of tokens of ``text`` beyond the context length."""

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Encode prepared items as (n, dim) vectors, in order.

        n = 0 is allowed. The vector of an item does not depend on the rest of the batch.
        """

    def token_vectors(self, kind: InputKind, batch: Sequence[ModelInput]) -> list[Vectors]:
        """Return (p, dim) vectors of the patches or tokens of each prepared item.

        Raises:
            UsageError: The model has no such vectors in the space of its output.
        """

    @property
    def prompts(self) -> Sequence[str]:
        """Prompt templates, each with one ``{}``, whose vectors are averaged for a query."""

    @property
    def calibration(self) -> Calibration:
        """Coefficients that map similarities to a probability."""

    def device(self, kind: InputKind) -> str:
        """Return the runtime and device for ``kind``, for display: ``onnxruntime on cpu``."""

    def release(self, kind: InputKind) -> None:
        """Free the memory used to encode ``kind``; the next call loads the model again."""


class DerivedEncoder(Encoder, Protocol):
    """Encoder whose vectors follow from those of its base, an encoder of its own."""

    @property
    def base_spec(self) -> EncoderSpec: ...

    def derive(self, kind: InputKind, vectors: Vectors) -> Vectors:
        """Return the (n, dim) vectors of items from their (n, base dim) vectors of the base.

        They equal those of `encode`, except for rounding.

        Raises:
            VectorError: A vector has no counterpart.
        """


class EncoderPlugin(Protocol):
    """Interface of a module in encoders/."""

    def build(self, options: EncoderOptions) -> Encoder:
        """Build the encoder; ModelUnavailableError or UnknownNameError if it is not available."""

    def models(self, options: EncoderOptions) -> list[ModelInfo]:
        """Return the models that the plugin can build, best known first."""


class Fusion(Protocol):
    """Fusion of a picture's image and text vectors into one vector; a pure function.

    A picture without texts scores the same as its image vector. The order of texts does not matter.
    The result is always finite and has norm 1.
    """

    @property
    def spec(self) -> FusionSpec: ...

    @property
    def cross_attend(self) -> Callable[[Vectors, Vectors], Vectors] | None:
        """Function from (p, dim) patches of a picture and (t, dim) tokens of its texts to (1, dim).

        The vector is stored as a text of the kind `CROSS_ATTENTION`. None if the fusion needs none.
        """

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Fuse (n, dim) image vectors with the text vectors of each into (n, fused dim)."""

    def fuse_query(self, queries: Vectors) -> Vectors:
        """Map (q, dim) query vectors to (q, fused dim)."""


class FusionPlugin(Protocol):
    """Interface of a module in fusions/."""

    def build(self, spec: FusionSpec) -> Fusion:
        """Build the fusion; UsageError for a weight out of range."""


class VectorIndex(Protocol):
    """Index for nearest neighbour search; read-only once built."""

    @property
    def spec(self) -> IndexSpec: ...

    @property
    def ids(self) -> Ids:
        """Ids of the indexed vectors, ascending."""

    @property
    def score_tolerance(self) -> float:
        """Maximum difference of a score from the true cosine, due to the storage precision."""

    @property
    def device(self) -> str:
        """Device that runs the search: ``cpu`` or ``cuda``."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """Statistics as plain values: ``recall`` (1.0 if exact, else measured) and tuning results.

        An approximate index adds ``recall_low`` and ``recall_high``, a 95% interval.
        """

    def search(
        self, queries: Vectors, k: int, allowed: Ids | None = None, spare: int = 0
    ) -> Ranking:
        """Return the k nearest of ``allowed`` (default: all) for each of (q, dim) queries.

        The result for k is a prefix of the result for any larger k; in an approximate index, for
        any larger k up to 100. The scores of an approximate index are exact too: if it misses a
        true neighbour, the next one takes its place.

        Args:
            queries: (q, dim), unit vectors.
            k: Number of results for each query; short ones are padded with the id -1.
            allowed: Ids that may be returned; None for all.
            spare: Number of further results to return, for a caller that drops some. An approximate
                index searches as thoroughly as for k.

        Raises:
            DimensionError: The queries have another dimension.
            IndexLimitError: k is larger than the index supports.
        """

    def vectors(self, ids: Ids) -> Vectors:
        """Return the stored vectors of ids of the index, float32 (n, dim), in their order."""


class VectorStore(Protocol):
    """Stored vectors of one generation of an index, one for each searchable item with pixels.

    It is opened for a snapshot, and used while that is open.
    """

    @property
    def size(self) -> int:
        """Number of searchable items with pixels that it holds."""

    @property
    def complete(self) -> bool:
        """False if it lacks searchable items of the snapshot, which no search can find then."""

    @property
    def device(self) -> str:
        """Device that runs the search, for display: ``cpu`` or ``cuda``."""

    def search(
        self,
        queries: Vectors,
        k: int,
        filters: FilterTree | None = None,
        excluded: Ids | None = None,
    ) -> Ranking:
        """Return the k nearest searchable items for each of (q, dim) queries.

        The result for k is a prefix of the result for any larger k; in an approximate store, for
        any larger k up to 100. Equal scores are ordered by id. The items that pass the filters are
        exactly those of `Snapshot.filter_ids` with pixels, however few or many they are.

        Args:
            queries: (q, dim), unit vectors.
            k: Number of results for each query; short ones are padded with the id -1.
            filters: Filters that items must pass; None for all items.
            excluded: Ids of items that must not be returned.

        Raises:
            InvalidQueryError: A filter has an invalid value.
        """

    def scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of (q, dim) queries and n items, float32 (q, n).

        They are those that `search` returns. The store must hold each id.
        """

    def sample(self, count: int) -> Vectors:
        """Return about ``count`` vectors of different contents, float32 (n, dim).

        They are spread evenly over the searchable items: all of them if there are fewer.
        """


class Lock(Protocol):
    """Exclusive right of one process to write an index; not thread-safe.

    It ends with the process that holds it, even if that is killed.
    """

    @property
    def holder(self) -> str | None:
        """Description of who holds the lock, for messages; None if that is not known."""

    def acquire(self, timeout_s: float = 0.0) -> None:
        """Take the lock.

        Args:
            timeout_s: Maximum seconds to wait for another holder.

        Raises:
            IndexLockedError: Another process or another `Lock` holds it; the message says who.
            UsageError: ``timeout_s`` is not a number.
        """

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""


class StoreFile(Protocol):
    """A file that is being written to a `Store`.

    Attributes:
        path: Path of the bytes on this machine, where they can be read after `flush`.
    """

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Number of bytes written so far."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""

    def flush(self) -> None:
        """Flush buffers so that all written bytes can be read at `path`."""

    def file_ref(self) -> FileRef:
        """Return the reference (name, size, sha256) of the content written so far."""


class Store(Protocol):
    """Immutable files by name, such as ``segments/000001-8c1f03a97d5e2b46.vectors``.

    A name has parts separated by slashes, and is used once. Several threads and processes may use a
    store at the same time. Methods raise `OSError` or `MMSearchError` if the store cannot be used.
    """

    @property
    def temporary_folder(self) -> Path:
        """Folder on this machine with room for what a writer keeps until a file is complete."""

    def put(self, name: str) -> AbstractContextManager[StoreFile]:
        """Write a file, which is complete or absent for all readers at any time.

        It appears when the context ends, durably; after an error it does not appear. Its bytes are
        never all in memory.
        """

    def get(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            DamagedFileError: There is no such file.
        """

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of each complete file, by name."""

    def remove(self, name: str) -> None:
        """Remove a file; do nothing if there is no such file."""


class RankFusion(Protocol):
    """Fusion of a visual and a text ranking into one; a pure function."""

    name: str

    def fuse(self, candidates: HybridCandidates) -> NDArray[np.float64]:
        """Return the score of each candidate, float64 (c,); higher is better.

        The score is monotonic: if only one kind of score of a candidate is higher, its fused score
        is not lower. If no text matches, the order is that of the visual scores.
        """


class VectorIndexPlugin(Protocol):
    """Interface of a module in vector_indexes/."""

    SUFFIX: str
    """Suffix of its files."""

    def uses_gpu(self, device: str) -> bool:
        """Return True if an index of this kind runs on a GPU; see `IndexSpec.device`."""

    def build(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        training: TrainingData | None = None,
    ) -> VectorIndex:
        """Build an index in memory from blocks of unique ids, in any order, and their vectors."""

    def write(
        self,
        spec: IndexSpec,
        blocks: Iterable[tuple[Ids, Vectors]],
        path: Path,
        training: TrainingData | None = None,
    ) -> FileRef:
        """Build an index durably in a file; memory use is independent of the number of vectors.

        Without ``training``, an approximate index is exact.
        """

    def load(self, spec: IndexSpec, path: Path, file_ref: FileRef) -> VectorIndex:
        """Load a file that `write` wrote; DamagedFileError if it is not valid."""


class Modality(Protocol):
    """Reader of one kind of file as pictures; picklable, run in decode workers."""

    @property
    def kind(self) -> str:
        """Kind of its contents: ``image`` (one still picture), or such as ``video``."""

    @property
    def max_items(self) -> int:
        """Maximum number of items of one file: 1 for still pictures."""

    @property
    def missing_extra(self) -> str | None:
        """Name of the extra that is not installed and without which no file can be read."""

    def can_read(self, path: bytes) -> bool:
        """Return True if this modality reads files of that name."""

    def recognizes(self, head: bytes) -> bool:
        """Return True if this modality reads files that begin like that.

        Args:
            head: The first bytes of the file: `mmsearch.core.files.HEAD_BYTES`, or all of them.
        """

    def items(
        self, path: bytes, edge_px: int, first_part: int = 0, known: ItemLocator = WHOLE
    ) -> Iterator[DecodedImage | TextItem]:
        """Yield the items of a file in order, each with its part; the same ones for each call.

        Either all of them are pictures, or all are texts.
        The short side has ``edge_px`` at least if the picture does. A caller may stop early and
        continue later with the next part, so an item must not need those before it.

        Args:
            path: Absolute path of the file.
            edge_px: Minimum short side in pixels.
            first_part: Part of the first item.
            known: An item at or before that part, as located earlier; where finding the parts takes
                long, as in a film, reading goes on there.

        Raises:
            DecodeError: The file cannot be read; the message is the reason.
        """

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return a small image file (``JPEG``, ``WEBP``) with a long side of at most ``edge_px``.

        Args:
            path: Absolute path of the file.
            edge_px: Longest side in pixels.
            file_format: Format of the result.
            locator: The item, as `items` has located it.

        Raises:
            DecodeError: The file cannot be read, or has no such item.
        """


class Walk(Protocol):
    """Iterable of a folder and all folders below it, each with its files, in walk order."""

    @property
    def unreadable(self) -> Sequence[FailedFile]:
        """Folders that could not be listed; complete once the iteration has ended."""

    def __iter__(self) -> Iterator[ScannedFolder]: ...


class CaptionTable(Protocol):
    """Captions of a table, which are matched with the files of one run."""

    @property
    def path(self) -> bytes:
        """Absolute path, which identifies the table: it replaces an earlier version at its path."""

    @property
    def captions(self) -> Mapping[bytes, Sequence[Text]]:
        """Captions by path relative to the indexed folder; complete after `match`."""

    @property
    def report(self) -> CaptionsReport | None:
        """Number of rows by outcome; None before `match`."""

    def match(self, list_paths: Callable[[], Iterable[bytes]]) -> None:
        """Find the pictures of all rows; called once.

        Args:
            list_paths: Lists the paths of the run's files, relative to the folder, on each call.
        """


class Executor(Protocol):
    """Runner of tasks, for example in worker processes."""

    def run(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | TaskFailure]]:
        """Apply a worker to every task; yield each task once, with its result, in any order.

        ``make_worker`` is called once per process, for example to load a model; it is pickled to
        reach another process. A task may run twice if its worker seems to have died, so its effect
        must be that of one run. Tasks are drawn only as far ahead as needed. Closing the iterator
        cancels tasks that have not started.

        A method ``make_worker.time_limit_s(task)`` may return the seconds after which a worker on
        another host counts as hanging.
        """

    def close(self) -> None:
        """Free processes and threads."""
