"""Types of vectors, encoders, texts and pictures."""

from __future__ import annotations

import hashlib
import json

# A command that a running server answers does not import NumPy.
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmsearch.core.boxes import LineBox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Vectors: TypeAlias = "NDArray[np.float32]"
"""Unit vectors: float32 (n, dim), C-order, finite, rows of norm 1 within 1e-3."""

Ids: TypeAlias = "NDArray[np.int64]"
"""Picture ids: int64 (n,), assigned by the catalog, never reused."""

Pixels: TypeAlias = "NDArray[np.uint8]"
"""RGB pixels: uint8 (height, width, 3), upright."""

ModelInput: TypeAlias = "NDArray[Any]"
"""Result of `Encoder.prepare` for one item: fixed-size pixels, or token ids."""


class InputKind(StrEnum):
    """Kinds of input that an encoder accepts."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True)
class Ranking:
    """The nearest neighbours of q queries.

    Attributes:
        ids: int64 (q, k), best first, padded with -1.
        scores: float32 (q, k), cosine similarity, descending, padded with -inf; equal scores are
            ordered by id.
    """

    ids: Ids
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class IndexSpec:
    """Specification of a vector index.

    Attributes:
        name: Name of the plugin, such as ``faiss_flat``.
        dim: Dimension of the vectors.
        device: ``cpu``, ``cuda`` or ``auto`` (the GPU if there is one).
    """

    name: str
    dim: int
    device: str = "auto"


EXACT_STATS: Mapping[str, Any] = MappingProxyType({"recall": 1.0})
"""Statistics of an exact vector index; see `VectorIndex.stats`."""

DEFAULT_RECALL = 0.95
"""Default target recall of approximate search."""


@dataclass(frozen=True)
class SearchGoals:
    """Targets for searches, which determine the vector index that is built.

    Attributes:
        recall: Target recall of approximate search: share of the true ten nearest neighbours.
        memory_mb: Maximum megabytes that searches keep in memory; None: no limit but the machine's.
        latency_ms: Exact search is preferred if it takes at most this long; None: the size of the
            collection decides.
    """

    recall: float = DEFAULT_RECALL
    memory_mb: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class TrainingData:
    """Training queries and targets of an approximate vector index.

    Attributes:
        queries: (q, dim), typical queries: vectors of texts, not of pictures.
        recall: Target recall: share of the true ten nearest neighbours that a search finds.
        memory_bytes: Maximum bytes that searches keep in memory, except rows read from disk; None:
            no limit.
        check_cancelled: Called between steps that take seconds; may raise to stop the training.
    """

    queries: Vectors
    recall: float = DEFAULT_RECALL
    memory_bytes: int | None = None
    check_cancelled: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class ScoreMap:
    """Coefficients of the logistic function from a similarity to a probability.

    Both features compare a similarity with those of the same query to a background of pictures; see
    `mmsearch.search.confidence`.

    Attributes:
        bias: Bias of the logit.
        deviations: Weight per standard deviation above the mean of the background; usable for an
            encoder without fitted coefficients.
        margin: Weight per unit of cosine similarity above the mean of the background.
    """

    bias: float = -4.0
    deviations: float = 1.0
    margin: float = 0.0


@dataclass(frozen=True, eq=False)
class Background:
    """Statistics of the image vectors of many pictures, most of which match no query.

    The similarities of pictures to a unit query q are taken to have the mean q . mean and the
    variance |factors q|^2 + residual^2, whatever pictures a library has.

    Attributes:
        mean: float32 (dim,), mean of the vectors.
        factors: float32 (rank, dim), the largest principal axes, each scaled by the standard
            deviation along it.
        residual: Standard deviation of similarities that the factors do not explain: pictures of a
            library differ in more ways than those that were measured.
    """

    mean: NDArray[np.float32]
    factors: NDArray[np.float32]
    residual: float = 0.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Parameters that map the similarities of an encoder to probabilities.

    See `mmsearch.search.confidence`.

    Attributes:
        texts: Map of the similarity between a text and a picture.
        pictures: Map of the similarity between two pictures; None if it is not known.
        background: The background that similarities are compared with; None for a sample of the
            library.
        measured: True if the maps were fitted for this encoder.
        nothing: If the best hit of a query is less probable than this, the library has no match.
    """

    texts: ScoreMap = ScoreMap()
    pictures: ScoreMap | None = None
    background: Background | None = None
    measured: bool = False
    nothing: float = 0.0


@dataclass(frozen=True)
class FusionSpec:
    """Specification of a fusion and its text weights.

    Attributes:
        name: Name of the plugin, such as ``weighted``.
        text_weight: Weight of a picture's texts relative to its pixels, 0..1.
        kind_weights: Weight of each kind of text among the texts; 1 for kinds not listed.
    """

    name: str = "image"
    text_weight: float = 0.3
    kind_weights: Mapping[str, float] = field(default_factory=dict)


SUPERSEDED: Final = frozenset({"989bda9e869b8d03"})
"""Fingerprints of earlier versions of models, which only search and extend older indexes."""


@dataclass(frozen=True)
class EncoderSpec:
    """Specification of an encoder; vectors of encoders with equal specs are comparable.

    Attributes:
        name: Name of the model as a user types it, such as ``starter`` or
            ``open_clip:ViT-B-32/laion2b_s34b_b79k``.
        dim: Dimension of the vectors.
        weights_sha256: sha256 of the weights.
        preprocessing: Resizing and cropping of pictures, as plain values.
        code_version: Increased when the code computes different vectors from the same weights.
        context_length: Maximum number of tokens read from a text, including special tokens.
    """

    name: str
    dim: int
    weights_sha256: str
    preprocessing: Mapping[str, Any]
    code_version: int
    context_length: int

    @cached_property
    def fingerprint(self) -> str:
        """Digest of everything but the name, 16 hexadecimal digits."""
        content = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def is_superseded(self) -> bool:
        """True if new indexes are made with a newer version of the model."""
        return self.fingerprint in SUPERSEDED


@dataclass(frozen=True)
class EncoderOptions:
    """Options for building an encoder.

    Attributes:
        variant: Part of the model name after the colon; may be empty.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        cache: Folder for compiled towers.
        offline: Never contact a model hub.
        precision: ``auto``: int8 on the CPU for models whose vectors stay the same; or ``float32``.
        on_message: Called with a one-line message before slow one-time work.
        fingerprint: Fingerprint of the encoder of the index to be read; a plugin that has the
            previous version of a model builds the one that fits. Empty for a new index.
    """

    variant: str
    device: str
    cache: Path
    offline: bool = False
    on_message: Callable[[str], None] = lambda line: None
    precision: str = "auto"
    fingerprint: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """An available model.

    Attributes:
        name: Name as typed after ``--model``.
        summary: One-line description.
        dim: Dimension of its vectors, if known without loading it.
        local: True if its weights are on this machine.
        compiled: True if the cache has its compiled towers.
        licence: Licence of its weights, if known.
        languages: Languages that it reads, if known.
        download_bytes: Size of its download; None if unknown.
        research_only: True if its licence allows only research.
    """

    name: str
    summary: str
    dim: int | None
    local: bool
    compiled: bool
    licence: str | None = None
    languages: str | None = None
    download_bytes: int | None = None
    research_only: bool = False


class TextSource(StrEnum):
    """Sources of the texts of a picture.

    ``document`` is what is written on a page of a document, ``subtitles`` the lines of a film's own
    tracks; ``metadata`` is what a file says about itself; ``gps`` is the place of its coordinates.
    """

    SIDECAR = "sidecar"
    METADATA = "metadata"
    TABLE = "table"
    FILENAME = "filename"
    DOCUMENT = "document"
    SUBTITLES = "subtitles"
    TAGS = "tags"
    OCR = "ocr"
    SPEECH = "speech"
    CAPTIONS = "captions"
    GPS = "gps"


CONTENT_SOURCES = frozenset({TextSource.METADATA, TextSource.DOCUMENT, TextSource.SUBTITLES})
"""Sources of texts that are in the content itself; those of the others belong to a file."""

DERIVED_SOURCES = frozenset(
    {TextSource.TAGS, TextSource.OCR, TextSource.SPEECH, TextSource.CAPTIONS}
)
"""Sources of texts that a model made; each is the name of an enricher.

They are in the full-text index, and never get a vector: what a model sees in a picture is in its
vector already.
"""


MADE_SOURCES = DERIVED_SOURCES | {TextSource.GPS}
"""Sources of texts that are made from the rest of an index, and made again where they are missing.

No export contains them, and none of them gets a vector.
"""


class TimeSpan:
    """Base class of what may have a start and an end in a film or a sound, in milliseconds."""

    start_ms: int | None
    end_ms: int | None

    @property
    def start_s(self) -> float | None:
        """Start in seconds; None for what has no time."""
        return None if self.start_ms is None else self.start_ms / 1000

    @property
    def end_s(self) -> float | None:
        """End in seconds; None for what has no time."""
        return None if self.end_ms is None else self.end_ms / 1000

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a JSON object, with ``start_s`` and ``end_s``."""
        return vars(self) | {"start_s": self.start_s, "end_s": self.end_s}


@dataclass(frozen=True)
class Text(TimeSpan):
    """A text that belongs to a picture.

    Attributes:
        kind: ``title``, ``description``, ``caption``, ``filename``, ``page`` (what is written on
            it), ``author``, ``subtitle``, or one of `LIST_KINDS`, whose values are joined by "; ".
        text: The text itself.
        language: BCP 47 tag, if known.
        source: Source of the text, a `TextSource`.
        made_by: Model and version that made it, or data and coordinates; None if it was given.
        confidence: Probability that it is right, 0..1, if the model says one.
        start_ms: When it starts in its film or sound, in milliseconds; None for a text without a
            time.
        end_ms: When it ends.
        boxes: Where its lines stand in the picture, in the order of the text; empty if that is not
            known.
    """

    kind: str
    text: str
    language: str | None = None
    source: str = "metadata"
    made_by: str | None = None
    confidence: float | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    boxes: tuple[LineBox, ...] = ()


LIST_KINDS = ("keywords", "people", "place", "tag")
"""Kinds of text that hold several values: keywords, names of people and of a place, tags."""

UNENCODED_KINDS = frozenset({"people", "place", "subtitle"})
"""Kinds of text that get no vector: names and what is said say little about a picture's look."""

CROSS_ATTENTION = "attended"
"""The kind of a vector computed from a picture's patches and its texts' tokens together."""


@dataclass(frozen=True)
class TextVectors:
    """The vectors of one picture's texts.

    Attributes:
        kinds: The kind of each text.
        vectors: (m, dim).
    """

    kinds: tuple[str, ...]
    vectors: Vectors


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of a picture, apart from its pixels.

    Attributes:
        taken_at: ISO 8601 local time without zone, to the second. A date of which only the year or
            the month is known is the start of that year or month.
        taken_from: Source of `taken_at`: ``exif``, ``xmp``, ``iptc``, ``png``, ``sidecar`` (XMP
            beside the picture), ``takeout`` (Google Takeout), ``filename``, ``document`` (the day
            on which a document was made), ``video`` (the container of a film) or ``sound``.
        camera: Maker and model, as the camera wrote them.
        lens: Name of the lens.
        latitude: Degrees, north is positive.
        longitude: Degrees, east is positive.
        rating: Stars from 0 to 5; -1 is rejected.
        label: Colour label, as the program wrote it.
        texts: Texts about the picture.
    """

    taken_at: str | None = None
    taken_from: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    rating: int | None = None
    label: str | None = None
    texts: tuple[Text, ...] = ()


METADATA_GROUPS: tuple[tuple[str, ...], ...] = (
    ("taken_at", "taken_from"),
    ("camera",),
    ("lens",),
    ("latitude", "longitude"),
    ("rating",),
    ("label",),
)
"""Fields of `Metadata` that are only known together; texts are not among them."""


def merge_metadata(candidates: Iterable[Metadata]) -> dict[str, Any]:
    """Return the fields of `METADATA_GROUPS`, each group from the first candidate that knows it."""
    merged: dict[str, Any] = {name: None for group in METADATA_GROUPS for name in group}
    for candidate in candidates:
        for group in METADATA_GROUPS:
            if merged[group[0]] is None and getattr(candidate, group[0]) is not None:
                merged.update((name, getattr(candidate, name)) for name in group)
    return merged


@dataclass(frozen=True)
class Picture(Metadata):
    """Metadata of a picture with its size and format.

    Attributes:
        width: Width in pixels, after the EXIF orientation is applied.
        height: Height in pixels, after the EXIF orientation is applied.
        format: ``JPEG``, ``PNG``, ..., detected from the content of the file.
        damage: What is missing or wrong in a file that could be read only in part, as a clause.
    """

    width: int
    height: int
    format: str
    damage: str | None = field(default=None, kw_only=True)


IMAGE_KIND = "image"
"""Kind of a content that is one still picture; see `mmsearch.core.protocols.Modality.kind`."""


@dataclass(frozen=True)
class ItemLocator(TimeSpan):
    """Place of an item in its content: a moment of a film, a page of a document.

    Attributes:
        part: Number of the item in its content, from 0.
        start_ms: Start of the moment in milliseconds; None for an item without a time.
        end_ms: End of the moment in milliseconds; None for an item without a time.
        page: Number of the page, from 1; None for an item that is no page.
    """

    part: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    page: int | None = None


WHOLE = ItemLocator()
"""Locator of the only item of a still picture."""


@dataclass(frozen=True)
class DecodedImage:
    """The metadata and the pixels of an item.

    Attributes:
        picture: The metadata, with the texts of this item alone.
        pixels: uint8 (h, w, 3), upright; may be smaller than the picture itself.
        locator: Where the item is in its content.
    """

    picture: Picture
    pixels: Pixels
    locator: ItemLocator = WHOLE


@dataclass(frozen=True)
class TextItem:
    """An item without pixels, such as a sound: it has no vector, and only words find it.

    Attributes:
        picture: Its metadata and texts; its size is 0 x 0.
        locator: Where the item is in its content.
    """

    picture: Picture
    locator: ItemLocator = WHOLE


DEFAULT_SOURCES: tuple[TextSource, ...] = (
    TextSource.SIDECAR,
    TextSource.METADATA,
    TextSource.TABLE,
)
"""Default sources of texts that get a vector.

File names and the texts of pages are only in the full-text index: every picture has a name, and
most are arbitrary; a page says more than the few words that a model reads.
"""

MAX_ENCODED_TEXTS = 64
"""Maximum number of texts encoded per picture; the full-text index has all of them."""


def collected_sources(sources: Collection[TextSource]) -> frozenset[TextSource]:
    """Return the sources of the texts around a file that are stored; none if empty."""
    return frozenset({*sources, TextSource.FILENAME}) if sources else frozenset()


def full_text_sources(sources: Collection[TextSource]) -> frozenset[TextSource]:
    """Return the sources of the full-text index.

    These, file names, pages and subtitles if there are any, and always what models have made and
    the names of places.
    """
    in_content = {TextSource.DOCUMENT, TextSource.SUBTITLES}
    own = collected_sources(sources) | in_content if sources else frozenset()
    return MADE_SOURCES | own


def select_encoded_texts(
    texts: Iterable[Text], sources: Collection[TextSource]
) -> tuple[Text, ...]:
    """Return the texts of a picture that get a vector, in an order independent of the input's.

    Args:
        texts: All texts of the picture.
        sources: Sources of the texts that get a vector.
    """
    unique: dict[tuple[str, str], Text] = {}
    for text in texts:
        # The catalog cannot store lone surrogates either, so replace them in the same way.
        words = " ".join(text.text.encode("utf-8", "replace").decode().split())
        if text.source in sources and words and text.kind not in UNENCODED_KINDS:
            unique.setdefault((text.kind, words.casefold()), replace(text, text=words))
    return tuple(unique[key] for key in sorted(unique)[:MAX_ENCODED_TEXTS])


def texts_digest(texts: Iterable[Text]) -> bytes:
    """Return a 16-byte digest that changes with the encoded texts; b"" without texts."""
    pairs = [(text.kind, text.text) for text in texts]
    if not pairs:
        return b""
    return hashlib.sha256(json.dumps(pairs).encode()).digest()[:16]
