"""Answers of the tools as structured data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from mmsearch.core.display import display_path
from mmsearch.core.query import Band
from mmsearch.core.results import Hit, IndexStatus, Item, SearchResult
from mmsearch.core.types import Text

MAX_TEXTS = 5
"""Maximum texts per picture in an answer; caption tables may give it any number."""

MAX_TEXT_CHARS = 200
"""Maximum characters per text."""

MAX_COPIES = 5
MAX_FOLDERS = 50


class PictureInfo(BaseModel):
    """A picture in the index."""

    id: int = Field(description="Id for get_image and similar_images.")
    path: str = Field(description="Path of the file; undecodable bytes are escaped.")
    width: int
    height: int
    date: str = Field(description="Date it was taken, or its file was modified.")
    dated_by: str = Field(description="camera: date it was taken; file: date of its file.")
    camera: str | None
    texts: list[str] = Field(description="Texts about the picture, each with its kind.")
    copies: list[str] = Field(description="Other paths with the same content.")

    @classmethod
    def from_item(cls, item: Item, **scores: Any) -> Self:
        """Make an entry from a picture; ``scores`` are the other fields of a hit."""
        date, dated_by = _date_with_source(item.taken_at, item.modified_at)
        return cls(
            id=item.id,
            path=display_path(item.path),
            width=item.width,
            height=item.height,
            date=date,
            dated_by=dated_by,
            camera=item.camera,
            texts=_format_texts(item.texts),
            copies=[display_path(path) for path in item.copies[:MAX_COPIES]],
            **scores,
        )


class PictureHit(PictureInfo):
    """A picture found by a search."""

    rank: int = Field(description="Rank from 1, best first.")
    score: float = Field(description="Score that sorts the hits.")
    confidence: float = Field(description="Probability that it matches the query.")
    band: Band = Field(description="Confidence as a word.")

    @classmethod
    def from_hit(cls, rank: int, hit: Hit) -> Self:
        """Make an entry from a hit and its rank."""
        return cls.from_item(
            hit, rank=rank, score=hit.score, confidence=hit.confidence, band=hit.band
        )


class SearchOutput(BaseModel):
    """The answer of a search."""

    hits: list[PictureHit]
    match: Band | None = Field(description="Band of the best hit: is there any match?")
    calibrated: bool = Field(description="True if confidences were fitted for this model.")
    pictures: int = Field(description="Pictures in the index.")
    passed: int = Field(description="Pictures that pass the filters.")
    dropped_tokens: int = Field(description="Query tokens beyond the limit of the model.")

    @classmethod
    def from_result(cls, result: SearchResult, hits: Sequence[Hit]) -> Self:
        """Make an answer from a search result and the hits to return."""
        return cls(
            hits=[PictureHit.from_hit(rank, hit) for rank, hit in enumerate(hits, 1)],
            match=result.match,
            calibrated=result.calibrated,
            pictures=result.pictures,
            passed=result.passed,
            dropped_tokens=result.dropped_tokens,
        )


class IndexInfo(BaseModel):
    """Contents of an index."""

    name: str
    pictures: int = Field(description="Distinct pictures that can be found.")
    files: int = Field(description="Paths of those pictures.")
    unreadable: int = Field(description="Files that could not be read.")
    folders: list[str] = Field(description="Indexed folders.")
    encoder: str | None = Field(description="Model that compares pictures and words.")
    indexed_at: str | None = Field(description="Start of the last indexing run.")

    @classmethod
    def from_status(cls, status: IndexStatus) -> Self:
        """Make a summary of an index status."""
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
    """Return each text on one line: texts in files could imitate the lines of an answer."""
    formatted = []
    for text in texts[:MAX_TEXTS]:
        line = display_path(" ".join(text.text.split()))
        short_line = line if len(line) <= MAX_TEXT_CHARS else f"{line[: MAX_TEXT_CHARS - 1]}…"
        formatted.append(f"{text.kind}: {short_line}")
    return formatted
