"""query -> vectors -> search -> blend -> records -> hits, all on one generation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.errors import EncoderMismatchError, InvalidQueryError, MMSearchError
from mmsearch.core.protocols import Blend, Encoder, Fusion
from mmsearch.core.queries import Filters, Mode, Query, Term
from mmsearch.core.requests import EncodedRequest, Hit, SearchRequest, SearchResult
from mmsearch.core.types import FusionSpec, Kind, Vectors
from mmsearch.search.background_sample import Sampler
from mmsearch.search.confidence import NULL_PROMPTS, band
from mmsearch.search.error_mapping import each
from mmsearch.search.hits import Known, make_hits
from mmsearch.search.index_reader import View, ViewLoader
from mmsearch.search.latest_snapshot import newest
from mmsearch.search.plan import Aim, nearest, rank
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.query_parser import check_terms, refuse_urls, written
from mmsearch.search.retrieval import Found, Library
from mmsearch.search.stored_vectors import Stored

JUDGED = 10
"""So many hits are looked at to say whether there is a match, however few are shown."""


class SearchEngine:
    """Answers queries.

    A query is encoded, then answered. One thread at a time may encode, and one, the same or
    another, may answer: a vector index on a GPU allows no more.

    Args:
        catalog: Open for reading.
        views: Opens the vectors of a generation.
        encoder: The index's own.
        queries: With the same encoder.
        make_fusion: The fusion of a generation may be another than that of the last one.
        make_blend: By name.
        default_blend: In hybrid mode.
    """

    def __init__(
        self,
        catalog: Reader,
        views: ViewLoader,
        encoder: Encoder,
        queries: QueryEncoder,
        make_fusion: Callable[[FusionSpec], Fusion],
        make_blend: Callable[[str], Blend],
        default_blend: str,
    ) -> None:
        self._catalog = catalog
        self._views = views
        self._encoder = encoder
        self._queries = queries
        self._make_fusion = make_fusion
        self._make_blend = make_blend
        self._default_blend = default_blend
        self._sampler = Sampler()

    def encode(self, requests: Sequence[SearchRequest]) -> list[EncodedRequest | MMSearchError]:
        """Encode what is asked together; the texts in batches.

        Returns:
            In the place of a query that asks for nothing, or names a picture that cannot be read or
            is not there, the error that says so.

        Raises:
            EncoderMismatchError: The index was encoded anew, with another encoder.
        """
        began = time.perf_counter()
        checked = each(check_request, requests)
        if len(requests) > 1:
            # Whose query it is that cannot be encoded shows when it is encoded by itself.
            with suppress(MMSearchError):
                self._warm([one.query for one in checked if isinstance(one, SearchRequest)])
        return each(partial(self._encoded, began), checked)

    def answer(
        self, asked: Sequence[EncodedRequest | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """The pictures that fit each query best, all in the newest generation.

        Args:
            asked: As `encode` gave it; an error stays in its place.

        Raises:
            EncoderMismatchError: The index was encoded anew, with another encoder.
            MMSearchError: The index cannot be read.
        """
        self._refuse_strangers(asked)
        timings: dict[str, float] = {}
        opening = partial(self._opened, timings)
        with newest(self._catalog, self._encoder, opening) as (snapshot, view):
            with _timed(timings, "search"):
                found = self._found(asked, snapshot, view)
            with _timed(timings, "hits"):
                hits = each(partial(self._judged, self._known(snapshot, found)), found)
            return each(partial(self._result, snapshot, view.device, timings), hits)

    def embed(self, terms: Sequence[Term]) -> Vectors:
        """float32 (n, dim), a unit row a term; see `QueryEncoder.vectors`."""
        refuse_urls(terms)
        return self._queries.vectors(terms, stored=self._queries.stored(terms))

    def rest(self) -> None:
        """Free what only pictures of queries need."""
        self._encoder.release(Kind.IMAGE)

    # --- encoding ---

    def _warm(self, queries: Sequence[Query]) -> None:
        by_prompts: dict[tuple[str, ...] | None, list[Term]] = defaultdict(list)
        for query in queries:
            if query.mode is not Mode.TEXT:
                by_prompts[query.prompts].extend(query.terms)
        for prompts, terms in by_prompts.items():
            self._queries.warm(terms, prompts)

    def _encoded(self, began: float, request: SearchRequest) -> EncodedRequest:
        query, encoder = request.query, self._encoder.spec.fingerprint
        if query.mode is Mode.TEXT:
            return EncodedRequest(request, encoder, time.perf_counter() - began)
        stored = self._queries.stored(query.terms)
        vectors = self._queries.vectors(query.terms, query.prompts, stored)
        nothing = self._queries.kept_mean(NULL_PROMPTS) if request.explain else None
        return EncodedRequest(
            request,
            encoder,
            time.perf_counter() - began,
            vectors,
            nothing,
            self._queries.dropped_tokens(query.terms),
            {kind.value: self._encoder.device(kind) for kind in _kinds(query, stored)},
        )

    # --- answering ---

    def _refuse_strangers(self, asked: Sequence[EncodedRequest | MMSearchError]) -> None:
        own = self._encoder.spec.fingerprint
        for one in asked:
            if isinstance(one, EncodedRequest) and one.encoder != own:
                raise EncoderMismatchError(
                    "A query was encoded with another encoder.",
                    "Ask again.",
                    index=own,
                    encoder=one.encoder,
                )

    def _opened(self, timings: dict[str, float], snapshot: Snapshot) -> View:
        with _timed(timings, "open"):
            return self._views.view(snapshot)

    def _found(
        self, asked: Sequence[EncodedRequest | MMSearchError], snapshot: Snapshot, view: View
    ) -> list[_Found | MMSearchError]:
        fusion = self._make_fusion(snapshot.identity.fusion if snapshot.identity else FusionSpec())

        @cache
        def library(filters: Filters) -> Library:
            allowed = snapshot.allowed(filters) if filters else None
            return Library(view, snapshot, fusion, allowed, self._sampler)

        def aimed(one: EncodedRequest) -> tuple[EncodedRequest, Aim]:
            query = one.request.query
            depth = max(one.request.k, JUDGED)
            return one, Aim.of(query, one.vectors, library(query.filters), depth)

        def ranked(pair: tuple[EncodedRequest, Aim]) -> _Found:
            one, aim = pair
            blend = one.request.query.blend or self._default_blend
            return _Found(one, aim, rank(aim, next(near), partial(self._make_blend, blend)))

        aims = each(aimed, asked)
        near = iter(nearest([pair[1] for pair in aims if not isinstance(pair, MMSearchError)]))
        return each(ranked, aims)

    def _known(self, snapshot: Snapshot, found: Sequence[_Found | MMSearchError]) -> Known:
        queries = [one for one in found if isinstance(one, _Found)]
        # The same for all who want to know: one encoder made it.
        nothing = next((n for q in queries if (n := q.asked.nothing) is not None), None)
        library = queries[0].aim.library if queries else None
        return Known.of(snapshot, library, [query.found.ids for query in queries], nothing)

    def _judged(self, known: Known, one: _Found) -> tuple[_Found, list[Hit]]:
        explained, calibration = one.asked.request.explain, self._encoder.calibration
        phrases = one.aim.phrases if explained else []
        return one, make_hits(
            one.aim.library, one.found, known, phrases, calibration if explained else None
        )

    def _result(
        self,
        snapshot: Snapshot,
        device: str,
        timings: Mapping[str, float],
        judged: tuple[_Found, list[Hit]],
    ) -> SearchResult:
        (one, hits), request = judged, judged[0].asked.request
        best = max((hit.confidence for hit in hits[:JUDGED]), default=None)
        return SearchResult(
            query=written(request.query.terms),
            mode=one.aim.mode,
            hits=[hit for hit in hits[: request.k] if _passes(hit, request)],
            match=band(best) if request.explain and best is not None else None,
            calibrated=self._encoder.calibration.measured,
            generation=snapshot.generation,
            pictures=snapshot.pictures,
            passed=one.aim.library.size,
            encoder=self._encoder.spec.name,
            timings_s={"encode": one.asked.seconds, **timings},
            dropped_tokens=one.asked.dropped_tokens,
            devices={**one.asked.devices, "vector_index": device},
        )


@dataclass(frozen=True)
class _Found:
    """A query's candidates."""

    asked: EncodedRequest
    aim: Aim
    found: Found


def check_request(request: SearchRequest) -> SearchRequest:
    """Refuse a query that cannot be answered, whatever the index holds.

    Raises:
        InvalidQueryError: It asks for nothing, k is below 1, or a least value is not finite.
        SourceError: It names a picture that would have to be fetched.
    """
    check_terms(request.query.terms)
    refuse_urls(request.query.terms)
    if request.k < 1:
        raise InvalidQueryError(f"{request.k} hits were asked for.", "Ask for at least one: -k 10")
    for name, least in (("score", request.min_score), ("confidence", request.min_confidence)):
        if least is not None and not np.isfinite(least):
            raise InvalidQueryError(f"The least {name} is {least}.", "Give a finite number.")
    return request


def _kinds(query: Query, stored: Stored) -> list[Kind]:
    """What had to be encoded."""
    encoded = [term for term in query.terms if term not in stored]
    kinds = {Kind.IMAGE if term.image is not None else Kind.TEXT for term in encoded}
    return sorted(kinds, reverse=True)


def _passes(hit: Hit, request: SearchRequest) -> bool:
    least_score = -np.inf if request.min_score is None else request.min_score
    least_confidence = 0.0 if request.min_confidence is None else request.min_confidence
    return hit.score >= least_score and hit.confidence >= least_confidence


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - began
