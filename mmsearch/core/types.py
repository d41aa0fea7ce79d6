"""The vocabulary of vectors, encoders and pictures, as frozen dataclasses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
"""float32, C-order (n, dim), rows of norm 1 within 1e-3, finite."""

Ids: TypeAlias = NDArray[np.int64]
"""int64 (n,), given by the catalog, never reused."""

Pixels: TypeAlias = NDArray[np.uint8]
"""uint8 (height, width, 3), RGB, upright."""

ModelInput: TypeAlias = NDArray[Any]
"""What `Encoder.prepare` makes of one item: fixed-size pixels, or token ids."""


class InputKind(StrEnum):
    """What an encoder can turn into vectors."""

    IMAGE = "image"
    TEXT = "text"


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


EXACT_STATS: Mapping[str, Any] = MappingProxyType({"recall": 1.0})
"""What a vector index says of itself that misses nothing; see `VectorIndex.facts`."""

DEFAULT_RECALL = 0.95
"""What approximate search shall find, unless something else is asked for."""


@dataclass(frozen=True)
class SearchGoals:
    """What searches of an index shall be like; it decides which vector index is built.

    Attributes:
        recall: Share of the true ten nearest that an approximate search shall find.
        memory_mb: Megabytes that searches may keep in memory; None: as many as there are.
        latency_ms: If exact search takes no longer than this, it is preferred; None: the size of
            the collection decides.
    """

    recall: float = DEFAULT_RECALL
    memory_mb: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class TrainingData:
    """What an approximate vector index learns from, and what it must reach.

    Attributes:
        queries: (q, dim), such as will be asked: vectors of texts, not of pictures.
        recall: Share of the true ten nearest that a search shall find.
        memory_bytes: What its searches may keep in memory, rows read from disk aside; None: all.
        check_cancelled: Called between steps that take seconds; may raise to end it.
    """

    queries: Vectors
    recall: float = DEFAULT_RECALL
    memory_bytes: int | None = None
    check_cancelled: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Calibration:
    """How an encoder's similarities become a probability; see `mmsearch.search.confidence`.

    Attributes:
        bias: Of the logit.
        library: For each standard deviation that a score lies above the library's mean; what can be
            said of an encoder whose scores were never looked at.
        margin: For each unit that it lies above the library's mean.
        null: For each unit that it lies above the score of prompts that describe nothing.
        measured: Whether it was fitted for this encoder.
    """

    bias: float = -4.0
    library: float = 1.0
    margin: float = 0.0
    null: float = 0.0
    measured: bool = False


@dataclass(frozen=True)
class FusionSpec:
    """Which fusion, and how much texts count in it.

    Attributes:
        name: The plugin's name, such as ``weighted``.
        text_weight: Share of a picture's texts beside its pixels, 0..1.
        kind_weights: How much each kind of text counts among the texts; 1 for those not named.
    """

    name: str = "image"
    text_weight: float = 0.3
    kind_weights: Mapping[str, float] = field(default_factory=dict)


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

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything but the name."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EncoderOptions:
    """What an encoder plugin is told when it is built.

    Attributes:
        variant: What stands after the colon of the model's name; may be empty.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        cache: Folder for compiled towers.
        offline: Never ask a model hub.
        precision: ``auto``: int8 on the CPU where vectors stay the same; or ``float32``.
        on_message: Receives one line about anything slow that happens once.
    """

    variant: str
    device: str
    cache: Path
    offline: bool = False
    on_message: Callable[[str], None] = lambda line: None
    precision: str = "auto"


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


class TextSource(StrEnum):
    """Where the texts of a picture may be found."""

    SIDECAR = "sidecar"
    METADATA = "metadata"
    TABLE = "table"
    FILENAME = "filename"


@dataclass(frozen=True)
class Text:
    """A text that belongs to a picture.

    Attributes:
        kind: What it is: ``title``, ``description``, ``caption``, ``keywords`` (joined by "; ") or
            ``filename``.
        text: The words.
        language: BCP 47 tag, if known.
        source: Where it was found, a `TextSource`.
    """

    kind: str
    text: str
    language: str | None = None
    source: str = "metadata"


CROSS_ATTENTION = "attended"
"""The kind of a vector that is made of a picture's patches and its texts' tokens together."""


@dataclass(frozen=True)
class TextVectors:
    """The vectors of one picture's texts.

    Attributes:
        kinds: The kind of each text.
        vectors: (m, dim).
    """

    kinds: tuple[str, ...]
    vectors: Vectors


@dataclass(frozen=True)
class Picture:
    """What is known of a picture besides its pixels.

    Attributes:
        width: Pixels, after the EXIF orientation is applied.
        height: Pixels, after the EXIF orientation is applied.
        format: ``JPEG``, ``PNG``, ... as the file's own bytes say.
        taken_at: ISO 8601 local time without zone, as the camera wrote it.
        texts: Texts found in the file.
        camera: Maker and model, as the camera wrote them.
        latitude: Degrees, north is positive.
        longitude: Degrees, east is positive.
    """

    width: int
    height: int
    format: str
    taken_at: str | None = None
    texts: tuple[Text, ...] = ()
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class DecodedImage:
    """A picture and its pixels.

    Attributes:
        picture: What is known of it.
        pixels: uint8 (h, w, 3), upright; may be smaller than the picture itself.
    """

    picture: Picture
    pixels: Pixels
