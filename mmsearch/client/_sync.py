"""The client for programs that wait for their answers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmsearch.client._endpoint import Endpoint
from mmsearch.client._errors import Response
from mmsearch.client._events import JobEvents
from mmsearch.client._flows import BaseClient, Pause, RequestFlow, Result
from mmsearch.client._requests import Request
from mmsearch.client._transport import (
    client_options,
    closed_error,
    events_timeout,
    import_httpx,
    map_transport_errors,
    to_response,
)
from mmsearch.client.models import RemoteHit, RemoteJob, RemotePicture, RemoteStatus
from mmsearch.core.queries import Filters
from mmsearch.core.types import Vectors

if TYPE_CHECKING:
    import httpx


class Client(BaseClient):
    """An index on a server (``mmsearch serve``); several threads may use it.

    Errors are those of `mmsearch.Index`, with the server's sentences. Besides, every method raises
    `UnreachableError` when nobody answers, `UnauthorizedError` for a token that is wrong or
    missing, and `ServerError` for a server that refuses otherwise. One that is busy (status 429 or
    503) is asked again, four times at most, before `BusyError` is raised.

    Args:
        url: The server's, such as ``http://127.0.0.1:7788``.
        token: What the server wants to know, if anything.
        index: The index's name.
        timeout_s: So long the server may be silent, in seconds.
        transport: In the place of the network, for tests and unusual sockets.

    Raises:
        UsageError: The URL or the token cannot be one.
        MissingExtraError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        index: str = "default",
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(Endpoint.parse(url, index, token, timeout_s))
        with map_transport_errors(self._endpoint):
            self._http: httpx.Client = import_httpx().Client(
                transport=transport, **client_options(self._endpoint)
            )

    def search(
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
        """The pictures that fit a description best.

        Args:
            query: A line of the query language without files; may be empty beside pictures.
            k: How many at most, 1000 at most; more than 200 take several requests.
            without: What pictures should not look like.
            like: Pictures of the index (or their ids) that hits shall look like.
            like_url: URLs of such pictures, four at most, for a server that fetches them.
            filters: Which pictures may be found: any of ``path``, ``format``, ``camera`` and
                ``tag`` (lists of texts), ``after``, ``before``, ``orientation``, ``near`` and
                ``where`` (texts), ``min_width`` and ``min_height`` (pixels), as the options of
                ``mmsearch query`` mean them; the server checks them. Or a `mmsearch.Filters`
                without a condition.
            mode: ``vector``, ``text`` or ``hybrid``. Default: hybrid if the index has texts.
            min_score: Hits with a lower score are left out.
            min_confidence: Hits with a lower confidence are left out.

        Raises:
            UnknownIndexError: The server has no such index.
            InvalidQueryError: The query asks for nothing, or k is out of range.
            UsageError: A filter or a mode is none.
            ForbiddenError: The server fetches no URLs.
            SourceError: A picture at a URL cannot be had.
            DecodeError: It is no picture.
        """
        return self._run(
            self._flows.search(
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

    def similar(
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
        """The pictures that look most like a picture; if it is in the index itself, it is first.

        Args:
            image: A picture of the index or its id; a file of this machine, which is sent, or the
                content of one as bytes; or the URL of one.
            k: How many at most, 1000 at most.
            query: What hits shall show besides, as in `search`.
            without: As in `search`.
            filters: As in `search`.
            mode: As in `search`; without words, ``vector`` alone can be meant.
            min_score: Hits with a lower score are left out.
            min_confidence: Hits with a lower confidence are left out.

        Raises:
            UnknownIndexError: The server has no such index.
            UnknownNameError: The index has no such picture.
            SourceError: The file cannot be read, or the picture at the URL not be had.
            ForbiddenError: The server fetches no URLs.
            DecodeError: It is no picture.
            InvalidQueryError: The query cannot be read, or k is out of range.
            UsageError: A filter or a mode is none.
        """
        return self._run(
            self._flows.similar(
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

    def picture(self, image_id: int) -> RemotePicture | None:
        """What is known of a picture by its id; None if no such picture can be found.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.picture(image_id))

    def thumbnail(self, picture: int | RemotePicture, size: str = "medium") -> bytes:
        """A picture made small, as WebP.

        Args:
            picture: Of the index, or its id.
            size: ``small``, ``medium`` or ``large``: the long side has 160, 400 or 1280 pixels.

        Raises:
            UnknownNameError: The index has no such picture.
            GoneError: Its file is gone or has changed since it was indexed.
            DecodeError: It cannot be read.
        """
        return self._run(self._flows.thumbnail(picture, size))

    def original(self, picture: int | RemotePicture) -> bytes:
        """The content of a picture's file.

        Args:
            picture: Of the index, or its id.

        Raises:
            UnknownNameError: The index has no such picture.
            GoneError: Its file is gone or has changed since it was indexed.
        """
        return self._run(self._flows.original(picture))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """The unit vectors of texts in the index's space, as queries use them.

        Returns:
            float32 (n, dim), a row a text.

        Raises:
            InvalidQueryError: There is no text.
            StateError: The index holds no pictures yet, and so no encoder was chosen.
        """
        return self._run(self._flows.embed_texts(texts))

    def embed_picture(self, image: bytes | str | os.PathLike[str]) -> Vectors:
        """The unit vector of a picture in the index's space.

        Args:
            image: A file of this machine, the content of one as bytes, or the URL of one.

        Returns:
            float32 (1, dim).

        Raises:
            SourceError: The file cannot be read, or the picture at the URL not be had.
            ForbiddenError: The server fetches no URLs.
            DecodeError: It is no picture.
            StateError: The index holds no pictures yet, and so no encoder was chosen.
        """
        return self._run(self._flows.embed_picture(image))

    def status(self) -> RemoteStatus:
        """What the index holds.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.status())

    def start_job(self, root: str, *, retry_failed: bool = False) -> RemoteJob:
        """Bring the index up to date with a folder of the server that it knows already.

        Args:
            root: The folder's name, one of `RemoteStatus.roots`.
            retry_failed: Read files again that failed, though they have not changed.

        Raises:
            UnknownNameError: The index has no such folder.
            StateError: Another job is at work, or the server does not index.
        """
        return self._run(self._flows.start_job(root, retry_failed=retry_failed))

    def job(self, job: str | RemoteJob) -> RemoteJob:
        """How far a job is.

        Raises:
            UnknownNameError: There is no such job.
        """
        return self._run(self._flows.job(job))

    def stop_job(self, job: str | RemoteJob) -> RemoteJob:
        """Let a job end early; what it has committed stays.

        Raises:
            UnknownNameError: There is no such job.
        """
        return self._run(self._flows.stop_job(job))

    def follow(self, job: str | RemoteJob) -> Iterator[RemoteJob]:
        """A job whenever it has changed, until it has ended.

        Raises:
            UnknownNameError: There is no such job.
            UnreachableError: The server ended before the job.
        """
        events = JobEvents(self._endpoint)
        with ExitStack() as stack, map_transport_errors(self._endpoint):
            streams: list[httpx.Response] = []

            def send(request: Request) -> Response:
                stream_context = self._http.stream(
                    request.method, request.path, timeout=events_timeout(self._endpoint)
                )
                streams.append(stack.enter_context(stream_context))
                return to_response(
                    streams[-1], b"" if streams[-1].is_success else streams[-1].read()
                )

            self._run(self._flows.follow(job), send)
            for line in streams[-1].iter_lines():
                if (update := events.read(line)) is not None:
                    yield update
        events.finish()

    def close(self) -> None:
        """End the connections; the client cannot be used again."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: Request) -> Response:
        with map_transport_errors(self._endpoint):
            response = self._http.request(request.method, request.path, **request.httpx_kwargs())
            return to_response(response, response.content)

    def _run(
        self, flow: RequestFlow[Result], send: Callable[[Request], Response] | None = None
    ) -> Result:
        if self._http.is_closed:
            raise closed_error()
        response: Response | None = None
        while True:
            try:
                action = flow.send(response)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(action, Pause):
                time.sleep(action.seconds)
                response = None
            else:
                response = (send or self._send)(action)
