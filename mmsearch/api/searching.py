"""The half of an `Index` that searches."""

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
"""Queries of many that are asked together."""


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
        """The pictures that fit a description best.

        Args:
            query: A line of the query language (docs/query-language.md), or its parts.
            k: How many at most.
            filters: Which pictures may be found; for a line only.
            mode: ``vector``, ``text`` or ``hybrid``; for a line only. Default: hybrid if the index
                has texts.
            min_score: Hits with a lower `Hit.score` are left out.
            min_confidence: Hits with a lower `Hit.confidence` are left out.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            InvalidQueryError: The query asks for nothing, or k is below 1.
            SourceError: A picture of the query cannot be read.
            UnknownNameError: The index has no picture of an id of the query.
        """
        parsed = self._parse_query(query, filters, mode)
        return list(self.query(SearchRequest(parsed, k, min_score, min_confidence)).hits)

    @report_damage
    def similar(
        self, image: StrPath | int, k: int = 10, *, min_score: float | None = None
    ) -> list[Hit]:
        """The pictures that look most like a picture; if it is in the index itself, it is first.

        A picture of the index is not encoded again; asked for by its id, it needs no file.

        Args:
            image: A file, or a picture of the index by its id (`Hit.id`).
            k: How many at most.
            min_score: Hits below this cosine similarity are left out.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            SourceError: The file cannot be read as a picture.
            UnknownNameError: The index has no picture of that id.
        """
        if isinstance(image, int):
            term = Term(picture=image)
        else:
            term = Term(image=Path(os.fsdecode(image)))
        return list(self.query(SearchRequest(Query((term,)), k, min_score)).hits)

    @report_damage
    def query(self, request: SearchRequest) -> SearchResult:
        """As `search`, with timings, devices and the generation that was searched."""
        (answer,) = self.search_many([request])
        return _raise_or_return(answer)

    def iter_search(self, requests: Sequence[SearchRequest]) -> Iterator[SearchResult]:
        """The answers to many queries, in their order; so many at a time are asked together."""
        starts = range(0, len(requests), QUERY_BATCH_SIZE)
        answers = (self.search_many(requests[start : start + QUERY_BATCH_SIZE]) for start in starts)
        return map(_raise_or_return, chain.from_iterable(answers))

    @report_damage
    def search_many(self, requests: Sequence[SearchRequest]) -> list[SearchResult | MMSearchError]:
        """Queries asked together: their texts are encoded in batches, and the vectors read once.

        Returns:
            An answer for each, or the error that says why there is none.
        """
        try:
            return self._search_batch(requests)
        except EncoderMismatchError:
            # The index has another encoder since it was opened.
            self.close()
            return self._search_batch(requests)

    @report_damage
    def encode(
        self, requests: Sequence[SearchRequest]
    ) -> list[EncodedQuery | MMSearchError] | None:
        """The first half of `search_many`, for callers with two threads.

        One thread at a time may encode while another one answers; whatever else is done with an
        index needs it alone.

        Returns:
            None while the index holds nothing that could be searched.

        Raises:
            EncoderMismatchError: The index has another encoder since it was opened; `search_many`
                finds it.
        """
        engine = self._load_engine()
        return None if engine is None else engine.encode(requests)

    @report_damage
    def answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """The second half: the answers to what was encoded.

        Raises:
            EncoderMismatchError: As for `encode`.
            StateError: The index holds nothing any more.
        """
        engine = self._load_engine()
        if engine is None:
            raise empty_index_error()
        return engine.answer(encoded)

    @report_damage
    def embed(self, terms: Sequence[Term]) -> Vectors:
        """The unit vectors of texts and pictures in the index's own space, as queries use them.

        Args:
            terms: What to encode; weights change nothing.

        Returns:
            float32 (n, dim), a row a term.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
            StateError: It holds no pictures yet, and so no encoder was chosen.
            SourceError: A picture cannot be read.
            UnknownNameError: The index has no picture of that id.
        """
        engine = self._load_engine()
        if engine is None:
            raise empty_index_error()
        return engine.embed(terms)

    @report_damage
    def picture(self, image_id: int) -> PictureRecord | None:
        """What is known of a picture by its id (`Hit.id`); None if no such picture can be found.

        Raises:
            UnknownIndexError: Nothing was ever indexed into it.
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
        """A JPEG of a hit whose long side is at most ``edge_px``; None if it cannot be read.

        Nor if its file is not what was indexed any more, or lies outside of its folder.
        """
        try:
            record = self.picture(hit.id)
            if record is None:
                return None
            return self._open_originals().thumbnail(record, edge_px, "JPEG")
        except (DecodeError, GoneError, ForbiddenError):
            return None

    def original(self, hit: Hit) -> Path:
        """The file of a hit, which holds the picture that was indexed.

        Raises:
            GoneError: The file is not there, or is not what was indexed.
            ForbiddenError: It lies outside of its folder, or is not named like a picture.
            DecodeError: Its content is no picture that can be read.
        """
        record = self.picture(hit.id)
        if record is None:
            raise GoneError(f"Index {self.name!r} has no picture {hit.id} any more.")
        return Path(os.fsdecode(self._open_originals().path_and_format(record)[0]))

    def release(self) -> None:
        """Free the memory and the processes that only pictures of queries take; texts stay fast."""
        if self._engine is not None:
            self._engine.release()
        if self._image_loader is not None:
            self._image_loader.close()

    def close(self) -> None:
        """Free files and memory; the index may be used again afterwards."""
        super().close()
        self._engine = None
        self._image_loader = None

    def _load_engine(self) -> SearchEngine | None:
        """None while the index holds nothing that could be searched."""
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
    """The answer of an index that holds nothing yet."""
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
