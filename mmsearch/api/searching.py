"""Search methods of `Index`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.api.damage import report_damage
from mmsearch.api.keeping import BaseIndex, StrPath
from mmsearch.core.compatibility import empty_index_error
from mmsearch.core.errors import (
    DecodeError,
    EncoderMismatchError,
    ForbiddenError,
    GoneError,
    MMSearchError,
)
from mmsearch.core.queries import Filters, Mode, Query, Term
from mmsearch.core.records import PictureRecord
from mmsearch.core.requests import EncodedQuery, Hit, SearchRequest, SearchResult
from mmsearch.core.types import Vectors
from mmsearch.factories import catalogs
from mmsearch.factories.search import make_image_loader, make_search_engine
from mmsearch.search.engine import SearchEngine, check_request
from mmsearch.search.image_loader import SandboxedImageLoader
from mmsearch.search.query_parser import format_query, parse_query

if TYPE_CHECKING:
    from mmsearch.search.originals import Originals

QUERY_BATCH_SIZE = 64
"""Number of queries that are searched as one batch."""


class SearchableIndex(BaseIndex):
    """An index that answers queries."""

    _engine: SearchEngine | None = None
    _image_loader: SandboxedImageLoader | None = None

    @report_damage
    def search(
        self,
        query: str | Query,
        k: int = 10,
        *,
        filters: Filters | None = None,
        mode: str | None = None,
        min_score: float | None = None,
        min_confidence: float | None = None,
    ) -> list[Hit]:
        """Return the pictures that match a description best.

        Args:
            query: A line of the query language (docs/query-language.md), or a parsed query.
            k: Maximum number of hits.
            filters: Filters that restrict the results; ignored for a parsed query.
            mode: ``vector``, ``text`` or ``hybrid``; ignored for a parsed query. Default: hybrid if
                the index has texts, else vector.
            min_score: Hits with a lower `Hit.score` are left out.
            min_confidence: Hits with a lower `Hit.confidence` are left out.

        Raises:
            UnknownIndexError: The index does not exist.
            InvalidQueryError: The query is empty or invalid, or k is below 1.
            SourceError: A picture of the query cannot be read.
            UnknownNameError: The index has no picture with an id in the query.
        """
        parsed = self._parse_query(query, filters, mode)
        return list(self.query(SearchRequest(parsed, k, min_score, min_confidence)).hits)

    @report_damage
    def similar(
        self, image: StrPath | int, k: int = 10, *, min_score: float | None = None
    ) -> list[Hit]:
        """Return the pictures most similar to a picture; an indexed picture itself comes first.

        An indexed picture is not encoded again. If it is given by its id, its file is not needed.

        Args:
            image: Path of a file, or id of an indexed picture (`Hit.id`).
            k: Maximum number of hits.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            UnknownIndexError: The index does not exist.
            SourceError: The file cannot be read as a picture.
            UnknownNameError: The index has no picture with that id.
        """
        if isinstance(image, int):
            term = Term(picture=image)
        else:
            term = Term(image=Path(os.fsdecode(image)))
        return list(self.query(SearchRequest(Query((term,)), k, min_score)).hits)

    @report_damage
    def query(self, request: SearchRequest) -> SearchResult:
        """Return the result of a request, with timings, devices and the searched generation."""
        (answer,) = self.search_many([request])
        return _raise_or_return(answer)

    def iter_search(self, requests: Sequence[SearchRequest]) -> Iterator[SearchResult]:
        """Return an iterator over the results of many queries, searched in batches, in order."""
        starts = range(0, len(requests), QUERY_BATCH_SIZE)
        answers = (self.search_many(requests[start : start + QUERY_BATCH_SIZE]) for start in starts)
        return map(_raise_or_return, chain.from_iterable(answers))

    @report_damage
    def search_many(self, requests: Sequence[SearchRequest]) -> list[SearchResult | MMSearchError]:
        """Search several queries as one batch: texts are encoded together, vectors read once.

        Returns:
            The result or the error of each query, in order.
        """
        try:
            return self._search_batch(requests)
        except EncoderMismatchError:
            # The encoder of the index has changed since it was opened.
            self.close()
            return self._search_batch(requests)

    @report_damage
    def encode(
        self, requests: Sequence[SearchRequest]
    ) -> list[EncodedQuery | MMSearchError] | None:
        """Encode queries: the first half of `search_many`, for callers with two threads.

        One thread may encode while another one answers. All other methods need exclusive use of
        the index.

        Returns:
            The encoded query or the error of each request; None while the index is empty.

        Raises:
            EncoderMismatchError: The encoder of the index has changed since it was opened;
                `search_many` reopens the index in this case.
        """
        engine = self._load_engine()
        return None if engine is None else engine.encode(requests)

    @report_damage
    def answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """Answer encoded queries: the second half of `search_many`.

        Raises:
            EncoderMismatchError: The encoder of the index has changed since it was opened.
            StateError: The index is empty.
        """
        engine = self._load_engine()
        if engine is None:
            raise empty_index_error()
        return engine.answer(encoded)

    @report_damage
    def embed(self, terms: Sequence[Term]) -> Vectors:
        """Return the unit vectors of texts and pictures, as queries use them.

        Args:
            terms: Texts and pictures to encode; their weights are ignored.

        Returns:
            float32 (n, dim), one row for each term, in the embedding space of the index's encoder.

        Raises:
            UnknownIndexError: The index does not exist.
            StateError: The index is empty, so that it has no encoder yet.
            SourceError: A picture cannot be read.
            UnknownNameError: The index has no picture with that id.
        """
        engine = self._load_engine()
        if engine is None:
            raise empty_index_error()
        return engine.embed(terms)

    @report_damage
    def picture(self, image_id: int) -> PictureRecord | None:
        """Return the record of a picture by its id (`Hit.id`); None if there is no such picture.

        Raises:
            UnknownIndexError: The index does not exist.
        """
        with self._reader().snapshot() as snapshot:
            try:
                record = snapshot.records([image_id])[0]
            except KeyError:
                return None
        return record if record.paths else None

    def _search_batch(
        self, requests: Sequence[SearchRequest]
    ) -> list[SearchResult | MMSearchError]:
        encoded = self.encode(requests)
        if encoded is None:
            return [_empty_result(request) for request in requests]
        return self.answer(encoded)

    @staticmethod
    def _parse_query(query: str | Query, filters: Filters | None, mode: str | None) -> Query:
        if isinstance(query, Query):
            return query
        return Query(parse_query(query), filters or Filters(), None if mode is None else Mode(mode))

    def thumbnail(self, hit: Hit, edge_px: int = 256) -> bytes | None:
        """Return a JPEG thumbnail of a hit whose long side is at most ``edge_px`` pixels.

        Return None if the picture cannot be read, or if its file is missing, has changed since it
        was indexed, or is outside its folder.
        """
        try:
            record = self.picture(hit.id)
            if record is None:
                return None
            return self._open_originals().thumbnail(record, edge_px, "JPEG")
        except (DecodeError, GoneError, ForbiddenError):
            return None

    def original(self, hit: Hit) -> Path:
        """Return the path of a hit's file after verifying that its content is unchanged.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or its name is not that of a picture.
            DecodeError: The content is not a readable picture.
        """
        record = self.picture(hit.id)
        if record is None:
            raise GoneError(f"Index {self.name!r} has no picture {hit.id} any more.")
        return Path(os.fsdecode(self._open_originals().path_and_format(record)[0]))

    def release(self) -> None:
        """Free the memory and the processes that only query pictures need; texts stay fast."""
        if self._engine is not None:
            self._engine.release()
        if self._image_loader is not None:
            self._image_loader.close()

    def close(self) -> None:
        """Release files and memory. The index can be used again afterwards."""
        super().close()
        self._engine = None
        self._image_loader = None

    def _load_engine(self) -> SearchEngine | None:
        """Return the search engine; None while the index is empty."""
        if self._engine is None:
            catalog = catalogs.open_reader(self._layout)
            identity = catalog.identity()
            if identity is None:
                catalog.close()
                return None
            self._resources.callback(catalog.close)
            self._engine = make_search_engine(
                self._layout,
                catalog,
                identity,
                self._get_image_loader(),
                self._settings,
                self._on_message,
            )
        return self._engine

    def _open_originals(self) -> Originals:
        from mmsearch.search.originals import Originals  # noqa: PLC0415 - searches never need it

        return Originals(self._get_image_loader(), follow_links=self._settings.follow_symlinks)

    def _get_image_loader(self) -> SandboxedImageLoader:
        if self._image_loader is None:
            self._image_loader = make_image_loader(self._settings)
            self._resources.callback(self._image_loader.close)
        return self._image_loader


def _raise_or_return(answer: SearchResult | MMSearchError) -> SearchResult:
    if isinstance(answer, MMSearchError):
        raise answer
    return answer


def _empty_result(request: SearchRequest) -> SearchResult | MMSearchError:
    """Return the result of a request to an empty index, or its error if it is invalid."""
    try:
        check_request(request)
    except MMSearchError as error:
        return error
    return SearchResult(
        format_query(request.query.terms),
        request.query.mode or Mode.VECTOR,
        hits=(),
        match=None,
        calibrated=False,
        generation=0,
        pictures=0,
        passed=0,
        encoder="",
        timings_s={},
        dropped_tokens=0,
        devices={},
    )
