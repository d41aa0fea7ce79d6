"""What an assistant is answered, for programs: the structured half of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from mmsearch.core.display import display_path
from mmsearch.core.queries import Band
from mmsearch.core.records import PictureRecord
from mmsearch.core.requests import Hit, IndexStatus, SearchResult
from mmsearch.core.types import Text

MAX_TEXTS = 5
"""Texts of a picture that are told; a folder of tables may give it any number."""

MAX_TEXT_CHARS = 200
"""Characters of each."""

MAX_COPIES = 5
MAX_FOLDERS = 50


class PictureInfo(BaseModel):
    """A picture of the index."""

    id: int = Field(description="For get_image and similar_images.")
    path: str = Field(description="Of the file; bytes that are no text are escaped.")
    width: int
    height: int
    date: str = Field(description="The day when it was taken, or its file was changed.")
    dated_by: str = Field(description="camera: it was taken then; file: its file was changed then.")
    camera: str | None
    texts: list[str] = Field(description="What is written about it, each with its kind.")
    copies: list[str] = Field(description="Other places with the same content.")

    @classmethod
    def from_record(cls, record: PictureRecord) -> Self:
        """What the catalog says of a picture."""
        first, *others = record.paths
        picture = record.picture
        date, dated_by = _date_with_source(picture.taken_at, record.mtime_ns / 1e9)
        return cls(
            id=record.id,
            path=display_path(first),
            width=picture.width,
            height=picture.height,
            date=date,
            dated_by=dated_by,
            camera=picture.camera,
            texts=_format_texts(picture.texts),
            copies=[display_path(path) for path in others[:MAX_COPIES]],
        )


class PictureHit(PictureInfo):
    """A picture that was found."""

    rank: int = Field(description="From 1, best first.")
    score: float = Field(description="What the order goes by.")
    confidence: float = Field(description="Probability that it shows what was asked for.")
    band: Band = Field(description="A word for that.")

    @classmethod
    def from_hit(cls, rank: int, hit: Hit) -> Self:
        """A hit at its place in an answer."""
        date, dated_by = _date_with_source(hit.taken_at, hit.modified_at)
        return cls(
            rank=rank,
            id=hit.id,
            score=hit.score,
            confidence=hit.confidence,
            band=hit.band,
            path=display_path(hit.path),
            width=hit.width,
            height=hit.height,
            date=date,
            dated_by=dated_by,
            camera=hit.camera,
            texts=_format_texts(hit.texts),
            copies=[display_path(path) for path in hit.copies[:MAX_COPIES]],
        )


class SearchOutput(BaseModel):
    """The answer of a search."""

    hits: list[PictureHit]
    match: Band | None = Field(description="The band of the best hit: is it here at all?")
    calibrated: bool = Field(description="Whether confidences were fitted for this model.")
    pictures: int = Field(description="That the index holds.")
    passed: int = Field(description="That pass the filters.")
    dropped_tokens: int = Field(description="Of the query, beyond what the model reads.")

    @classmethod
    def from_result(cls, result: SearchResult, hits: Sequence[Hit]) -> Self:
        """An answer of which some hits are told."""
        return cls(
            hits=[PictureHit.from_hit(rank, hit) for rank, hit in enumerate(hits, 1)],
            match=result.match,
            calibrated=result.calibrated,
            pictures=result.pictures,
            passed=result.passed,
            dropped_tokens=result.dropped_tokens,
        )


class IndexInfo(BaseModel):
    """What an index holds."""

    name: str
    pictures: int = Field(description="Distinct contents that can be found.")
    files: int = Field(description="Paths of those pictures.")
    unreadable: int = Field(description="Files that could not be read.")
    folders: list[str] = Field(description="That are indexed.")
    encoder: str | None = Field(description="The model that compares pictures and words.")
    indexed_at: str | None = Field(description="When the last run began.")

    @classmethod
    def from_status(cls, status: IndexStatus) -> Self:
        """A status in short."""
        identity, run = status.identity, status.last_run
        return cls(
            name=status.name,
            pictures=status.pictures,
            files=status.files,
            unreadable=len(status.failures),
            folders=[display_path(root.path) for root in status.roots[:MAX_FOLDERS]],
            encoder=identity.encoder.name if identity else None,
            indexed_at=run.started_at if run else None,
        )


def _date_with_source(taken_at: str | None, modified_at: float) -> tuple[str, str]:
    if taken_at:
        return taken_at[:10], "camera"
    return datetime.fromtimestamp(modified_at).astimezone().date().isoformat(), "file"


def _format_texts(texts: Sequence[Text]) -> list[str]:
    """In one line each: what a file says of itself may imitate the lines of an answer."""
    formatted = []
    for text in texts[:MAX_TEXTS]:
        line = display_path(" ".join(text.text.split()))
        short_line = line if len(line) <= MAX_TEXT_CHARS else f"{line[: MAX_TEXT_CHARS - 1]}…"
        formatted.append(f"{text.kind}: {short_line}")
    return formatted
