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
from mmsearch.client._endpoint import Address
from mmsearch.client._errors import Reply, error_of, wait_s
from mmsearch.client._requests import (
    PAGE_LIMIT,
    TEXTS_LIMIT,
    Call,
    id_of,
    picture_bytes,
    picture_form,
    refuse_k,
    search_body,
    url_of,
)
from mmsearch.client.models import (
    Answer,
    RemoteHit,
    RemoteJob,
    RemotePicture,
    RemoteStatus,
    understood,
)
from mmsearch.core.errors import InvalidQueryError, StateError, UnknownNameError
from mmsearch.core.types import Vectors

READINGS = 3
"""How often an answer is read whose index changes from page to page."""


@dataclass(frozen=True)
class Pause:
    """Nothing is sent for so long.

    Attributes:
        seconds: How long.
    """

    seconds: float


Result = TypeVar("Result")
Talk: TypeAlias = Generator[Call | Pause, Reply | None, Result]


class Talks:
    """All that can be asked of one index.

    Args:
        address: Of the index.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def search(self, query: str, k: int, **more: Any) -> Talk[list[RemoteHit]]:
        """See `mmsearch.Client.search`; ``more`` is what `search_body` takes."""
        body = search_body(query, **more)
        path = self._address.path("search")

        def page(limit: int, cursor: str | None) -> Call:
            return Call("POST", path, body=body | {"limit": limit, "cursor": cursor})

        return self._hits(k, page)

    def similar(
        self,
        image: int | RemotePicture | bytes | str | os.PathLike[str],
        k: int,
        query: str,
        **more: Any,
    ) -> Talk[list[RemoteHit]]:
        """See `mmsearch.Client.similar`; ``more`` is what `picture_form` takes."""
        if isinstance(image, int | RemotePicture):
            return self.search(query, k, like=(image,), **more)
        if (url := url_of(image)) is not None:
            return self.search(query, k, like_url=(url,), **more)
        form = picture_form(query, **more)
        content = picture_bytes(image)
        path = self._address.path("search", "picture")

        def page(limit: int, cursor: str | None) -> Call:
            at = {} if cursor is None else {"cursor": cursor}
            return Call("POST", path, form={**form, "limit": str(limit), **at}, picture=content)

        return self._hits(k, page)

    def embed_texts(self, texts: Sequence[str]) -> Talk[Vectors]:
        """See `mmsearch.Client.embed_texts`."""
        if not texts:
            raise InvalidQueryError("There is no text to encode.", "Give one at least.")
        path = self._address.path("embeddings", "texts")
        parts = []
        for start in range(0, len(texts), TEXTS_LIMIT):
            body = {"texts": list(texts[start : start + TEXTS_LIMIT])}
            parts.append((yield from self._asked(Call("POST", path, body=body), models.vectors_of)))
        return np.concatenate(parts)

    def embed_picture(self, image: bytes | str | os.PathLike[str]) -> Talk[Vectors]:
        """See `mmsearch.Client.embed_picture`."""
        path = self._address.path("embeddings", "picture")
        if (url := url_of(image)) is not None:
            call = Call("POST", path, form={"url": url})
        else:
            call = Call("POST", path, picture=picture_bytes(image))
        return (yield from self._asked(call, models.vectors_of))

    def status(self) -> Talk[RemoteStatus]:
        """See `mmsearch.Client.status`."""
        return (yield from self._asked(Call("GET", self._address.path()), models.status_of))

    def picture(self, image_id: int) -> Talk[RemotePicture | None]:
        """See `mmsearch.Client.picture`."""
        call = Call("GET", self._address.path("pictures", image_id))
        try:
            return (yield from self._asked(call, models.picture_of))
        except UnknownNameError:
            return None

    def thumbnail(self, picture: int | RemotePicture, size: str) -> Talk[bytes]:
        """See `mmsearch.Client.thumbnail`."""
        path = self._address.path("pictures", id_of(picture), "thumbnail")
        return (yield from self.told(Call("GET", path, {"size": size}))).content

    def original(self, picture: int | RemotePicture) -> Talk[bytes]:
        """See `mmsearch.Client.original`."""
        path = self._address.path("pictures", id_of(picture), "original")
        return (yield from self.told(Call("GET", path))).content

    def start_job(self, root: str, *, retry_failed: bool) -> Talk[RemoteJob]:
        """See `mmsearch.Client.start_job`."""
        body: Mapping[str, Any] = {"root": root, "retry_failed": retry_failed}
        call = Call("POST", self._address.path("jobs"), body=body)
        return (yield from self._asked(call, models.job_of))

    def job(self, job: str | RemoteJob) -> Talk[RemoteJob]:
        """See `mmsearch.Client.job`."""
        call = Call("GET", self._address.path("jobs", job_id(job)))
        return (yield from self._asked(call, models.job_of))

    def stop_job(self, job: str | RemoteJob) -> Talk[RemoteJob]:
        """See `mmsearch.Client.stop_job`."""
        call = Call("DELETE", self._address.path("jobs", job_id(job)))
        return (yield from self._asked(call, models.job_of))

    def follow(self, job: str | RemoteJob) -> Talk[Reply]:
        """See `mmsearch.Client.follow`: the beginning of the events."""
        return self.told(Call("GET", self._address.path("jobs", job_id(job), "events")))

    def told(self, call: Call) -> Talk[Reply]:
        """A reply that was accepted; a server that is busy is asked again, a few times.

        Raises:
            MMSearchError: What the server says is wrong.
        """
        for attempt in count():
            reply = yield call
            # Only a pause is answered by nothing.
            assert reply is not None  # noqa: S101
            if reply.accepted:
                return reply
            error = error_of(reply, self._address.url, with_token=self._address.token is not None)
            wait = wait_s(reply, error, attempt)
            if wait is None:
                raise error
            yield Pause(wait)
        raise AssertionError

    def _asked(self, call: Call, read: Callable[[Any], Answer]) -> Talk[Answer]:
        return understood(read, (yield from self.told(call)).json())

    def _hits(self, k: int, page_call: Callable[[int, str | None], Call]) -> Talk[list[RemoteHit]]:
        refuse_k(k)
        for _ in range(READINGS):
            hits = yield from self._reading(k, page_call)
            if hits is not None:
                return hits
        raise StateError(
            "The index changes too fast for an answer of several pages.",
            f"Ask again in a while, or for {PAGE_LIMIT} hits at most.",
        )

    def _reading(
        self, k: int, page_call: Callable[[int, str | None], Call]
    ) -> Talk[list[RemoteHit] | None]:
        """All pages; None if they are of several generations, between which hits may be lost."""
        hits: list[RemoteHit] = []
        cursor, generation = None, None
        while True:
            call = page_call(min(PAGE_LIMIT, k - len(hits)), cursor)
            page = yield from self._asked(call, models.page_of)
            if generation not in (None, page.generation):
                return None
            hits += page.hits
            cursor, generation = page.next_cursor, page.generation
            if cursor is None or len(hits) >= k or not page.hits:
                return hits


class Addressed:
    """What both clients are.

    Args:
        address: Of the index that they ask.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._talks = Talks(address)

    @property
    def url(self) -> str:
        """The server's."""
        return self._address.url

    @property
    def index(self) -> str:
        """The index's name."""
        return self._address.index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, index={self.index!r})"


def job_id(job: str | RemoteJob) -> str:
    """A job's id."""
    return job.id if isinstance(job, RemoteJob) else job
