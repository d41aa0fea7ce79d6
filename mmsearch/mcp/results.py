"""What an assistant is answered, for programs: the structured half of each answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from mmsearch.core.display import display_path
from mmsearch.core.queries import Band
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit, IndexStatus, SearchResult
from mmsearch.core.types import Text

TEXTS_TOLD = 5
"""Texts of a picture that are told; a folder of tables may give it any number."""

TEXT_TOLD = 200
"""Characters of each."""

PLACES_TOLD = 5
FOLDERS_TOLD = 50


class KnownPicture(BaseModel):
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
    def of(cls, record: Record) -> Self:
        """What the catalog says of a picture."""
        first, *others = record.paths
        picture = record.picture
        date, dated_by = _dated(picture.taken_at, record.mtime_ns / 1e9)
        return cls(
            id=record.id,
            path=display_path(first),
            width=picture.width,
            height=picture.height,
            date=date,
            dated_by=dated_by,
            camera=picture.camera,
            texts=_told(picture.texts),
            copies=[display_path(path) for path in others[:PLACES_TOLD]],
        )


class FoundPicture(KnownPicture):
    """A picture that was found."""

    rank: int = Field(description="From 1, best first.")
    score: float = Field(description="What the order goes by.")
    confidence: float = Field(description="Probability that it shows what was asked for.")
    band: Band = Field(description="A word for that.")

    @classmethod
    def at(cls, rank: int, hit: Hit) -> Self:
        """A hit at its place in an answer."""
        date, dated_by = _dated(hit.taken_at, hit.modified_at)
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
            texts=_told(hit.texts),
            copies=[display_path(path) for path in hit.copies[:PLACES_TOLD]],
        )


class FoundPictures(BaseModel):
    """The answer of a search."""

    hits: list[FoundPicture]
    match: Band | None = Field(description="The band of the best hit: is it here at all?")
    calibrated: bool = Field(description="Whether confidences were fitted for this model.")
    pictures: int = Field(description="That the index holds.")
    passed: int = Field(description="That pass the filters.")
    dropped_tokens: int = Field(description="Of the query, beyond what the model reads.")

    @classmethod
    def of(cls, result: SearchResult, hits: Sequence[Hit]) -> Self:
        """An answer of which some hits are told."""
        return cls(
            hits=[FoundPicture.at(rank, hit) for rank, hit in enumerate(hits, 1)],
            match=result.match,
            calibrated=result.calibrated,
            pictures=result.pictures,
            passed=result.passed,
            dropped_tokens=result.dropped_tokens,
        )


class DescribedIndex(BaseModel):
    """What an index holds."""

    name: str
    pictures: int = Field(description="Distinct contents that can be found.")
    files: int = Field(description="Paths of those pictures.")
    unreadable: int = Field(description="Files that could not be read.")
    folders: list[str] = Field(description="That are indexed.")
    encoder: str | None = Field(description="The model that compares pictures and words.")
    indexed_at: str | None = Field(description="When the last run began.")

    @classmethod
    def of(cls, status: IndexStatus) -> Self:
        """A status in short."""
        identity, run = status.identity, status.last_run
        return cls(
            name=status.name,
            pictures=status.pictures,
            files=status.files,
            unreadable=len(status.failures),
            folders=[display_path(root.path) for root in status.roots[:FOLDERS_TOLD]],
            encoder=identity.encoder.name if identity else None,
            indexed_at=run.started_at if run else None,
        )


def _dated(taken_at: str | None, modified_at: float) -> tuple[str, str]:
    if taken_at:
        return taken_at[:10], "camera"
    return datetime.fromtimestamp(modified_at).astimezone().date().isoformat(), "file"


def _told(texts: Sequence[Text]) -> list[str]:
    """In one line each: what a file says of itself may imitate the lines of an answer."""
    told = []
    for text in texts[:TEXTS_TOLD]:
        words = display_path(" ".join(text.text.split()))
        short = words if len(words) <= TEXT_TOLD else f"{words[: TEXT_TOLD - 1]}…"
        told.append(f"{text.kind}: {short}")
    return told
