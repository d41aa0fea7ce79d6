"""Request flows: the requests of each client method, their order, and the use of the responses.

A flow is a generator: it yields requests and pauses, receives responses, and returns the result.
It does no I/O itself, so the synchronous and the asynchronous client share it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias, TypeVar

import numpy as np

from mmsearch.client._errors import Response, parse_problem, retry_delay_s, to_error
from mmsearch.client._records import (
    KEYS_PER_REQUEST,
    RecordBatch,
    build_patches,
    iter_batches,
    to_json,
    to_key_list,
)
from mmsearch.client._requests import (
    Endpoint,
    Request,
    as_url,
    build_picture_form,
    build_search_body,
    check_k,
    name_pictures,
    picture_name,
    read_picture,
    read_recording,
    to_picture_names,
)
from mmsearch.core.arguments import (
    PictureId,
    Texts,
    check_arguments,
    check_value,
    to_picture_id,
    to_texts,
)
from mmsearch.core.duplicate_groups import DuplicateGroups, check_kind
from mmsearch.core.duplicate_groups import check_limit as check_group_limit
from mmsearch.core.errors import (
    InvalidQueryError,
    ServerError,
    StateError,
    UnknownNameError,
    UnreachableError,
    UsageError,
)
from mmsearch.core.facets import Facets, check_facet_fields, check_facet_limit
from mmsearch.core.query import PAGE_LIMIT, TEXTS_LIMIT, Query
from mmsearch.core.results import Hit, Item, SearchPage
from mmsearch.core.server_results import IndexSummary, JobStatus, ServedHits, SourceStatus
from mmsearch.core.sorting import check_sort, sort_hits
from mmsearch.core.speech import SpokenHits, SpokenSearchPage
from mmsearch.core.suggestions import Suggestion, check_kinds, check_limit
from mmsearch.core.types import Vectors
from mmsearch.core.write_reports import DeleteReport, FailedRecord, ItemsPage, WriteReport

MAX_PAGING_ATTEMPTS = 3
"""Maximum number of attempts to read all pages of a result while the index is changing."""


@dataclass(frozen=True)
class Pause:
    """A delay before the next request.

    Attributes:
        seconds: Length of the delay, in seconds.
    """

    seconds: float


Result = TypeVar("Result")
RequestFlow: TypeAlias = Generator[Request | Pause, Response | None, Result]


class IndexFlows:
    """The request flows of one index.

    Args:
        endpoint: Address of the index.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @check_arguments("Client.search")
    def search(
        self, query: str | Query, k: int, indexes: Texts | None = None, **options: Any
    ) -> RequestFlow[list[Hit]]:
        """See `mmsearch.Client.search`; ``options`` are those of `build_search_body`."""
        sort = _pop_sort(options)
        named = name_pictures(indexes, options)
        body = build_search_body(query, **options) | named
        path = self._endpoint.shared_path(indexes, "search")

        def page_request(limit: int, cursor: str | None) -> Request:
            return Request("POST", path, body=body | {"limit": limit, "cursor": cursor})

        return self._fetch_hits(k, sort, page_request)

    @check_arguments("Client.similar")
    def similar(
        self,
        image: Any,
        k: int,
        query: str | Query,
        indexes: Texts | None = None,
        **options: Any,
    ) -> RequestFlow[list[Hit]]:
        """See `mmsearch.Client.similar`; ``options`` are those of `build_picture_form`."""
        if indexes is not None and (name := picture_name(image)) is not None:
            liked: list[Any] = [name, *to_picture_names(options.pop("like", ()))]
            return self.search(query, k, indexes, like=liked, **options)
        try:
            picture = to_picture_id(image)
        except (TypeError, ValueError, OverflowError):
            picture = None
        if picture is not None:
            others = check_value("like", options.pop("like", ()), "PictureIds")
            liked = [picture, *others]
            return self.search(query, k, indexes, like=liked, **options)
        if (url := as_url(image)) is not None:
            return self.search(query, k, indexes, like_url=url, **options)
        sort = _pop_sort(options)
        named = name_pictures(indexes, options)
        form = build_picture_form(query, **options) | named
        content = read_picture(image)
        path = self._endpoint.shared_path(indexes, "search", "picture")

        def page_request(limit: int, cursor: str | None) -> Request:
            cursor_field = {} if cursor is None else {"cursor": cursor}
            return Request(
                "POST", path, form={**form, "limit": str(limit), **cursor_field}, picture=content
            )

        return self._fetch_hits(k, sort, page_request)

    @check_arguments("Client.search_speech")
    def search_speech(
        self, sound: Any, k: int, language: str | None, **options: Any
    ) -> RequestFlow[SpokenHits]:
        """See `mmsearch.Client.search_speech`; ``options`` are those of `build_picture_form`."""
        check_k(k)
        sort = _pop_sort(dict(options))
        fields = {name: value for name, value in options.items() if name != "sort"}
        form = build_picture_form("", **fields) | {"limit": str(min(k, PAGE_LIMIT))}
        del form["query"]
        if language is not None:
            form["language"] = language
        request = Request(
            "POST",
            self._endpoint.path("search", "speech"),
            form=form,
            speech=read_recording(sound),
        )
        page = yield from self._send_and_parse(request, SpokenSearchPage.from_dict)
        hits = sort_hits(page.hits, sort)
        if k > PAGE_LIMIT and page.next_cursor is not None:
            # The recording is heard only once.
            hits = yield from self.search(page.query, k, syntax=True, **options)
        return SpokenHits(hits, page.heard)

    @check_arguments("Client.facets")
    def facets(
        self,
        query: str | Query,
        fields: Texts | None,
        limit: int,
        indexes: Texts | None = None,
        **options: Any,
    ) -> RequestFlow[Facets]:
        """See `mmsearch.Client.facets`; ``options`` are those of `build_search_body`."""
        check_facet_limit(limit)
        names = None if fields is None else check_facet_fields(to_texts(fields))
        named = name_pictures(indexes, options)
        body = build_search_body(query, **options) | named
        unused = ("min_score", "min_confidence")
        kept = {name: value for name, value in body.items() if name not in unused}
        kept |= {"fields": None if names is None else list(names), "limit": limit}
        request = Request("POST", self._endpoint.shared_path(indexes, "facets"), body=kept)
        return (yield from self._send_and_parse(request, Facets.from_dict))

    @check_arguments("Client.embed_texts")
    def embed_texts(self, texts: Texts) -> RequestFlow[Vectors]:
        """See `mmsearch.Client.embed_texts`."""
        texts = to_texts(texts)
        if not texts:
            raise InvalidQueryError("There is no text to encode.", "Pass at least one text.")
        path = self._endpoint.path("embeddings", "texts")
        blocks = []
        for start in range(0, len(texts), TEXTS_LIMIT):
            body = {"texts": list(texts[start : start + TEXTS_LIMIT])}
            blocks.append(
                (yield from self._send_and_parse(Request("POST", path, body=body), parse_vectors))
            )
        return np.concatenate(blocks)

    def embed_picture(self, image: Any) -> RequestFlow[Vectors]:
        """See `mmsearch.Client.embed_picture`."""
        path = self._endpoint.path("embeddings", "picture")
        if (url := as_url(image)) is not None:
            request = Request("POST", path, form={"url": url})
        else:
            request = Request("POST", path, picture=read_picture(image))
        return (yield from self._send_and_parse(request, parse_vectors))

    def status(self) -> RequestFlow[IndexSummary]:
        """See `mmsearch.Client.status`."""
        return (
            yield from self._send_and_parse(
                Request("GET", self._endpoint.path()), IndexSummary.from_dict
            )
        )

    @check_arguments("Client.picture")
    def picture(self, image_id: PictureId) -> RequestFlow[Item | None]:
        """See `mmsearch.Client.picture`."""
        request = Request("GET", self._endpoint.path("pictures", to_picture_id(image_id)))
        try:
            return (yield from self._send_and_parse(request, Item.from_dict))
        except UnknownNameError:
            return None

    @check_arguments("Client.thumbnail")
    def thumbnail(self, picture: PictureId, size: str) -> RequestFlow[bytes]:
        """See `mmsearch.Client.thumbnail`."""
        path = self._endpoint.path("pictures", to_picture_id(picture), "thumbnail")
        return (yield from self.send_with_retry(Request("GET", path, {"size": size}))).content

    @check_arguments("Client.original")
    def original(self, picture: PictureId) -> RequestFlow[bytes]:
        """See `mmsearch.Client.original`."""
        path = self._endpoint.path("pictures", to_picture_id(picture), "original")
        return (yield from self.send_with_retry(Request("GET", path))).content

    def search_many(
        self, queries: Iterable[str | Query], k: int, **options: Any
    ) -> RequestFlow[list[list[Hit]]]:
        """See `mmsearch.Client.search_many`; ``options`` are those of `build_search_body`."""
        if isinstance(queries, str | Query):
            raise UsageError("queries must be a list of queries.", "Put a single one into a list.")
        check_k(k)
        if k > PAGE_LIMIT:
            raise InvalidQueryError(
                f"A batch of searches cannot return {k} hits each.", f"Use a k up to {PAGE_LIMIT}."
            )
        sort = _pop_sort(options)
        bodies = [
            build_search_body(query, **options) | {"limit": k, "sort": sort} for query in queries
        ]
        results: list[list[Hit]] = []
        for start in range(0, len(bodies), TEXTS_LIMIT):
            request = Request(
                "POST",
                self._endpoint.path("search", "batch"),
                body={"searches": bodies[start : start + TEXTS_LIMIT]},
            )
            results += yield from self._send_and_parse(request, self._parse_batch)
        return results

    def _parse_batch(self, payload: Any) -> list[list[Hit]]:
        for answer in payload["answers"]:
            if "hits" not in answer:
                raise parse_problem(answer, self._endpoint.url)
        pages = map(SearchPage.from_dict, payload["answers"])
        return [ServedHits(page.hits, page.understood) for page in pages]

    # --- pictures of a program, by its own ids ---

    @check_arguments("Client.add")
    def add(
        self, images: Any, ids: Any, texts: Any, metadata: Any, *, keep_originals: bool
    ) -> RequestFlow[WriteReport]:
        """See `mmsearch.Client.add`."""
        counts: Counter[str] = Counter()
        failed: list[FailedRecord] = []
        for batch in iter_batches(images, ids, texts, metadata):
            failed += batch.failed
            if batch.lines:
                report = yield from self._add_batch(batch, keep_originals=keep_originals)
                counts.update(
                    added=report.added, updated=report.updated, unchanged=report.unchanged
                )
                failed += [
                    replace(failure, record=batch.numbers[failure.record - 1])
                    for failure in report.failed
                ]
        failed.sort(key=lambda failure: failure.record)
        return WriteReport(counts["added"], counts["updated"], counts["unchanged"], tuple(failed))

    def _add_batch(self, batch: RecordBatch, *, keep_originals: bool) -> RequestFlow[WriteReport]:
        request = Request(
            "POST",
            self._endpoint.path("items"),
            {"keep_originals": "true"} if keep_originals else {},
            content=b"\n".join(batch.lines),
            is_write=True,
        )
        return self._send_and_parse(request, WriteReport.from_dict)

    def update(self, ids: Any, texts: Any, metadata: Any) -> RequestFlow[None]:
        """See `mmsearch.Client.update`."""
        patches = build_patches(ids, texts, metadata)
        for start in range(0, len(patches), KEYS_PER_REQUEST):
            body = json.loads(to_json({"items": patches[start : start + KEYS_PER_REQUEST]}))
            request = Request("PATCH", self._endpoint.path("items"), body=body, is_write=True)
            yield from self.send_with_retry(request)

    def delete(self, ids: Any) -> RequestFlow[int]:
        """See `mmsearch.Client.delete`."""
        keys = to_key_list(ids)
        deleted = 0
        for start in range(0, len(keys), KEYS_PER_REQUEST):
            body = {"keys": keys[start : start + KEYS_PER_REQUEST]}
            request = Request("POST", self._endpoint.path("deletions"), body=body, is_write=True)
            report = yield from self._send_and_parse(request, DeleteReport.from_dict)
            deleted += report.deleted
        return deleted

    @check_arguments("Client.get")
    def get(self, key: str) -> RequestFlow[Item | None]:
        """See `mmsearch.Client.get`."""
        request = Request("GET", self._endpoint.path("items", key))
        try:
            return (yield from self._send_and_parse(request, Item.from_dict))
        except UnknownNameError:
            return None

    def list_items(self, cursor: str | None) -> RequestFlow[ItemsPage]:
        """Return the next page of all pictures."""
        params = {"limit": str(PAGE_LIMIT)} | ({} if cursor is None else {"cursor": cursor})
        request = Request("GET", self._endpoint.path("items"), params)
        return self._send_and_parse(request, ItemsPage.from_dict)

    @check_arguments("Client.suggest")
    def suggest(
        self, prefix: str, limit: int, kinds: Texts, indexes: Texts | None = None
    ) -> RequestFlow[list[Suggestion]]:
        """See `mmsearch.Client.suggest`."""
        check_limit(limit)
        params: dict[str, Any] = {"q": prefix, "limit": str(limit), **name_pictures(indexes, {})}
        names = [str(kind) for kind in sorted(check_kinds(to_texts(kinds)))] if kinds else []
        request = Request(
            "GET", self._endpoint.shared_path(indexes, "suggest"), {**params, "kind": names}
        )
        return (
            yield from self._send_and_parse(
                request, lambda answer: [Suggestion.from_dict(one) for one in answer["suggestions"]]
            )
        )

    @check_arguments("Client.duplicates")
    def duplicates(
        self, kind: str | None, limit: int, cursor: str | None
    ) -> RequestFlow[DuplicateGroups]:
        """See `mmsearch.Client.duplicates`."""
        check_group_limit(limit)
        given = {"kind": check_kind(kind), "limit": str(limit), "cursor": cursor}
        params = {name: str(value) for name, value in given.items() if value is not None}
        request = Request("GET", self._endpoint.path("duplicates"), params)
        return (yield from self._send_and_parse(request, DuplicateGroups.from_dict))

    # --- sources and jobs ---

    def sources(self) -> RequestFlow[list[SourceStatus]]:
        """See `mmsearch.Client.sources`."""
        request = Request("GET", self._endpoint.path("sources"))
        return self._send_and_parse(
            request, lambda answer: [SourceStatus.from_dict(source) for source in answer]
        )

    @check_arguments("Client.start_job")
    def start_job(
        self, source: str | None, *, retry_failed: bool, verify: bool
    ) -> RequestFlow[JobStatus]:
        """See `mmsearch.Client.start_job`."""
        body: dict[str, Any] = {"retry_failed": retry_failed, "verify": verify}
        if source is not None:
            body["source"] = source
        request = Request("POST", self._endpoint.path("jobs"), body=body)
        return (yield from self._send_and_parse(request, JobStatus.from_dict))

    @check_arguments("Client.job")
    def job(self, job: str | JobStatus) -> RequestFlow[JobStatus]:
        """See `mmsearch.Client.job`."""
        request = Request("GET", self._endpoint.path("jobs", to_job_id(job)))
        return (yield from self._send_and_parse(request, JobStatus.from_dict))

    @check_arguments("Client.stop_job")
    def stop_job(self, job: str | JobStatus) -> RequestFlow[JobStatus]:
        """See `mmsearch.Client.stop_job`."""
        request = Request("DELETE", self._endpoint.path("jobs", to_job_id(job)))
        return (yield from self._send_and_parse(request, JobStatus.from_dict))

    @check_arguments("Client.follow")
    def follow(self, job: str | JobStatus) -> RequestFlow[Response]:
        """Return the response that starts the event stream; see `mmsearch.Client.follow`."""
        return self.send_with_retry(
            Request("GET", self._endpoint.path("jobs", to_job_id(job), "events"))
        )

    def send_with_retry(self, request: Request) -> RequestFlow[Response]:
        """Return a successful response; retry a few times if the server is busy.

        Raises:
            MMSearchError: The server responded with an error.
        """
        for attempt in count():
            response = yield request
            # A flow receives None only after a pause.
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
        self, k: int, sort: str, page_request: Callable[[int, str | None], Request]
    ) -> RequestFlow[list[Hit]]:
        check_k(k)
        for _ in range(MAX_PAGING_ATTEMPTS):
            hits = yield from self._fetch_pages(k, page_request)
            if hits is not None:
                # A server orders each page; here, all pages are ordered together.
                return ServedHits(sort_hits(hits, sort), hits.understood)
        raise StateError(
            "The index changes too fast to read a result of several pages.",
            f"Try again later, or use a k of at most {PAGE_LIMIT}.",
        )

    def _fetch_pages(
        self, k: int, page_request: Callable[[int, str | None], Request]
    ) -> RequestFlow[ServedHits | None]:
        """Return the hits of all pages, or None if the pages are of different generations.

        Hits may be missing between pages of different generations.
        """
        hits = ServedHits()
        cursor, generation = None, None
        while True:
            request = page_request(min(PAGE_LIMIT, k - len(hits)), cursor)
            page = yield from self._send_and_parse(request, SearchPage.from_dict)
            if generation not in (None, page.generation):
                return None
            hits += page.hits
            hits.understood = page.understood
            cursor, generation = page.next_cursor, page.generation
            if cursor is None or len(hits) >= k or not page.hits:
                return hits


def _pop_sort(options: dict[str, Any]) -> str:
    sort = options.pop("sort", "score")
    return check_sort(check_value("sort", sort, "str", "See help(mmsearch.Client.search)."))


class BaseClient:
    """Common base of both clients.

    Args:
        endpoint: Address of the index.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._flows = IndexFlows(endpoint)

    @property
    def url(self) -> str:
        """URL of the server."""
        return self._endpoint.url

    @property
    def index(self) -> str:
        """Name of the index."""
        return self._endpoint.index

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, index={self.index!r})"


def to_job_id(job: str | JobStatus) -> str:
    """Return the id of a job."""
    return job.id if isinstance(job, JobStatus) else job


class JobEvents:
    """A parser that reads the events of a job line by line.

    Args:
        endpoint: Address of the server, for error messages.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._data: list[str] = []
        self._is_running = True

    def read(self, line: str) -> JobStatus | None:
        """Return the current state of the job if the line ends an event, else None.

        Args:
            line: The line without its line ending.

        Raises:
            ServerError: The event does not contain a job.
        """
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        if not self._data:
            return None
        data, self._data = "\n".join(self._data), []
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise ServerError("The server sent an event that is not JSON.") from error
        job = parse_answer(JobStatus.from_dict, answer)
        self._is_running = job.running
        return job

    def finish(self) -> None:
        """Check at the end of the stream that the job has ended.

        Raises:
            UnreachableError: The job has not ended.
        """
        if self._is_running:
            raise UnreachableError(
                self._endpoint.unreachable_message(
                    "it closed the event stream of a job that has not ended"
                ),
                "Query the job again, or restart it: everything that was committed is kept.",
            )


Answer = TypeVar("Answer")


def parse_answer(parser: Callable[[Any], Answer], payload: Any) -> Answer:
    """Parse the payload of a response.

    Args:
        parser: `parse_vectors`, or ``from_dict`` of a class of `mmsearch.core.results`; it ignores
            unknown members.
        payload: The decoded JSON.

    Raises:
        ServerError: The payload does not have the expected form.
    """
    try:
        return parser(payload)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(
            "The response does not have the form that an mmsearch server sends.",
            "Check the URL, and compare the server's version with the client's.",
        ) from error


def parse_vectors(payload: Any) -> Vectors:
    """Parse embeddings, float32 (n, dim)."""
    vectors = np.asarray(payload["embeddings"], dtype=np.float32)
    return vectors.reshape(-1, payload["dim"])
