"""How each tool of an assistant is answered. Nothing here knows the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel

from mmsearch import api
from mmsearch.core.errors import InvalidQueryError, MMSearchError, UnknownNameError
from mmsearch.core.records import PictureRecord
from mmsearch.core.requests import Hit, SearchRequest, SearchResult
from mmsearch.mcp import formatting
from mmsearch.mcp.results import IndexInfo, PictureInfo, SearchOutput
from mmsearch.mcp.schemas import (
    GetImageArguments,
    NoArguments,
    SearchArguments,
    SimilarArguments,
)
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.thumbnails import Size, ThumbnailCache

MAX_PREVIEWS = 12
"""Hits of an answer that are shown, too; of the others it is told where they are."""

MAX_IMAGE_BYTES = 400_000
"""Of all pictures of an answer together: clients refuse answers of more than a megabyte."""

ContentBlock = str | bytes
"""Words, or a WebP."""


@dataclass(frozen=True)
class ToolResult:
    """What a tool says.

    Attributes:
        blocks: Words and pictures, in the order in which they are read.
        structured: The same for programs.
    """

    blocks: Sequence[ContentBlock]
    structured: BaseModel


class Tools:
    """Answers over one index.

    Args:
        worker: Of the index.
        thumbnails: Makes pictures small.
    """

    def __init__(self, worker: IndexWorker, thumbnails: ThumbnailCache) -> None:
        self._worker = worker
        self._thumbnails = thumbnails

    async def warm_up(self) -> None:
        """Load what the first search would have to wait for."""
        # What is wrong is said to whoever asks; here nobody does.
        with suppress(MMSearchError):
            await self._worker.search(SearchRequest(api.parse_query("a picture")))

    async def search(self, arguments: SearchArguments) -> ToolResult:
        """The pictures that fit a description best.

        Raises:
            InvalidQueryError: The query or a filter cannot be read, or the query names a file.
        """
        query = api.parse_query(
            arguments.query,
            without=arguments.without,
            mode=arguments.mode,
            filters=api.parse_filters(
                paths=arguments.path,
                after=arguments.after,
                before=arguments.before,
                cameras=arguments.camera,
                tags=arguments.tag,
                orientation=arguments.orientation,
            ),
        )
        # Who asks may be elsewhere, and would learn which files there are outside the collection.
        if any(term.text is None for term in query.terms):
            raise InvalidQueryError(
                "A query of this tool has words only; a path or a URL cannot be a part of it.",
                "Use similar_images with the id of a picture.",
            )
        result = await self._worker.search(SearchRequest(query, arguments.limit))
        return await self._make_search_result(result, result.hits, formatting.format_search_heading)

    async def similar(self, arguments: SimilarArguments) -> ToolResult:
        """The pictures that look most like one of the index, without that one.

        Raises:
            UnknownNameError: There is no such picture.
        """
        await self._load_record(arguments.image_id)
        query = api.parse_query(like=[arguments.image_id])
        result = await self._worker.search(SearchRequest(query, arguments.limit + 1))
        similar_hits = [hit for hit in result.hits if hit.id != arguments.image_id][
            : arguments.limit
        ]
        return await self._make_search_result(
            result,
            similar_hits,
            lambda output: formatting.format_similar_heading(output, arguments.image_id),
        )

    async def get(self, arguments: GetImageArguments) -> ToolResult:
        """A picture, and what is known of it.

        Raises:
            UnknownNameError: There is no such picture.
            GoneError: Its file is not what was indexed.
            DecodeError: It cannot be read.
        """
        record = await self._load_record(arguments.image_id)
        content = await self._make_thumbnail(record, arguments.size)
        info = PictureInfo.from_record(record)
        text = formatting.format_picture(info)
        if len(content) > MAX_IMAGE_BYTES:
            content = await self._make_thumbnail(record, Size.MEDIUM)
            text += "\n   Shown at 400 pixels: larger it is too much for an answer."
        return ToolResult((text, content), info)

    async def describe(self, arguments: NoArguments) -> ToolResult:
        """What the index holds."""
        info = IndexInfo.from_status(await self._worker.run(lambda index: index.status()))
        return ToolResult((formatting.format_index(info),), info)

    async def _load_record(self, image_id: int) -> PictureRecord:
        record = await self._worker.run(lambda index: index.picture(image_id))
        if record is None:
            raise UnknownNameError(
                f"Index {self._worker.name!r} has no picture {image_id}.",
                "Take an id from an answer of search_images.",
            )
        return record

    async def _make_search_result(
        self,
        result: SearchResult,
        hits: Sequence[Hit],
        format_heading: Callable[[SearchOutput], str],
    ) -> ToolResult:
        output = SearchOutput.from_result(result, hits)
        ids = [hit.id for hit in output.hits[:MAX_PREVIEWS]]
        records = await self._worker.run(
            lambda index: [index.picture(image_id) for image_id in ids]
        )
        previews = await asyncio.gather(*map(self._preview, records))
        blocks: list[ContentBlock] = [format_heading(output)]
        bytes_left = MAX_IMAGE_BYTES
        for position, hit in enumerate(output.hits):
            preview = previews[position] if position < len(previews) else b""
            blocks.append(formatting.format_hit(hit))
            if isinstance(preview, str):
                blocks.append(preview)
            elif preview and len(preview) <= bytes_left:
                bytes_left -= len(preview)
                blocks.append(preview)
        return ToolResult(blocks, output)

    async def _preview(self, record: PictureRecord | None) -> ContentBlock:
        """Small, or why there is none: one file that is gone must not cost the whole answer."""
        if record is None:
            return "   No preview: it has left the index meanwhile."
        try:
            return await self._make_thumbnail(record, Size.SMALL)
        except MMSearchError as error:
            return f"   No preview: {error}"
        except OSError as error:
            return f"   No preview: {error.strerror or error}."

    async def _make_thumbnail(self, record: PictureRecord, size: Size) -> bytes:
        content, _ = await asyncio.to_thread(self._thumbnails.get, record, size)
        return content
