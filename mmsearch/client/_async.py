"""The client for programs that do other things meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmsearch.client._endpoint import Address
from mmsearch.client._errors import Reply
from mmsearch.client._events import JobEvents
from mmsearch.client._flows import Addressed, Pause, Result, Talk
from mmsearch.client._requests import Call
from mmsearch.client._transport import (
    closed,
    connection,
    events_timeout,
    http_library,
    reply_of,
    translated,
)
from mmsearch.client.models import RemoteHit, RemoteJob, RemotePicture, RemoteStatus
from mmsearch.core.queries import Filters
from mmsearch.core.types import Vectors

if TYPE_CHECKING:
    import httpx


class AsyncClient(Addressed):
    """As `mmsearch.Client`, whose methods are described there; these are awaited.

    For use in one event loop. Arguments and errors are the same.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        index: str = "default",
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(Address.of(url, index, token, timeout_s))
        with translated(self._address):
            self._http: httpx.AsyncClient = http_library().AsyncClient(
                transport=transport, **connection(self._address)
            )

    async def search(
        self,
        query: str,
        k: int = 10,
        *,
        without: Iterable[str] = (),
        like: Iterable[int | RemotePicture] = (),
        like_url: Iterable[str] = (),
        filters: Mapping[str, Any] | Filters | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
    ) -> list[RemoteHit]:
        """The pictures that fit a description best."""
        return await self._hold(
            self._talks.search(
                query,
                k,
                without=without,
                like=like,
                like_url=like_url,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
            )
        )

    async def similar(
        self,
        image: int | RemotePicture | bytes | str | os.PathLike[str],
        k: int = 10,
        *,
        query: str = "",
        without: Iterable[str] = (),
        filters: Mapping[str, Any] | Filters | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
    ) -> list[RemoteHit]:
        """The pictures that look most like a picture; if it is in the index itself, it is first."""
        return await self._hold(
            self._talks.similar(
                image,
                k,
                query,
                without=without,
                filters=filters,
                mode=mode,
                min_score=min_score,
                min_confidence=min_confidence,
            )
        )

    async def picture(self, image_id: int) -> RemotePicture | None:
        """What is known of a picture by its id; None if no such picture can be found."""
        return await self._hold(self._talks.picture(image_id))

    async def thumbnail(self, picture: int | RemotePicture, size: str = "medium") -> bytes:
        """A picture made small, as WebP."""
        return await self._hold(self._talks.thumbnail(picture, size))

    async def original(self, picture: int | RemotePicture) -> bytes:
        """The content of a picture's file."""
        return await self._hold(self._talks.original(picture))

    async def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """The unit vectors of texts in the index's space, as queries use them."""
        return await self._hold(self._talks.embed_texts(texts))

    async def embed_picture(self, image: bytes | str | os.PathLike[str]) -> Vectors:
        """The unit vector of a picture in the index's space."""
        return await self._hold(self._talks.embed_picture(image))

    async def status(self) -> RemoteStatus:
        """What the index holds."""
        return await self._hold(self._talks.status())

    async def start_job(self, root: str, *, retry_failed: bool = False) -> RemoteJob:
        """Bring the index up to date with a folder of the server that it knows already."""
        return await self._hold(self._talks.start_job(root, retry_failed=retry_failed))

    async def job(self, job: str | RemoteJob) -> RemoteJob:
        """How far a job is."""
        return await self._hold(self._talks.job(job))

    async def stop_job(self, job: str | RemoteJob) -> RemoteJob:
        """Let a job end early; what it has committed stays."""
        return await self._hold(self._talks.stop_job(job))

    async def follow(self, job: str | RemoteJob) -> AsyncIterator[RemoteJob]:
        """A job whenever it has changed, until it has ended."""
        events = JobEvents(self._address)
        async with AsyncExitStack() as opened:
            streams: list[httpx.Response] = []

            async def send(call: Call) -> Reply:
                asked = self._http.stream(
                    call.method, call.path, timeout=events_timeout(self._address)
                )
                response = await opened.enter_async_context(asked)
                streams.append(response)
                return reply_of(response, b"" if response.is_success else await response.aread())

            with translated(self._address):
                await self._hold(self._talks.follow(job), send)
                async for line in streams[-1].aiter_lines():
                    if (told := events.read(line)) is not None:
                        yield told
        events.end()

    async def close(self) -> None:
        """End the connections; the client cannot be used again."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, call: Call) -> Reply:
        with translated(self._address):
            response = await self._http.request(call.method, call.path, **call.arguments())
            return reply_of(response, response.content)

    async def _hold(
        self, talk: Talk[Result], send: Callable[[Call], Awaitable[Reply]] | None = None
    ) -> Result:
        if self._http.is_closed:
            raise closed()
        reply: Reply | None = None
        while True:
            try:
                step = talk.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await (send or self._send)(step)
