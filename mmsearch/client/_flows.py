"""Conversations with a server: what is asked, in which order, and what becomes of the replies.

A talk is a generator: it yields requests and pauses, is sent the replies, and returns the answer.
So it is the same for those who block and for those who do not, and needs no network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias, TypeVar

import numpy as np

from mmsearch.client import models
from mmsearch.client._endpoint import Endpoint
from mmsearch.client._errors import Response, retry_delay_s, to_error
from mmsearch.client._requests import (
    PAGE_LIMIT,
    TEXTS_LIMIT,
    Request,
    as_url,
    build_picture_form,
    build_search_body,
    check_k,
    picture_id,
    read_picture,
)
from mmsearch.client.models import (
    Answer,
    RemoteHit,
    RemoteJob,
    RemotePicture,
    RemoteStatus,
    parse_answer,
)
from mmsearch.core.errors import InvalidQueryError, StateError, UnknownNameError
from mmsearch.core.types import Vectors

MAX_PAGING_ATTEMPTS = 3
"""How often an answer is read whose index changes from page to page."""


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so long.

    Attributes:
        seconds: How long.
    """

    seconds: float


Result = TypeVar("Result")
RequestFlow: TypeAlias = Generator[Request | Pause, Response | None, Result]


class IndexFlows:
    """All that can be asked of one index.

    Args:
        endpoint: Of the index.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def search(self, query: str, k: int, **options: Any) -> RequestFlow[list[RemoteHit]]:
        """See `mmsearch.Client.search`; ``more`` is what `build_search_body` takes."""
        body = build_search_body(query, **options)
        path = self._endpoint.path("search")

        def page_request(limit: int, cursor: str | None) -> Request:
            return Request("POST", path, body=body | {"limit": limit, "cursor": cursor})

        return self._fetch_hits(k, page_request)

    def similar(
        self,
        image: int | RemotePicture | bytes | str | os.PathLike[str],
        k: int,
        query: str,
        **options: Any,
    ) -> RequestFlow[list[RemoteHit]]:
        """See `mmsearch.Client.similar`; ``more`` is what `build_picture_form` takes."""
        if isinstance(image, int | RemotePicture):
            return self.search(query, k, like=(image,), **options)
        if (url := as_url(image)) is not None:
            return self.search(query, k, like_url=(url,), **options)
        form = build_picture_form(query, **options)
        content = read_picture(image)
        path = self._endpoint.path("search", "picture")

        def page_request(limit: int, cursor: str | None) -> Request:
            cursor_field = {} if cursor is None else {"cursor": cursor}
            return Request(
                "POST", path, form={**form, "limit": str(limit), **cursor_field}, picture=content
            )

        return self._fetch_hits(k, page_request)

    def embed_texts(self, texts: Sequence[str]) -> RequestFlow[Vectors]:
        """See `mmsearch.Client.embed_texts`."""
        if not texts:
            raise InvalidQueryError("There is no text to encode.", "Give one at least.")
        path = self._endpoint.path("embeddings", "texts")
        blocks = []
        for start in range(0, len(texts), TEXTS_LIMIT):
            body = {"texts": list(texts[start : start + TEXTS_LIMIT])}
            blocks.append(
                (
                    yield from self._send_and_parse(
                        Request("POST", path, body=body), models.parse_vectors
                    )
                )
            )
        return np.concatenate(blocks)

    def embed_picture(self, image: bytes | str | os.PathLike[str]) -> RequestFlow[Vectors]:
        """See `mmsearch.Client.embed_picture`."""
        path = self._endpoint.path("embeddings", "picture")
        if (url := as_url(image)) is not None:
            request = Request("POST", path, form={"url": url})
        else:
            request = Request("POST", path, picture=read_picture(image))
        return (yield from self._send_and_parse(request, models.parse_vectors))

    def status(self) -> RequestFlow[RemoteStatus]:
        """See `mmsearch.Client.status`."""
        return (
            yield from self._send_and_parse(
                Request("GET", self._endpoint.path()), models.parse_status
            )
        )

    def picture(self, image_id: int) -> RequestFlow[RemotePicture | None]:
        """See `mmsearch.Client.picture`."""
        request = Request("GET", self._endpoint.path("pictures", image_id))
        try:
            return (yield from self._send_and_parse(request, models.parse_picture))
        except UnknownNameError:
            return None

    def thumbnail(self, picture: int | RemotePicture, size: str) -> RequestFlow[bytes]:
        """See `mmsearch.Client.thumbnail`."""
        path = self._endpoint.path("pictures", picture_id(picture), "thumbnail")
        return (yield from self.send_with_retry(Request("GET", path, {"size": size}))).content

    def original(self, picture: int | RemotePicture) -> RequestFlow[bytes]:
        """See `mmsearch.Client.original`."""
        path = self._endpoint.path("pictures", picture_id(picture), "original")
        return (yield from self.send_with_retry(Request("GET", path))).content

    def start_job(self, root: str, *, retry_failed: bool) -> RequestFlow[RemoteJob]:
        """See `mmsearch.Client.start_job`."""
        body: Mapping[str, Any] = {"root": root, "retry_failed": retry_failed}
        request = Request("POST", self._endpoint.path("jobs"), body=body)
        return (yield from self._send_and_parse(request, models.parse_job))

    def job(self, job: str | RemoteJob) -> RequestFlow[RemoteJob]:
        """See `mmsearch.Client.job`."""
        request = Request("GET", self._endpoint.path("jobs", to_job_id(job)))
        return (yield from self._send_and_parse(request, models.parse_job))

    def stop_job(self, job: str | RemoteJob) -> RequestFlow[RemoteJob]:
        """See `mmsearch.Client.stop_job`."""
        request = Request("DELETE", self._endpoint.path("jobs", to_job_id(job)))
        return (yield from self._send_and_parse(request, models.parse_job))

    def follow(self, job: str | RemoteJob) -> RequestFlow[Response]:
        """See `mmsearch.Client.follow`: the beginning of the events."""
        return self.send_with_retry(
            Request("GET", self._endpoint.path("jobs", to_job_id(job), "events"))
        )

    def send_with_retry(self, request: Request) -> RequestFlow[Response]:
        """A reply that was accepted; a server that is busy is asked again, a few times.

        Raises:
            MMSearchError: What the server says is wrong.
        """
        for attempt in count():
            response = yield request
            # Only a pause is answered by nothing.
            assert response is not None  # noqa: S101
            if response.is_success:
                return response
            error = to_error(
                response, self._endpoint.url, has_token=self._endpoint.token is not None
            )
            delay_s = retry_delay_s(response, error, attempt)
            if delay_s is None:
                raise error
            yield Pause(delay_s)
        raise AssertionError

    def _send_and_parse(
        self, request: Request, parser: Callable[[Any], Answer]
    ) -> RequestFlow[Answer]:
        return parse_answer(parser, (yield from self.send_with_retry(request)).json())

    def _fetch_hits(
        self, k: int, page_request: Callable[[int, str | None], Request]
    ) -> RequestFlow[list[RemoteHit]]:
        check_k(k)
        for _ in range(MAX_PAGING_ATTEMPTS):
            hits = yield from self._fetch_pages(k, page_request)
            if hits is not None:
                return hits
        raise StateError(
            "The index changes too fast for an answer of several pages.",
            f"Ask again in a while, or for {PAGE_LIMIT} hits at most.",
        )

    def _fetch_pages(
        self, k: int, page_request: Callable[[int, str | None], Request]
    ) -> RequestFlow[list[RemoteHit] | None]:
        """All pages; None if they are of several generations, between which hits may be lost."""
        hits: list[RemoteHit] = []
        cursor, generation = None, None
        while True:
            request = page_request(min(PAGE_LIMIT, k - len(hits)), cursor)
            page = yield from self._send_and_parse(request, models.parse_page)
            if generation not in (None, page.generation):
                return None
            hits += page.hits
            cursor, generation = page.next_cursor, page.generation
            if cursor is None or len(hits) >= k or not page.hits:
                return hits


class BaseClient:
    """What both clients are.

    Args:
        endpoint: Of the index that they ask.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._flows = IndexFlows(endpoint)

    @property
    def url(self) -> str:
        """The server's."""
        return self._endpoint.url

    @property
    def index(self) -> str:
        """The index's name."""
        return self._endpoint.index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, index={self.index!r})"


def to_job_id(job: str | RemoteJob) -> str:
    """A job's id."""
    return job.id if isinstance(job, RemoteJob) else job
