"""Result types of the client, parsed from the server's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mmsearch.core.errors import ServerError
from mmsearch.core.query import Band, MatchedText
from mmsearch.core.types import Text, Vectors

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RemotePicture:
    """A picture of an index on a server.

    Attributes:
        id: Id of the picture in its index; it changes with the content or the texts.
        path: Path of the file on the server, for display: undecodable bytes are escaped.
        copies: Other paths with the same content, in the same form.
        width: Width in pixels, after EXIF rotation.
        height: Height in pixels, after EXIF rotation.
        format: File format: ``JPEG``, ``PNG``, ...
        taken_at: Capture time, ISO 8601 local time; None if unknown.
        camera: Maker and model of the camera; None if unknown.
        latitude: Latitude in degrees, north is positive; None if unknown.
        longitude: Longitude in degrees, east is positive; None if unknown.
        modified_at: Modification time of the file, in seconds since the epoch.
        size_bytes: Size of the file in bytes.
        texts: Texts of the picture.
        links: URL paths on the server: ``self``, ``original`` and ``thumbnail``.
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
    """One picture of a search result; see `mmsearch.Hit`.

    Attributes:
        rank: Rank of the hit, from 1.
        score: Ranking score; higher is better.
        visual: Cosine similarity in [-1, 1]; None in text mode.
        text: Share of the query's words that the texts contain, in [0, 1].
        matched: The text that contains most of the query's words; None if no text matches.
        confidence: Estimated probability that the picture is relevant.
        band: Verbal confidence level for ``confidence``.
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
    """The status of an index on a server.

    Attributes:
        name: Name of the index.
        pictures: Number of distinct pictures that can be found.
        files: Number of paths of those pictures.
        failures: Number of files that could not be read.
        generation: Generation number; it increases with every change.
        encoder: Name of the encoder; None before the first run.
        fusion: Name of the fusion; None before the first run.
        vector_index: Name of the vector index plugin; None if only segments are searched.
        roots: Names of the indexed folders, as `Client.start_job` accepts them.
        waiting: Number of pictures in segments that are not yet in the vector index.
        bytes_by_part: Size on disk of each part, in bytes.
        last_run: The latest run, as the server reports it; None before the first run.
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
        id: Id of the job, as `Client.job` accepts it.
        index: Name of the index.
        root: Name of the folder.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``.
        phase: ``scan``, ``encode``, ``texts`` or ``build`` while the job runs.
        done: Number of files processed so far.
        total: Number of files to process; None while it is unknown.
        report: Number of files by outcome, ``added``, ``unchanged``, ``failed``, ...; None before
            the job ends.
        error: Error message of a failed job.
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
        """True while the job runs."""
        return self.state == "running"


@dataclass(frozen=True)
class Page:
    """One page of a search result.

    Attributes:
        hits: The hits, best first.
        next_cursor: Cursor of the next page; None on the last page.
        generation: Generation of the index that was searched.
    """

    hits: tuple[RemoteHit, ...]
    next_cursor: str | None
    generation: int


def parse_answer(parser: Callable[[Any], Answer], payload: Any) -> Answer:
    """Parse the payload of a response.

    Args:
        parser: One of the functions below. It ignores unknown members.
        payload: The decoded JSON.

    Raises:
        ServerError: The payload does not have the expected form.
    """
    try:
        return parser(payload)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            "The response does not have the form that an mmsearch server sends.",
            "Check the URL, and compare the server's version with the client's.",
        ) from error


def parse_page(payload: Any) -> Page:
    """Parse a page of hits."""
    hits = tuple(parse_hit(hit) for hit in payload["hits"])
    return Page(hits, payload["next_cursor"], payload["generation"])


def parse_hit(payload: Any) -> RemoteHit:
    """Parse a hit."""
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
    """Parse a picture."""
    return RemotePicture(**_picture_fields(payload))


def parse_status(payload: Any) -> RemoteStatus:
    """Parse the status of an index."""
    fields = {name: payload[name] for name in RemoteStatus.__dataclass_fields__}
    return RemoteStatus(**fields | {"roots": tuple(payload["roots"])})


def parse_job(payload: Any) -> RemoteJob:
    """Parse a job."""
    return RemoteJob(**{name: payload[name] for name in RemoteJob.__dataclass_fields__})


def parse_vectors(payload: Any) -> Vectors:
    """Parse embeddings, float32 (n, dim)."""
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
