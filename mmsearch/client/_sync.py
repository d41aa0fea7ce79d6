"""The synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mmsearch.client._errors import Response
from mmsearch.client._flows import JobEvents
from mmsearch.client._library import LibraryClient
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


class Client(LibraryClient):
    """An index on a server (``mmsearch serve``); several threads may use it.

    The methods raise the errors of `mmsearch.Index`, with the server's messages. In addition, every
    method raises `UnreachableError` if the server does not respond, `UnauthorizedError` if the
    token is wrong or missing, and `ServerError` for any other error response. If the server is busy
    (status 429 or 503), a request is retried up to four times before `BusyError` is raised.

    Args:
        url: URL of the server, such as ``http://127.0.0.1:7788``.
        token: Access token, if the server needs one.
        index: Name of the index.
        timeout_s: Seconds to wait for the server.
        transport: Replaces the network, for tests and unusual sockets.

    Raises:
        UsageError: The URL or the token is invalid.
        MissingExtraError: httpx is not installed.
    """

    def search(
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
        """Return the pictures that match a description best.

        Args:
            query: A description, which is taken literally, or a query of `mmsearch.parse_query`
                without files; may be empty if ``like`` or ``like_url`` is given.
            k: Maximum number of hits, 1000 at most; more than 200 take several requests.
            syntax: True if the text is a line of the query language, which cannot name files.
            without: Descriptions that pictures should not match.
            like: Pictures of the index (or their ids) that hits should look like, such as hits
                that are right.
            unlike: Hits (or their ids) that are wrong: they are left out, and pictures like them
                rank lower.
            like_url: URLs of such pictures, four at most, for a server that fetches URLs.
            filters: `mmsearch.Filters`, or a mapping of them such as
                ``{"after": "2019", "min_width": 1000, "camera": ["nikon"]}``.
            mode: ``vector``, ``text`` or ``hybrid``. Default: hybrid if the index has texts.
            min_score: Minimum score of a hit.
            min_confidence: Minimum confidence of a hit.
            sort: Order of the k best hits: ``score``, ``date``, ``-date`` (newest first),
                ``name``, ``-name``, ``size`` or ``-size``.
            fold: Show one of near duplicates and of a burst; see `mmsearch.Hit.folded`.
            literal: True to read no dates, people and places in the words as filters; see
                `mmsearch.Index.search`. The hits have the attribute ``understood``.
            literal_words: Words or phrases in which nothing is read.
            indexes: Names of indexes that are searched as one, instead of that of the client; their
                models must be the same. Each hit has the name of its index (`Hit.index`).

        Raises:
            UnknownIndexError: The server has no such index.
            InvalidQueryError: The query is empty, or k is out of range.
            UsageError: A filter or the mode is invalid, or an argument has the wrong type.
            ForbiddenError: The server does not fetch URLs.
            SourceError: A picture cannot be fetched from its URL.
            DecodeError: The content at a URL is not a picture.
        """
        return self._run(
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

    def similar(
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
        """Return the pictures most similar to a picture; an indexed picture itself comes first.

        Args:
            image: A picture of the index or its id; a path on this machine, whose file is uploaded;
                the content of a file as bytes; a Pillow image or a uint8 array of shape (h, w, 3);
                or the URL of a picture.
            k: Maximum number of hits, 1000 at most.
            query: Additional description that hits should match, as in `search`.
            syntax: See `search`.
            without: See `search`.
            like: See `search`.
            unlike: See `search`.
            filters: See `search`.
            mode: See `search`; without a query, only ``vector`` is valid.
            min_score: Minimum score of a hit.
            min_confidence: Minimum confidence of a hit.
            sort: Order of the k best hits: ``score``, ``date``, ``-date`` (newest first),
                ``name``, ``-name``, ``size`` or ``-size``.
            fold: See `search`; False lists the near duplicates of the picture as hits of their own.
            literal: See `search`.
            literal_words: See `search`.
            indexes: See `search`; a picture of one of them is a hit, or the name of the index and
                the id in it, as a pair or a text such as ``holiday:12``.

        Raises:
            UnknownIndexError: The server has no such index.
            UnknownNameError: The index has no such picture.
            SourceError: The file cannot be read, or the picture cannot be fetched from its URL.
            ForbiddenError: The server does not fetch URLs.
            DecodeError: The file is not a picture.
            InvalidQueryError: The query cannot be parsed, or k is out of range.
            UsageError: A filter or the mode is invalid, or an argument has the wrong type.
        """
        return self._run(
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

    def search_speech(
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
        """Return the pictures that match a spoken description best; the server recognizes it.

        Args:
            sound: Path of a sound file on this machine, which is uploaded, or the content of such a
                file as bytes; at most 60 seconds.
            k: Maximum number of hits, 1000 at most.
            language: Code of the language that is spoken, such as ``de``; None to detect it.
            without: See `search`; the other arguments, too.
            like: See `search`.
            unlike: See `search`.
            filters: See `search`.
            mode: See `search`.
            min_score: See `search`.
            min_confidence: See `search`.
            sort: See `search`.
            fold: See `search`.
            literal: See `search`.
            literal_words: See `search`.

        Returns:
            The hits; their attribute ``heard`` has the words that were searched for.

        Raises:
            SourceError: The file cannot be read.
            DecodeError: It is not a recording, or is too long.
            InvalidQueryError: Nobody speaks in it, or k is out of range.
            MissingExtraError: The server lacks the extra ``speech``.
            UsageError: An argument has the wrong type, or the model does not recognize the
                language.
        """
        return self._run(
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

    def search_many(
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
        """Return the hits of each of several queries; a request carries a hundred of them.

        Args:
            queries: Descriptions, or queries of `mmsearch.parse_query`.
            k: Maximum number of hits of each, 200 at most.
            syntax: See `search`; the other arguments hold for all queries.
            without: See `search`.
            filters: See `search`.
            mode: See `search`.
            min_score: See `search`.
            min_confidence: See `search`.
            sort: See `search`.
            fold: See `search`.
            literal: See `search`.
            literal_words: See `search`.

        Raises:
            MMSearchError: See `search`. The first error of a query is raised.
        """
        return self._run(
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

    def add(
        self,
        images: Iterable[Any],
        ids: Iterable[str] | None = None,
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
        keep_originals: bool = False,
    ) -> WriteReport:
        """Add pictures by ids of your own, or replace those that have the same ids.

        The inputs are read together and sent in batches, so generators of any length will do. What
        a returned call has added is found by all searches. A picture that cannot be read is in the
        report, and the others are added; the former picture with its id stays. After an error,
        the same call may be repeated: pictures that are there already stay as they are.

        Args:
            images: Pictures: bytes of files, paths on this machine, files open for reading, URLs
                (for a server that fetches them), Pillow images or uint8 arrays of shape (h, w, 3).
            ids: An id for each picture; default: the sha256 of its content.
            texts: Texts of each picture: a caption, a list of captions, a mapping such as
                ``{"title": "...", "keywords": ["a", "b"]}``, or None.
            metadata: Metadata of each picture: a mapping of strings to values that JSON has, or
                None.
            keep_originals: True to keep the content of each picture in the index.

        Raises:
            UsageError: An input has the wrong type or length.
            ForbiddenError: The server does not change its indexes.
            IndexLockedError: Another process is writing the index.
        """
        return self._run(
            self._flows.add(images, ids, texts, metadata, keep_originals=keep_originals)
        )

    def update(
        self,
        ids: str | Iterable[str],
        *,
        texts: Iterable[Any] | None = None,
        metadata: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """Replace the texts or the metadata of pictures that `add` has added.

        Args:
            ids: Ids of the pictures, or one id, whose texts and metadata are then not in lists.
            texts: New texts of each picture, as `add` takes them; None keeps all texts.
            metadata: New metadata of each picture; None keeps all metadata.

        Raises:
            UnknownNameError: There is no picture with one of the ids. Of up to a thousand pictures,
                none was changed.
            UsageError: An input has the wrong type or length.
        """
        self._run(self._flows.update(ids, texts, metadata))

    def delete(self, ids: str | Iterable[str]) -> int:
        """Delete pictures that `add` has added; return how many there were.

        Args:
            ids: Ids of the pictures, or one id; unknown ones are ignored.
        """
        return self._run(self._flows.delete(ids))

    def get(self, key: str) -> Item | None:
        """Return the picture that `add` has added with an id; None without one.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.get(key))

    def __contains__(self, key: object) -> bool:
        """Return True if `add` has added a picture with this id."""
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self.status().pictures

    def __bool__(self) -> bool:
        """Return True: a client of an index without pictures is a client, too."""
        return True

    def __iter__(self) -> Iterator[Item]:
        """Iterate over all pictures, in the order of their ids."""
        cursor: str | None = None
        while True:
            page = self._run(self._flows.list_items(cursor))
            yield from page.items
            if (cursor := page.next_cursor) is None:
                return

    # --- pictures ---

    def picture(self, image_id: PictureId) -> Item | None:
        """Return a picture by its id, or None if it does not exist.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.picture(image_id))

    def thumbnail(self, picture: PictureId, size: str = "medium") -> bytes:
        """Return a thumbnail of a picture, as WebP.

        Args:
            picture: A picture of the index or its id.
            size: ``small``, ``medium`` or ``large``: the long side has 160, 400 or 1280 pixels.

        Raises:
            UnknownNameError: The index has no such picture.
            GoneError: The file was deleted or has changed since it was indexed.
            DecodeError: The file cannot be decoded.
        """
        return self._run(self._flows.thumbnail(picture, size))

    def original(self, picture: PictureId) -> bytes:
        """Return the content of a picture's file.

        Args:
            picture: A picture of the index or its id.

        Raises:
            UnknownNameError: The index has no such picture.
            GoneError: The file was deleted or has changed since it was indexed.
        """
        return self._run(self._flows.original(picture))

    def embed_texts(self, texts: Texts) -> Vectors:
        """Return the unit vectors of texts in the index's space, as queries use them.

        Returns:
            Vectors, float32 (n, dim), one row per text.

        Raises:
            InvalidQueryError: There is no text.
            StateError: The index is empty, so it has no encoder yet.
        """
        return self._run(self._flows.embed_texts(texts))

    def embed_picture(self, image: PictureInput) -> Vectors:
        """Return the unit vector of a picture in the index's space.

        Args:
            image: A path on this machine, the content of a file as bytes, a Pillow image, a uint8
                array of shape (h, w, 3), or the URL of a picture.

        Returns:
            Vector, float32 (1, dim).

        Raises:
            SourceError: The file cannot be read, or the picture cannot be fetched from its URL.
            ForbiddenError: The server does not fetch URLs.
            DecodeError: The file is not a picture.
            StateError: The index is empty, so it has no encoder yet.
        """
        return self._run(self._flows.embed_picture(image))

    def status(self) -> IndexSummary:
        """Return the status of the index.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.status())

    def sources(self) -> list[SourceStatus]:
        """Return where the pictures of the index come from, oldest first.

        Raises:
            UnknownIndexError: The server has no such index.
        """
        return self._run(self._flows.sources())

    def start_job(
        self, source: str | None = None, *, retry_failed: bool = False, verify: bool = False
    ) -> JobStatus:
        """Start a job that updates the index from one of its sources, or from all.

        Args:
            source: Name of the source, one of `sources`; None for all.
            retry_failed: Retry files that failed before, even if they have not changed.
            verify: Read every file of folders, even if its size and times have not changed.

        Raises:
            UnknownNameError: The index has no such source.
            UsageError: A program added the pictures of the source, or there is no source.
            StateError: Another job is running, or the server does not run jobs.
        """
        return self._run(self._flows.start_job(source, retry_failed=retry_failed, verify=verify))

    def job(self, job: str | JobStatus) -> JobStatus:
        """Return the current state of a job.

        Raises:
            UnknownNameError: There is no such job.
        """
        return self._run(self._flows.job(job))

    def stop_job(self, job: str | JobStatus) -> JobStatus:
        """Stop a job early; everything that it has committed stays.

        Raises:
            UnknownNameError: There is no such job.
        """
        return self._run(self._flows.stop_job(job))

    def follow(self, job: str | JobStatus) -> Iterator[JobStatus]:
        """Yield the job each time it changes, until it ends.

        Raises:
            UnknownNameError: There is no such job.
            UnreachableError: The server closed the stream before the job ended.
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
