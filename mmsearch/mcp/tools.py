"""How each tool of an assistant is answered. Nothing here knows the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel

from mmsearch import api
from mmsearch.core.errors import InvalidQueryError, MMSearchError, UnknownNameError
from mmsearch.core.records import Record
from mmsearch.core.requests import Hit, SearchRequest, SearchResult
from mmsearch.mcp import formatting
from mmsearch.mcp.results import DescribedIndex, FoundPictures, KnownPicture
from mmsearch.mcp.schemas import (
    NoArguments,
    PictureArguments,
    SearchArguments,
    SimilarArguments,
)
from mmsearch.server.batcher import Desk
from mmsearch.server.thumbnails import Size, Thumbnails

SHOWN = 12
"""Hits of an answer that are shown, too; of the others it is told where they are."""

SHOWN_BYTES = 400_000
"""Of all pictures of an answer together: clients refuse answers of more than a megabyte."""

Part = str | bytes
"""Words, or a WebP."""


@dataclass(frozen=True)
class Answer:
    """What a tool says.

    Attributes:
        parts: Words and pictures, in the order in which they are read.
        facts: The same for programs.
    """

    parts: Sequence[Part]
    facts: BaseModel


class Tools:
    """Answers over one index.

    Args:
        desk: Of the index.
        thumbnails: Makes pictures small.
    """

    def __init__(self, desk: Desk, thumbnails: Thumbnails) -> None:
        self._desk = desk
        self._thumbnails = thumbnails

    async def warm(self) -> None:
        """Load what the first search would have to wait for."""
        # What is wrong is said to whoever asks; here nobody does.
        with suppress(MMSearchError):
            await self._desk.search(SearchRequest(api.parse_query("a picture")))

    async def search(self, asked: SearchArguments) -> Answer:
        """The pictures that fit a description best.

        Raises:
            InvalidQueryError: The query or a filter cannot be read, or the query names a file.
        """
        query = api.parse_query(
            asked.query,
            without=asked.without,
            mode=asked.mode,
            filters=api.parse_filters(
                paths=asked.path,
                after=asked.after,
                before=asked.before,
                cameras=asked.camera,
                tags=asked.tag,
                orientation=asked.orientation,
            ),
        )
        # Who asks may be elsewhere, and would learn which files there are outside the collection.
        if any(term.text is None for term in query.terms):
            raise InvalidQueryError(
                "A query of this tool has words only; a path or a URL cannot be a part of it.",
                "Use similar_images with the id of a picture.",
            )
        result = await self._desk.search(SearchRequest(query, asked.limit))
        return await self._found(result, result.hits, formatting.heading)

    async def similar(self, asked: SimilarArguments) -> Answer:
        """The pictures that look most like one of the index, without that one.

        Raises:
            UnknownNameError: There is no such picture.
        """
        await self._record(asked.image_id)
        query = api.parse_query(like=[asked.image_id])
        result = await self._desk.search(SearchRequest(query, asked.limit + 1))
        others = [hit for hit in result.hits if hit.id != asked.image_id][: asked.limit]
        return await self._found(
            result, others, lambda found: formatting.similar_heading(found, asked.image_id)
        )

    async def get(self, asked: PictureArguments) -> Answer:
        """A picture, and what is known of it.

        Raises:
            UnknownNameError: There is no such picture.
            GoneError: Its file is not what was indexed.
            DecodeError: It cannot be read.
        """
        record = await self._record(asked.image_id)
        content = await self._small(record, asked.size)
        known = KnownPicture.of(record)
        words = formatting.picture_lines(known)
        if len(content) > SHOWN_BYTES:
            content = await self._small(record, Size.MEDIUM)
            words += "\n   Shown at 400 pixels: larger it is too much for an answer."
        return Answer((words, content), known)

    async def describe(self, asked: NoArguments) -> Answer:
        """What the index holds."""
        described = DescribedIndex.of(await self._desk.ask(lambda index: index.status()))
        return Answer((formatting.index_lines(described),), described)

    async def _record(self, image_id: int) -> Record:
        record = await self._desk.ask(lambda index: index.picture(image_id))
        if record is None:
            raise UnknownNameError(
                f"Index {self._desk.name!r} has no picture {image_id}.",
                "Take an id from an answer of search_images.",
            )
        return record

    async def _found(
        self, result: SearchResult, hits: Sequence[Hit], heading: Callable[[FoundPictures], str]
    ) -> Answer:
        found = FoundPictures.of(result, hits)
        ids = [hit.id for hit in found.hits[:SHOWN]]
        records = await self._desk.ask(lambda index: [index.picture(each) for each in ids])
        previews = await asyncio.gather(*map(self._preview, records))
        parts: list[Part] = [heading(found)]
        left = SHOWN_BYTES
        for place, hit in enumerate(found.hits):
            preview = previews[place] if place < len(previews) else b""
            parts.append(formatting.hit_lines(hit))
            if isinstance(preview, str):
                parts.append(preview)
            elif preview and len(preview) <= left:
                left -= len(preview)
                parts.append(preview)
        return Answer(parts, found)

    async def _preview(self, record: Record | None) -> Part:
        """Small, or why there is none: one file that is gone must not cost the whole answer."""
        if record is None:
            return "   No preview: it has left the index meanwhile."
        try:
            return await self._small(record, Size.SMALL)
        except MMSearchError as error:
            return f"   No preview: {error}"
        except OSError as error:
            return f"   No preview: {error.strerror or error}."

    async def _small(self, record: Record, size: Size) -> bytes:
        content, _ = await asyncio.to_thread(self._thumbnails.get, record, size)
        return content
