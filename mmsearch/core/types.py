"""The vocabulary: what passes between the rooms, as frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""float32, C-order (n, dim), rows of norm 1 within 1e-3, finite."""

Ids: TypeAlias = NDArray[np.int64]
"""int64 (n,), given by the catalog, never reused."""

Pixels: TypeAlias = NDArray[np.uint8]
"""uint8 (height, width, 3), RGB, upright."""

Prepared: TypeAlias = NDArray[Any]
"""What `Encoder.prepare` makes of one item: fixed-size pixels, or token ids."""


class Kind(StrEnum):
    """What an encoder can turn into vectors."""

    IMAGE = "image"
    TEXT = "text"


# --- vectors and neighbours -------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """The neighbours of q queries.

    Attributes:
        ids: int64 (q, k), best first, padded with -1.
        scores: float32 (q, k), cosine similarity, descending, padded with -inf; equal scores
            stand in the order of their ids.
    """

    ids: Ids
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class IndexSpec:
    """Which vector index, and what it must hold.

    Attributes:
        name: The plugin's name, such as ``faiss_flat``.
        dim: Columns of a vector.
        device: ``cpu``, ``cuda`` or ``auto`` (the GPU if there is one).
    """

    name: str
    dim: int
    device: str = "auto"


@dataclass(frozen=True)
class EncoderSpec:
    """What makes two encoders the same: vectors of equal specs may be compared.

    Attributes:
        name: The model's name as a user types it, such as ``starter`` or
            ``open_clip:ViT-B-32/laion2b_s34b_b79k``.
        dim: Columns of a vector.
        weights_sha256: Digest of the weights.
        preprocessing: How a picture is resized and cropped, as plain values.
        code_version: Raised when the code computes other vectors from the same weights.
        context_length: Tokens of a text that are read, special tokens counted.
    """

    name: str
    dim: int
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    code_version: int
    context_length: int

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything but the name."""
        facts = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder plugin is told when it is built.

    Attributes:
        variant: What stands after the colon of the model's name; may be empty.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        cache: Folder for compiled towers.
        offline: Never ask a model hub.
        say: Receives one line about anything slow that happens once.
    """

    variant: str
    device: str
    cache: Path
    offline: bool = False
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class ModelInfo:
    """A model that could be used.

    Attributes:
        name: As typed after ``--model``.
        summary: One line for a person.
        dim: Columns of its vectors, if known without loading it.
        local: Its weights are on this machine.
        compiled: Its towers are compiled in the cache.
    """

    name: str
    summary: str
    dim: int | None
    local: bool
    compiled: bool


# --- pictures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text that belongs to a picture.

    Attributes:
        kind: Where it comes from: ``description``, ``caption``, ``keywords``, ...
        text: The words.
        language: BCP 47 tag, if known.
    """

    kind: str
    text: str
    language: str | None = None


@dataclass(frozen=True)
class Picture:
    """What is known of a picture besides its pixels.

    Attributes:
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        format: ``JPEG``, ``PNG``, ... as the file's own bytes say.
        taken_at: ISO 8601 local time without zone, as the camera wrote it.
        texts: Texts found in the file.
    """

    width: int
    height: int
    format: str
    taken_at: str | None = None
    texts: tuple[Text, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """A picture and its pixels.

    Attributes:
        picture: What is known of it.
        pixels: uint8 (h, w, 3), upright; may be smaller than the picture itself.
    """

    picture: Picture
    pixels: Pixels


@dataclass(frozen=True)
class Root:
    """A folder that is indexed; files are kept relative to it.

    Attributes:
        id: Given by the catalog.
        name: Unique, for people.
        path: Absolute, as the file system's bytes.
    """

    id: int
    name: str
    path: bytes


@dataclass(frozen=True)
class SeenFile:
    """A file that the walk met. ``path`` is relative to the root, as bytes."""

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class KnownFile:
    """A file as the catalog remembers it.

    Attributes:
        path: Relative to its root, as bytes.
        size: Bytes.
        mtime_ns: Modification time.
        checked_ns: When the file was read last; a younger mtime than this proves nothing if
            the two are nearly equal.
        digest: sha256 of the content.
        image_id: None if the picture could not be read.
        error: Why it could not be read.
    """

    path: bytes
    size: int
    mtime_ns: int
    checked_ns: int
    digest: bytes
    image_id: int | None
    error: str | None = None


@dataclass(frozen=True)
class EncodedPicture:
    """A picture whose vector stands in a segment."""

    id: int
    digest: bytes
    picture: Picture


# --- files of an index ------------------------------------------------------------------------


@dataclass(frozen=True)
class FileStamp:
    """A file of the index: its name inside the index folder, its size and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """An immutable file of vectors.

    Attributes:
        number: Rises with every segment; never reused.
        stamp: The file.
        rows: Vectors in it.
        dim: Columns.
    """

    number: int
    stamp: FileStamp
    rows: int
    dim: int


@dataclass(frozen=True)
class BuiltIndex:
    """A vector index built from all segments up to ``covers``.

    Attributes:
        spec_name: The plugin that reads it.
        stamp: The file.
        rows: Vectors in it.
        covers: Number of the last segment that went into it.
        settings: Build settings and measured recall, as plain values.
    """

    spec_name: str
    stamp: FileStamp
    rows: int
    covers: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """What an index is bound to for life, or until it is re-encoded."""

    encoder: EncoderSpec
    fusion: str
    vector_index: str


@dataclass(frozen=True)
class Record:
    """One picture of the catalog, with every place where its content lies.

    Attributes:
        id: The picture.
        paths: Absolute, as bytes; never empty for a picture that is alive.
        picture: What is known of it.
        mtime_ns: Modification time of the first path.
        size: Bytes of the file.
    """

    id: int
    paths: tuple[bytes, ...]
    picture: Picture
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be read: its absolute path as bytes, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True)
class Run:
    """One run of the indexer, as the catalog remembers it."""

    started_at: str
    finished_at: str | None
    outcome: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ShardCommit:
    """What becomes visible together, in one transaction.

    Attributes:
        root_id: The root that all paths below are relative to.
        segment: The file that holds the vectors of ``pictures``; None if there are none.
        pictures: New contents, in the order of the segment's rows.
        placed: Files and the digest of their content, which has a vector.
        failed: Files, the digest of their content, and why it cannot be read.
        dropped: Paths that are gone.
        checked_ns: When the files were read.
    """

    root_id: int
    checked_ns: int
    segment: Segment | None = None
    pictures: Sequence[EncodedPicture] = ()
    placed: Sequence[tuple[SeenFile, bytes]] = ()
    failed: Sequence[tuple[SeenFile, bytes, str]] = ()
    dropped: Sequence[bytes] = ()


# --- work -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskFailure:
    """A task that its worker could not finish.

    Attributes:
        reason: One clause for a person.
        crashed: The worker process died or hung, rather than refusing the item.
    """

    reason: str
    crashed: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        phase: ``scan``, ``encode`` or ``build``.
        done: Files settled so far.
        total: Files to settle; None while it is unknown.
        encoded: Pictures encoded so far in this run.
    """

    phase: str
    done: int
    total: int | None
    encoded: int = 0


@dataclass(frozen=True)
class IndexRequest:
    """What one run of the indexer shall do.

    Attributes:
        folder: Absolute path of the folder, as bytes.
        include: Globs on the relative path; empty means every picture format.
        exclude: Globs on the relative path.
        follow_symlinks: Enter linked folders (each real folder once).
        hidden: Enter hidden folders and take hidden files.
        retry_failed: Try again what failed, though it has not changed.
        allow_empty: Accept that a folder that had pictures has none now.
    """

    folder: bytes
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    hidden: bool = False
    retry_failed: bool = False
    allow_empty: bool = False


@dataclass(frozen=True)
class IndexReport:
    """What one run of the indexer did; counts are files.

    Attributes:
        added: New content, encoded.
        changed: Known path with new content, encoded.
        unchanged: Not read, or read and found the same.
        moved: Known content at a new path, its old path gone; not decoded.
        copied: Known content at one more path; not decoded.
        gone: Paths that no longer exist.
        failed: Files that could not be read in this run.
        still_failed: Files that failed before and have not changed.
        unreadable_folders: Folders that could not be listed; nothing below them was dropped.
        seconds: Wall time.
        encoded: Pictures that were decoded and encoded.
    """

    added: int
    changed: int
    unchanged: int
    moved: int
    copied: int
    gone: int
    failed: tuple[FailedFile, ...]
    still_failed: int
    unreadable_folders: tuple[FailedFile, ...]
    seconds: float
    encoded: int


# --- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hit:
    """One picture of an answer.

    Attributes:
        id: The picture in its index.
        rank: From 1.
        score: Cosine similarity in [-1, 1], higher is better.
        path: Absolute. Undecodable bytes are kept as surrogates (`os.fsencode` undoes it).
        width: Pixels, upright.
        height: Pixels, upright.
        format: ``JPEG``, ``PNG``, ...
        taken_at: ISO 8601 local time, if the file says.
        modified_at: Seconds since the epoch.
        size_bytes: Of the file.
        texts: Texts of the picture.
        copies: Other places with the same content.
    """

    id: int
    rank: int
    score: float
    path: Path
    width: int
    height: int
    format: str
    taken_at: str | None
    modified_at: float
    size_bytes: int
    texts: tuple[Text, ...]
    copies: tuple[Path, ...]


@dataclass(frozen=True)
class SearchResult:
    """A whole answer.

    Attributes:
        query: The text, or the picture's path.
        hits: Best first.
        generation: The state of the index that was searched.
        pictures: How many pictures that state holds.
        encoder: Name of the encoder.
        timings_s: Seconds by step.
        dropped_tokens: Tokens of the query beyond what the text tower reads.
        devices: Where each part ran, such as ``{"text": "onnxruntime on cpu"}``.
    """

    query: str
    hits: Sequence[Hit]
    generation: int
    pictures: int
    encoder: str
    timings_s: Mapping[str, float]
    dropped_tokens: int
    devices: Mapping[str, str]


def display_path(path: bytes | str | Path) -> str:
    """A path as one printable line: control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path)
    return "".join(
        char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogateescape").decode()
        if not "\udc80" <= char <= "\udcff"
        else f"\\x{ord(char) - 0xDC00:02x}"
        for char in text
    )
