"""The searches of an index, or of several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from mmsearch.api._session import IndexSession, result_or_raise, translate_errors
from mmsearch.api.parsing import parse_query, to_query
from mmsearch.api.pictures import open_terms
from mmsearch.core.arguments import (
    FilterValues,
    PictureIds,
    PictureInput,
    Texts,
    to_texts,
)
from mmsearch.core.errors import MMSearchError
from mmsearch.core.hit_list import HitList
from mmsearch.core.query import EncodedQuery, Query, SearchRequest, Term
from mmsearch.core.results import Hit, SearchResult
from mmsearch.core.types import Vectors

if TYPE_CHECKING:
    from mmsearch.core.speech import Transcript

QUERY_BATCH_SIZE = 64
"""Number of queries that are searched as one batch."""


@translate_errors
class IndexSearch:
    """The part of `mmsearch.Index` that searches, which `FederatedIndex` has, too."""

    _session: IndexSession

    def _thumbnail(self, hit: Hit, edge_px: int) -> bytes | None:
        """Return a thumbnail of a hit; see `Index.thumbnail`."""
        raise NotImplementedError

    def search(
        self,
        query: str | Query | Transcript,
        k: int = 10,
        *,
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
    ) -> HitList:
        """Return the pictures that match a description best.

        A path in the text of a query opens no file, and signs such as ``-`` and ``+`` are part of
        the description, so that it may come from anyone. Dates ("last summer", "in 2019") and names
        of people and places of this index are read as filters, in five languages, unless they stand
        in quotation marks; the attribute `understood` of the hits says what was read. A query that
        is nothing else lists the newest pictures.

        Args:
            query: A description; a transcript of `listen`, which is one, too; or a query of
                `parse_query`. A description may be empty if ``like`` is given.
            k: Maximum number of hits.
            syntax: True if the text is a line of the query language, which may name files.
            without: Descriptions of what hits should not look like.
            like: Pictures of the index (`Hit`, or `Hit.id`) that hits should look like, such as
                hits that are right.
            unlike: Pictures of the index that hits should not look like, such as hits that are
                wrong; they are left out.
            filters: Filters that restrict the results, or a mapping of them such as
                ``{"after": "2019", "camera": "nikon"}``.
            mode: ``vector``, ``text`` or ``hybrid``. Default: hybrid if the index has texts, else
                vector.
            min_score: Hits with a lower `Hit.score` are left out.
            min_confidence: Hits with a lower `Hit.confidence` are left out.
            sort: Order of the k best hits: ``score``, ``date``, ``-date`` (newest first), ``name``,
                ``-name``, ``size`` (of the file) or ``-size``.
            fold: Show one of near duplicates and of a burst; see `Hit.folded`.
            literal: True to read no filters in the words.
            literal_words: Words or phrases in which nothing is read.

        Raises:
            UnknownIndexError: The index does not exist.
            InvalidQueryError: The query is empty or invalid, the mode is unknown, or k is below 1.
            SourceError: A picture of the query cannot be read.
            UnknownNameError: The index has no picture with an id in the query.
            UsageError: An argument has the wrong type, or a parsed query is combined with an option
                that it has itself.
        """
        query = to_query(
            query,
            syntax=syntax,
            without=without,
            like=like,
            unlike=unlike,
            filters=filters,
            mode=mode,
        )
        result = self._session.search_one(
            SearchRequest(
                query,
                k,
                min_score,
                min_confidence,
                sort=sort,
                fold=fold,
                literal=literal,
                literal_words=tuple(to_texts(literal_words)),
            )
        )
        return self._list_hits(result)

    def similar(
        self,
        image: PictureInput,
        k: int = 10,
        *,
        min_score: float | None = None,
        sort: str = "score",
        fold: bool = True,
    ) -> HitList:
        """Return the pictures most similar to a picture; an indexed picture itself comes first.

        An indexed picture is not encoded again. If it is given by its id, its file is not needed.

        Args:
            image: Path of a file; the content of a file as bytes; a Pillow image; a uint8 array of
                shape (h, w, 3) in RGB, (h, w, 4) in RGBA or (h, w) in grey; or an indexed picture
                (`Hit`, or `Hit.id`).
            k: Maximum number of hits.
            min_score: Hits below this cosine similarity are left out.
            sort: See `search`.
            fold: See `search`; False lists the near duplicates of the picture as hits of their own.

        Raises:
            UnknownIndexError: The index does not exist.
            SourceError: The file cannot be read as a picture.
            UnknownNameError: The index has no picture with that id.
            UsageError: The picture is of another type or shape.
        """
        with open_terms([image], texts=False) as terms:
            request = SearchRequest(Query(terms), k, min_score, sort=sort, fold=fold)
            result = self._session.search_one(request)
        return self._list_hits(result)

    def _list_hits(self, result: SearchResult) -> HitList:
        return HitList(
            result.hits,
            self._thumbnail,
            calibrated=result.calibrated,
            notices=result.notices,
            understood=result.understood,
        )

    def query(self, request: SearchRequest) -> SearchResult:
        """Return the result of a request, with timings, devices and the searched generation."""
        return self._session.search_one(request)

    def iter_search(self, requests: Sequence[SearchRequest]) -> Iterator[SearchResult]:
        """Return an iterator over the results of many queries, searched in batches, in order."""
        starts = range(0, len(requests), QUERY_BATCH_SIZE)
        answers = (self.search_many(requests[start : start + QUERY_BATCH_SIZE]) for start in starts)
        return map(result_or_raise, chain.from_iterable(answers))

    def search_many(
        self,
        queries: Sequence[str | Query | SearchRequest],
        k: int = 10,
        *,
        filters: FilterValues | None = None,
        mode: str | None = None,
        fold: bool = True,
        literal: bool = False,
    ) -> list[SearchResult | MMSearchError]:
        """Search several queries as one batch: texts are encoded together, vectors read once.

        Args:
            queries: Descriptions, which are literal; queries of `parse_query`; or requests.
            k: Maximum number of hits of each description and query.
            filters: Filters of each description; see `search`.
            mode: Mode of each description; see `search`.
            fold: See `search`; a request has its own.
            literal: See `search`; a request has its own.

        Returns:
            The result or the error of each query, in order.

        Raises:
            UsageError: An argument has the wrong type.
        """
        requests: list[SearchRequest] = []
        for query in queries:
            if isinstance(query, str):
                # An empty query is an error in its place, not of all.
                parsed = (
                    parse_query(query, filters=filters, mode=mode, syntax=False)
                    if query.strip()
                    else Query(())
                )
                requests.append(SearchRequest(parsed, k, fold=fold, literal=literal))
            elif isinstance(query, Query):
                requests.append(SearchRequest(query, k, fold=fold, literal=literal))
            else:
                requests.append(query)
        return self._session.search(requests)

    def encode(
        self, requests: Sequence[SearchRequest]
    ) -> list[EncodedQuery | MMSearchError] | None:
        """Encode queries: the first half of `search_many`.

        One thread encodes while another one answers.

        Returns:
            The encoded query or the error of each request; None while the index is empty.

        Raises:
            EncoderMismatchError: The encoder of the index has changed since it was opened;
                `search_many` reopens the index in this case.
        """
        return self._session.encode(requests)

    def answer(
        self, encoded: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """Answer encoded queries: the second half of `search_many`.

        Raises:
            EncoderMismatchError: The encoder of the index has changed since it was opened.
            StateError: The index is empty.
        """
        return self._session.answer(encoded)

    def embed(
        self, inputs: Term | str | PictureInput | Iterable[Term | str | PictureInput]
    ) -> Vectors:
        """Return the unit vectors of texts and pictures, as queries use them.

        Args:
            inputs: What to encode, one or several: texts, which are literal; pictures as `similar`
                takes them, except that a path must be a `pathlib.Path`; or terms, whose weights are
                ignored.

        Returns:
            float32 (n, dim), one row for each input, in the embedding space of the index's encoder.

        Raises:
            UnknownIndexError: The index does not exist.
            StateError: The index is empty, so that it has no encoder yet.
            InvalidQueryError: There is nothing to encode, or a text is empty.
            SourceError: A picture cannot be read.
            UnknownNameError: The index has no picture with that id.
            UsageError: An input is of another type.
        """
        with open_terms(inputs, texts=True) as terms:
            return self._session.embed(terms)

    def release(self) -> None:
        """Free what only pictures and speech need; queries of texts stay fast."""
        self._session.release()
