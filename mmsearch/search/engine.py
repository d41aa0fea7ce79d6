"""Search engine: encodes queries, retrieves and ranks candidates, and builds hits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import numpy as np

from mmsearch.core.catalog import Reader, Snapshot
from mmsearch.core.errors import EncoderMismatchError, InvalidQueryError, MMSearchError
from mmsearch.core.protocols import Encoder, Fusion, RankFusion
from mmsearch.core.query import EncodedQuery, Filters, Mode, Query, SearchRequest, Term
from mmsearch.core.results import Hit, SearchResult
from mmsearch.core.types import FusionSpec, InputKind, Vectors
from mmsearch.search.confidence import NULL_PROMPTS, BackgroundSample, to_band
from mmsearch.search.hits import HitContext, make_hits
from mmsearch.search.index_reader import IndexReader, IndexReaderCache, open_latest_snapshot
from mmsearch.search.plan import QueryPlan, rank_candidates, retrieve_batch
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.query_parser import check_terms, format_query, reject_urls
from mmsearch.search.retrieval import Candidates, SearchScope
from mmsearch.search.stored_vectors import StoredVectors

MATCH_DEPTH = 10
"""Number of hits that decide if there is a match, even if fewer are returned."""


class SearchEngine:
    """Answers queries.

    A query is first encoded, then answered from one generation. Only one thread at a time may
    encode, and only one thread, the same or a different one, may answer: a vector index on a GPU
    does not allow more.

    Args:
        catalog: Catalog, open for reading.
        reader_cache: Opens the vectors of a generation.
        encoder: Encoder of the index.
        query_encoder: Encodes queries with the same encoder.
        make_fusion: Creates the fusion of a generation, which may differ from the previous one.
        make_rank_fusion: Creates a rank fusion by its name.
        default_rank_fusion: Name of the rank fusion of hybrid queries that do not name one.
    """

    def __init__(
        self,
        catalog: Reader,
        reader_cache: IndexReaderCache,
        encoder: Encoder,
        query_encoder: QueryEncoder,
        make_fusion: Callable[[FusionSpec], Fusion],
        make_rank_fusion: Callable[[str], RankFusion],
        default_rank_fusion: str,
    ) -> None:
        self._catalog = catalog
        self._reader_cache = reader_cache
        self._encoder = encoder
        self._query_encoder = query_encoder
        self._make_fusion = make_fusion
        self._make_rank_fusion = make_rank_fusion
        self._default_rank_fusion = default_rank_fusion
        self._background_sample = BackgroundSample()

    def encode(self, requests: Sequence[SearchRequest]) -> list[EncodedQuery | MMSearchError]:
        """Encode several queries; their texts are encoded in batches.

        Returns:
            An encoded query or an error for each request, in order. A query that is empty, or that
            names a picture that is missing or cannot be read, gives an error.

        Raises:
            EncoderMismatchError: The index was re-encoded with a different encoder.
        """
        started = time.perf_counter()
        checked = map_with_errors(check_request, requests)
        if len(requests) > 1:
            # A query that cannot be encoded raises again below, where the error is assigned to it.
            with suppress(MMSearchError):
                self._prefetch_texts(
                    [request.query for request in checked if isinstance(request, SearchRequest)]
                )
        return map_with_errors(partial(self._encode_one, started), checked)

    def answer(
        self, encoded_queries: Sequence[EncodedQuery | MMSearchError]
    ) -> list[SearchResult | MMSearchError]:
        """Return the best hits of each query, all from one snapshot of the latest generation.

        Args:
            encoded_queries: Result of `encode`; errors are returned unchanged, in their places.

        Raises:
            EncoderMismatchError: The index was re-encoded with a different encoder.
            MMSearchError: The index cannot be read.
        """
        self._check_fingerprints(encoded_queries)
        timings: dict[str, float] = {}
        open_reader = partial(self._open_reader, timings)
        with open_latest_snapshot(self._catalog, self._encoder, open_reader) as (snapshot, reader):
            with _record_time(timings, "search"):
                states = self._retrieve(encoded_queries, snapshot, reader)
            with _record_time(timings, "hits"):
                hits = map_with_errors(
                    partial(self._make_hits, self._load_hit_context(snapshot, states)), states
                )
            return map_with_errors(
                partial(self._make_result, snapshot, reader.device, timings), hits
            )

    def embed(self, terms: Sequence[Term]) -> Vectors:
        """Return unit vectors of terms, float32 (n, dim); see `QueryEncoder.vectors`."""
        reject_urls(terms)
        return self._query_encoder.vectors(
            terms, stored_vectors=self._query_encoder.stored_vectors(terms)
        )

    def release(self) -> None:
        """Free the resources that only query pictures need."""
        self._encoder.release(InputKind.IMAGE)

    # --- encoding ---

    def _prefetch_texts(self, queries: Sequence[Query]) -> None:
        by_prompts: dict[tuple[str, ...] | None, list[Term]] = defaultdict(list)
        for query in queries:
            if query.mode is not Mode.TEXT:
                by_prompts[query.prompts].extend(query.terms)
        for prompts, terms in by_prompts.items():
            self._query_encoder.prefetch(terms, prompts)

    def _encode_one(self, started: float, request: SearchRequest) -> EncodedQuery:
        query, fingerprint = request.query, self._encoder.spec.fingerprint
        if query.mode is Mode.TEXT:
            return EncodedQuery(request, fingerprint, time.perf_counter() - started)
        stored_vectors = self._query_encoder.stored_vectors(query.terms)
        vectors = self._query_encoder.vectors(query.terms, query.prompts, stored_vectors)
        null_vector = self._query_encoder.cached_mean(NULL_PROMPTS) if request.explain else None
        return EncodedQuery(
            request,
            fingerprint,
            time.perf_counter() - started,
            vectors,
            null_vector,
            self._query_encoder.dropped_tokens(query.terms),
            {
                kind.value: self._encoder.device(kind)
                for kind in _encoded_kinds(query, stored_vectors)
            },
        )

    # --- answering ---

    def _check_fingerprints(self, encoded_queries: Sequence[EncodedQuery | MMSearchError]) -> None:
        expected = self._encoder.spec.fingerprint
        for encoded in encoded_queries:
            if isinstance(encoded, EncodedQuery) and encoded.encoder != expected:
                raise EncoderMismatchError(
                    "A query was encoded with a different encoder.",
                    "Send the query again.",
                    index=expected,
                    encoder=encoded.encoder,
                )

    def _open_reader(self, timings: dict[str, float], snapshot: Snapshot) -> IndexReader:
        with _record_time(timings, "open"):
            return self._reader_cache.get(snapshot)

    def _retrieve(
        self,
        encoded_queries: Sequence[EncodedQuery | MMSearchError],
        snapshot: Snapshot,
        reader: IndexReader,
    ) -> list[_QueryState | MMSearchError]:
        fusion = self._make_fusion(snapshot.identity.fusion if snapshot.identity else FusionSpec())

        @cache
        def make_scope(filters: Filters) -> SearchScope:
            allowed = snapshot.filter_ids(filters) if filters else None
            return SearchScope(reader, snapshot, fusion, allowed, self._background_sample)

        def make_plan(encoded: EncodedQuery) -> tuple[EncodedQuery, QueryPlan]:
            query = encoded.request.query
            depth = max(encoded.request.k, MATCH_DEPTH)
            return encoded, QueryPlan.from_query(
                query, encoded.vectors, make_scope(query.filters), depth
            )

        def rank_one(pair: tuple[EncodedQuery, QueryPlan]) -> _QueryState:
            encoded, plan = pair
            rank_fusion_name = encoded.request.query.blend or self._default_rank_fusion
            return _QueryState(
                encoded,
                plan,
                rank_candidates(
                    plan, next(vector_matches), partial(self._make_rank_fusion, rank_fusion_name)
                ),
            )

        plans = map_with_errors(make_plan, encoded_queries)
        vector_matches = iter(
            retrieve_batch([pair[1] for pair in plans if not isinstance(pair, MMSearchError)])
        )
        return map_with_errors(rank_one, plans)

    def _load_hit_context(
        self, snapshot: Snapshot, states: Sequence[_QueryState | MMSearchError]
    ) -> HitContext:
        valid_states = [state for state in states if isinstance(state, _QueryState)]
        # It is the same for all queries that have one, because they share the encoder.
        null_vector = next(
            (vector for state in valid_states if (vector := state.encoded.null_vector) is not None),
            None,
        )
        scope = valid_states[0].plan.scope if valid_states else None
        return HitContext.load(
            snapshot, scope, [state.candidates.ids for state in valid_states], null_vector
        )

    def _make_hits(self, context: HitContext, state: _QueryState) -> tuple[_QueryState, list[Hit]]:
        explain, calibration = state.encoded.request.explain, self._encoder.calibration
        text_terms = state.plan.text_terms if explain else []
        return state, make_hits(
            state.plan.scope,
            state.candidates,
            context,
            text_terms,
            calibration if explain else None,
        )

    def _make_result(
        self,
        snapshot: Snapshot,
        device: str,
        timings: Mapping[str, float],
        state_and_hits: tuple[_QueryState, list[Hit]],
    ) -> SearchResult:
        (state, hits), request = state_and_hits, state_and_hits[0].encoded.request
        top_confidence = max((hit.confidence for hit in hits[:MATCH_DEPTH]), default=None)
        return SearchResult(
            query=format_query(request.query.terms),
            mode=state.plan.mode,
            hits=[hit for hit in hits[: request.k] if _passes_thresholds(hit, request)],
            match=to_band(top_confidence)
            if request.explain and top_confidence is not None
            else None,
            calibrated=self._encoder.calibration.measured,
            generation=snapshot.generation,
            pictures=snapshot.pictures,
            passed=state.plan.scope.size,
            encoder=self._encoder.spec.name,
            timings_s={"encode": state.encoded.seconds, **timings},
            dropped_tokens=state.encoded.dropped_tokens,
            devices={**state.encoded.devices, "vector_index": device},
        )


@dataclass(frozen=True)
class _QueryState:
    """An encoded query with its plan and its candidates."""

    encoded: EncodedQuery
    plan: QueryPlan
    candidates: Candidates


def check_request(request: SearchRequest) -> SearchRequest:
    """Return a request after checking everything that does not depend on the index.

    Raises:
        InvalidQueryError: The terms are invalid, k is below 1, or a minimum is not finite.
        SourceError: The query names a picture by its URL.
    """
    check_terms(request.query.terms)
    reject_urls(request.query.terms)
    if request.k < 1:
        raise InvalidQueryError(
            f"k must be at least 1, got {request.k}.", "Ask for at least one hit: -k 10"
        )
    for name, minimum in (("score", request.min_score), ("confidence", request.min_confidence)):
        if minimum is not None and not np.isfinite(minimum):
            raise InvalidQueryError(f"The minimum {name} is {minimum}.", "Use a finite number.")
    return request


def _encoded_kinds(query: Query, stored_vectors: StoredVectors) -> list[InputKind]:
    """Return the kinds of input that were encoded for a query."""
    encoded = [term for term in query.terms if term not in stored_vectors]
    kinds = {InputKind.IMAGE if term.image is not None else InputKind.TEXT for term in encoded}
    return sorted(kinds, reverse=True)


def _passes_thresholds(hit: Hit, request: SearchRequest) -> bool:
    min_score = -np.inf if request.min_score is None else request.min_score
    min_confidence = 0.0 if request.min_confidence is None else request.min_confidence
    return hit.score >= min_score and hit.confidence >= min_confidence


@contextmanager
def _record_time(timings: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings[step] = time.perf_counter() - started


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_with_errors(
    fn: Callable[[Item], Result], items: Sequence[Item | MMSearchError]
) -> list[Result | MMSearchError]:
    """Return the result of ``fn`` for each item, or the error that it raised.

    Args:
        fn: Called for each item that is not an error.
        items: Items to map; errors are returned unchanged, in their places.

    Raises:
        EncoderMismatchError: The encoder does not match. This affects all items, so it is raised.
    """
    results: list[Result | MMSearchError] = []
    for item in items:
        if isinstance(item, MMSearchError):
            results.append(item)
            continue
        try:
            results.append(fn(item))
        except EncoderMismatchError:
            raise
        except MMSearchError as error:
            results.append(error)
    return results
