"""What a server answers, read from its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mmsearch.core.errors import ServerError
from mmsearch.core.queries import Band
from mmsearch.core.text_matches import MatchedText
from mmsearch.core.types import Text, Vectors

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RemotePicture:
    """A picture of an index that is served.

    Attributes:
        id: The picture in its index, for as long as neither its content nor its texts change.
        path: Where its file lies on the server, for people: bytes that are no text are escaped.
        copies: Other places with the same content, likewise.
        width: Pixels, upright.
        height: Pixels, upright.
        format: ``JPEG``, ``PNG``, ...
        taken_at: ISO 8601 local time, if the file says.
        camera: Maker and model, if the file says.
        latitude: Degrees, north is positive, if the file says.
        longitude: Degrees, east is positive, if the file says.
        modified_at: Seconds since the epoch.
        size_bytes: Of the file.
        texts: Texts of the picture.
        links: Paths of URLs on the server: ``self``, ``original`` and ``thumbnail``.
    """

    id: int
    path: str
    copies: tuple[str, ...]
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    modified_at: float
    size_bytes: int
    texts: tuple[Text, ...]
    links: Mapping[str, str]


@dataclass(frozen=True)
class RemoteHit(RemotePicture):
    """One picture of an answer; see `mmsearch.Hit`.

    Attributes:
        rank: From 1.
        score: What the order goes by, higher is better.
        visual: Cosine similarity in [-1, 1]; None in text mode.
        text: Share of the query's words that the texts hold, in [0, 1].
        matched: The text that holds most of them.
        confidence: Probability that the picture shows what was asked for.
        band: A word for that.
    """

    rank: int
    score: float
    visual: float | None
    text: float
    matched: MatchedText | None
    confidence: float
    band: Band


@dataclass(frozen=True)
class RemoteStatus:
    """What an index that is served holds.

    Attributes:
        name: Of the index.
        pictures: Distinct contents that can be found.
        files: Paths of those pictures.
        failures: How many files could not be read.
        generation: Rises with every change.
        encoder: Its name; None before the first run.
        fusion: Its name; None before the first run.
        vector_index: The plugin's name; None if all is searched in segments.
        roots: Names of the folders that are indexed, as `Client.start_job` takes them.
        waiting: Pictures in segments that came after the vector index.
        bytes_by_part: Sizes on disk.
        last_run: The newest run, as the server tells it.
    """

    name: str
    pictures: int
    files: int
    failures: int
    generation: int
    encoder: str | None
    fusion: str | None
    vector_index: str | None
    roots: tuple[str, ...]
    waiting: int
    bytes_by_part: Mapping[str, int]
    last_run: Mapping[str, Any] | None


@dataclass(frozen=True)
class RemoteJob:
    """A run of the indexer on the server.

    Attributes:
        id: As `Client.job` takes it.
        index: The index's name.
        root: Name of the folder.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``.
        phase: ``scan``, ``encode``, ``texts`` or ``build`` while it runs.
        done: Files settled so far.
        total: Files to settle; None while it is unknown.
        report: How many files were ``added``, ``unchanged``, ``failed``, ...; None before its end.
        error: Why it failed.
    """

    id: str
    index: str
    root: str
    state: str
    phase: str | None
    done: int
    total: int | None
    report: Mapping[str, int] | None
    error: str | None

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self.state == "running"


@dataclass(frozen=True)
class Page:
    """A part of an answer.

    Attributes:
        hits: Best first.
        next_cursor: Of the page after it; None: there is none.
        generation: The state of the index that was searched.
    """

    hits: tuple[RemoteHit, ...]
    next_cursor: str | None
    generation: int


def parse_answer(parser: Callable[[Any], Answer], payload: Any) -> Answer:
    """What an answer says.

    Args:
        parser: One of the functions below; members that it does not know are passed over.
        payload: JSON.

    Raises:
        ServerError: It is no such answer.
    """
    try:
        return parser(payload)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            "The server's answer is not one that an mmsearch server gives.",
            "Compare its version with this one's, and look at the URL.",
        ) from error


def parse_page(payload: Any) -> Page:
    """A page of hits."""
    hits = tuple(parse_hit(hit) for hit in payload["hits"])
    return Page(hits, payload["next_cursor"], payload["generation"])


def parse_hit(payload: Any) -> RemoteHit:
    """A picture that was found."""
    matched = payload["matched"]
    return RemoteHit(
        **_picture_fields(payload),
        rank=payload["rank"],
        score=payload["score"],
        visual=payload["visual"],
        text=payload["text"],
        matched=None if matched is None else _parse_matched_text(matched),
        confidence=payload["confidence"],
        band=Band(payload["band"]),
    )


def parse_picture(payload: Any) -> RemotePicture:
    """A picture."""
    return RemotePicture(**_picture_fields(payload))


def parse_status(payload: Any) -> RemoteStatus:
    """What an index holds."""
    fields = {name: payload[name] for name in RemoteStatus.__dataclass_fields__}
    return RemoteStatus(**fields | {"roots": tuple(payload["roots"])})


def parse_job(payload: Any) -> RemoteJob:
    """A job."""
    return RemoteJob(**{name: payload[name] for name in RemoteJob.__dataclass_fields__})


def parse_vectors(payload: Any) -> Vectors:
    """Embeddings, float32 (n, dim)."""
    vectors = np.asarray(payload["embeddings"], dtype=np.float32)
    return vectors.reshape(-1, payload["dim"])


def _picture_fields(payload: Any) -> dict[str, Any]:
    fields = {name: payload[name] for name in RemotePicture.__dataclass_fields__}
    texts = (Text(**{name: text[name] for name in _TEXT_FIELDS}) for text in payload["texts"])
    return fields | {"copies": tuple(payload["copies"]), "texts": tuple(texts)}


_TEXT_FIELDS = ("kind", "text", "language", "source")


def _parse_matched_text(payload: Any) -> MatchedText:
    spans = tuple((start, end) for start, end in payload["spans"])
    return MatchedText(payload["kind"], payload["language"], payload["text"], spans)
