"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from mmsearch.client._errors import Response
from mmsearch.client._flows import JobEvents
from mmsearch.client._library import AsyncLibraryClient
from mmsearch.client._requests import Request
from mmsearch.client._transport import (
    events_timeout,
    map_transport_errors,
    to_response,
)
from mmsearch.core.arguments import (
    FilterValues,
    PictureId,
    PictureIds,
    PictureInput,
    SoundInput,
    Texts,
)
from mmsearch.core.query import Query
from mmsearch.core.results import Hit, Item
from mmsearch.core.server_results import IndexSummary, JobStatus, SourceStatus
from mmsearch.core.speech import SpokenHits
from mmsearch.core.types import Vectors
from mmsearch.core.write_reports import WriteReport

if TYPE_CHECKING:
    import httpx


class AsyncClient(AsyncLibraryClient):
    """The asynchronous counterpart of `mmsearch.Client`, for use in one event loop.

    The methods have the same arguments and errors, and are documented there.
    """

    async def search(
        self,
        query: str | Query,
        k: int = 10,
        *,
        syntax: bool = False,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        like_url: Texts = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        sort: str = "score",
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
        indexes: Texts | None = None,
    ) -> list[Hit]:
        """Return the pictures that match a description best."""
        return await self._run(
            self._flows.search(
                query,
                k,
                syntax=syntax,
                without=without,
                like=like,
                unlike=unlike,
                like_url=like_url,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
                sort=sort,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
                indexes=indexes,
            )
        )

    async def similar(
        self,
        image: PictureInput,
        k: int = 10,
        *,
        query: str | Query = "",
        syntax: bool = False,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        sort: str = "score",
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
        indexes: Texts | None = None,
    ) -> list[Hit]:
        """Return the pictures most similar to a picture; an indexed picture itself comes first."""
        return await self._run(
            self._flows.similar(
                image,
                k,
                query,
                syntax=syntax,
                without=without,
                like=like,
                unlike=unlike,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
                sort=sort,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
                indexes=indexes,
            )
        )

    async def search_speech(
        self,
        sound: SoundInput,
        k: int = 10,
        *,
        language: str | None = None,
        without: Texts = (),
        like: PictureIds = (),
        unlike: PictureIds = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        sort: str = "score",
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
    ) -> SpokenHits:
        """Return the pictures that match a spoken description; see `mmsearch.Client`."""
        return await self._run(
            self._flows.search_speech(
                sound,
                k,
                language,
                without=without,
                like=like,
                unlike=unlike,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
                sort=sort,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
            )
        )

    async def search_many(
        self,
        queries: Iterable[str | Query],
        k: int = 10,
        *,
        syntax: bool = False,
        without: Texts = (),
        filters: FilterValues | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
        sort: str = "score",
        fold: bool = True,
        literal: bool = False,
        literal_words: Texts = (),
    ) -> list[list[Hit]]:
        """Return the hits of each of several queries; a request carries a hundred of them."""
        return await self._run(
            self._flows.search_many(
                queries,
                k,
                syntax=syntax,
                without=without,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
                sort=sort,
                fold=fold,
                literal=literal,
                literal_words=literal_words,
            )
        )

    # --- pictures of a program, by its own ids ---

    async def add(
        self,
        images: Iterable[Any],
        ids: Iterable[str] | None = None,
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        keep_originals: bool = False,
    ) -> WriteReport:
        """Add pictures by ids of your own, or replace those that have the same ids."""
        return await self._run(
            self._flows.add(images, ids, texts, metadata, keep_originals=keep_originals)
        )

    async def update(
        self,
        ids: str | Iterable[str],
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Replace the texts or the metadata of pictures that `add` has added."""
        await self._run(self._flows.update(ids, texts, metadata))

    async def delete(self, ids: str | Iterable[str]) -> int:
        """Delete pictures that `add` has added; return how many there were."""
        return await self._run(self._flows.delete(ids))

    async def get(self, key: str) -> Item | None:
        """Return the picture that `add` has added with an id; None without one."""
        return await self._run(self._flows.get(key))

    async def __aiter__(self) -> AsyncIterator[Item]:
        """Iterate over all pictures, in the order of their ids."""
        cursor: str | None = None
        while True:
            page = await self._run(self._flows.list_items(cursor))
            for item in page.items:
                yield item
            if (cursor := page.next_cursor) is None:
                return

    # --- pictures ---

    async def picture(self, image_id: PictureId) -> Item | None:
        """Return a picture by its id, or None if it does not exist."""
        return await self._run(self._flows.picture(image_id))

    async def thumbnail(self, picture: PictureId, size: str = "medium") -> bytes:
        """Return a thumbnail of a picture, as WebP."""
        return await self._run(self._flows.thumbnail(picture, size))

    async def original(self, picture: PictureId) -> bytes:
        """Return the content of a picture's file."""
        return await self._run(self._flows.original(picture))

    async def embed_texts(self, texts: Texts) -> Vectors:
        """Return the unit vectors of texts in the index's space, as queries use them."""
        return await self._run(self._flows.embed_texts(texts))

    async def embed_picture(self, image: PictureInput) -> Vectors:
        """Return the unit vector of a picture in the index's space."""
        return await self._run(self._flows.embed_picture(image))

    async def status(self) -> IndexSummary:
        """Return the status of the index."""
        return await self._run(self._flows.status())

    async def sources(self) -> list[SourceStatus]:
        """Return where the pictures of the index come from, oldest first."""
        return await self._run(self._flows.sources())

    async def start_job(
        self, source: str | None = None, *, retry_failed: bool = False, verify: bool = False
    ) -> JobStatus:
        """Start a job that updates the index from one of its sources, or from all."""
        return await self._run(
            self._flows.start_job(source, retry_failed=retry_failed, verify=verify)
        )

    async def job(self, job: str | JobStatus) -> JobStatus:
        """Return the current state of a job."""
        return await self._run(self._flows.job(job))

    async def stop_job(self, job: str | JobStatus) -> JobStatus:
        """Stop a job early; everything that it has committed stays."""
        return await self._run(self._flows.stop_job(job))

    async def follow(self, job: str | JobStatus) -> AsyncIterator[JobStatus]:
        """Yield the job each time it changes, until it ends."""
        events = JobEvents(self._endpoint)
        async with AsyncExitStack() as stack:
            streams: list[httpx.Response] = []

            async def send(request: Request) -> Response:
                stream_context = self._http.stream(
                    request.method, request.path, timeout=events_timeout(self._endpoint)
                )
                response = await stack.enter_async_context(stream_context)
                streams.append(response)
                return to_response(response, b"" if response.is_success else await response.aread())

            with map_transport_errors(self._endpoint):
                await self._run(self._flows.follow(job), send)
                async for line in streams[-1].aiter_lines():
                    if (update := events.read(line)) is not None:
                        yield update
        events.finish()
