"""query -> vectors -> search -> blend -> records -> hits, all on one generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.evidence import Phrase
from mmsearch.core.protocols import Blend, Encoder, Fusion
from mmsearch.core.queries import Mode, Query, Term
from mmsearch.core.requests import SearchRequest, SearchResult
from mmsearch.core.types import FusionSpec, Kind, Vectors
from mmsearch.engine.confidence import NULL_PROMPTS, band
from mmsearch.engine.encode_query import QueryEncoder
from mmsearch.engine.hits import make_hits
from mmsearch.engine.newest import newest
from mmsearch.engine.query import check_terms, refuse_urls, written
from mmsearch.engine.rank import Found, Library, compose, rank_hybrid, rank_texts, rank_vectors
from mmsearch.engine.sample import Sampler
from mmsearch.engine.stored_pictures import Stored
from mmsearch.engine.view import View, ViewLoader

JUDGED = 10
"""So many hits are looked at to say whether there is a match, however few are shown."""


class SearchEngine:
    """Answers queries. One thread at a time: a vector index on a GPU allows no more.

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

    def search(self, request: SearchRequest) -> SearchResult:
        """The pictures that fit a query best.

        Raises:
            InvalidQueryError: The query asks for nothing, or k is below 1.
            SourceError: A picture of the query cannot be read.
            UnknownNameError: The index has no picture of an id of the query.
        """
        query = request.query
        check_terms(query.terms)
        refuse_urls(query.terms)
        if request.k < 1:
            raise InvalidQueryError(
                f"{request.k} hits were asked for.", "Ask for at least one: -k 10"
            )
        timings: dict[str, float] = {}
        with _timed(timings, "encode"):
            stored = {} if query.mode is Mode.TEXT else self._queries.stored(query.terms)
            vectors = self._vectors(query, stored)
            explained = request.explain and vectors is not None
            nothing = self._queries.kept_mean(NULL_PROMPTS) if explained else None
        opening = partial(self._opened, timings)
        with newest(self._catalog, self._encoder, opening) as (snapshot, view):
            pictures = snapshot.pictures
            with _timed(timings, "search"):
                mode, found, library = self._find(request, snapshot, view, vectors)
            with _timed(timings, "hits"):
                phrases = _phrases(query) if request.explain else []
                hits = make_hits(
                    snapshot, library, found, phrases, nothing, self._encoder.calibration
                )
        best = max((hit.confidence for hit in hits[:JUDGED]), default=None)
        shown = [hit for hit in hits[: request.k] if _passes(hit.score, hit.confidence, request)]
        devices = {kind.value: self._encoder.device(kind) for kind in _kinds(query, stored)}
        return SearchResult(
            query=written(query.terms),
            mode=mode,
            hits=shown,
            match=band(best) if request.explain and best is not None else None,
            calibrated=self._encoder.calibration.measured,
            generation=snapshot.generation,
            pictures=pictures,
            passed=library.size,
            encoder=self._encoder.spec.name,
            timings_s=timings,
            dropped_tokens=self._queries.dropped_tokens(query.terms) if vectors is not None else 0,
            devices={**devices, "vector_index": view.device},
        )

    def warm(self, requests: Sequence[SearchRequest]) -> None:
        """Encode the texts of many queries that will be asked, in batches."""
        for prompts in {request.query.prompts for request in requests}:
            same = [r.query for r in requests if r.query.prompts == prompts]
            self._queries.warm((term for query in same for term in query.terms), prompts)

    def embed(self, terms: Sequence[Term]) -> Vectors:
        """float32 (n, dim), a unit row a term; see `QueryEncoder.vectors`."""
        refuse_urls(terms)
        return self._queries.vectors(terms, stored=self._queries.stored(terms))

    def rest(self) -> None:
        """Free what only pictures of queries need."""
        self._encoder.release(Kind.IMAGE)

    def _vectors(self, query: Query, stored: Stored) -> NDArray[np.float32] | None:
        """None if words alone decide."""
        if query.mode is Mode.TEXT:
            return None
        return self._queries.vectors(query.terms, query.prompts, stored)

    def _find(
        self,
        request: SearchRequest,
        snapshot: Snapshot,
        view: View,
        vectors: NDArray[np.float32] | None,
    ) -> tuple[Mode, Found, Library]:
        query = request.query
        phrases = _phrases(query)
        allowed = snapshot.allowed(query.filters) if query.filters else None
        spec = snapshot.identity.fusion if snapshot.identity else FusionSpec()
        library = Library(view, snapshot, self._make_fusion(spec), allowed, self._sampler)
        depth = min(max(request.k, JUDGED), max(library.size, 1))
        mode = _mode(query, snapshot, phrases)
        if vectors is None or mode is Mode.TEXT:
            return mode, rank_texts(library, phrases, depth), library
        looked_for = compose(library, vectors, [term.weight for term in query.terms])
        if mode is Mode.VECTOR:
            return mode, rank_vectors(library, looked_for, depth), library
        blend = self._make_blend(query.blend or self._default_blend)
        return mode, rank_hybrid(library, looked_for, phrases, blend, depth), library

    def _opened(self, timings: dict[str, float], snapshot: Snapshot) -> View:
        with _timed(timings, "open"):
            return self._views.view(snapshot)


def _mode(query: Query, snapshot: Snapshot, phrases: Sequence[Phrase]) -> Mode:
    """What decides, as far as the query has words and the index has texts."""
    words = any(phrase.weight > 0 for phrase in phrases)
    if query.mode is Mode.TEXT and not words:
        raise InvalidQueryError(
            "A query without words cannot be looked for in texts.", "Leave --mode text away."
        )
    if not words:
        return Mode.VECTOR
    return query.mode or (Mode.HYBRID if snapshot.has_texts else Mode.VECTOR)


def _phrases(query: Query) -> list[Phrase]:
    return [Phrase(term.text, term.weight) for term in query.terms if term.text]


def _kinds(query: Query, stored: Stored) -> list[Kind]:
    """What had to be encoded."""
    if query.mode is Mode.TEXT:
        return []
    encoded = [term for term in query.terms if term not in stored]
    kinds = {Kind.IMAGE if term.image is not None else Kind.TEXT for term in encoded}
    return sorted(kinds, reverse=True)


def _passes(score: float, confidence: float, request: SearchRequest) -> bool:
    least_score = -np.inf if request.min_score is None else request.min_score
    least_confidence = 0.0 if request.min_confidence is None else request.min_confidence
    return score >= least_score and confidence >= least_confidence


@contextmanager
def _timed(timings: dict[str, float], step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - began
