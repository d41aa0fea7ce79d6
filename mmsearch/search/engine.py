"""Search engine: encodes queries, retrieves and ranks candidates, and builds hits."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import EncoderMismatchError, MMSearchError
from mmsearch.core.filters import Filters
from mmsearch.core.identity import describe_older_model
from mmsearch.core.query import (
    AllOf,
    Band,
    Condition,
    EncodedQuery,
    IsMissing,
    Mode,
    SearchRequest,
    Term,
)
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import Hit, Notice, SearchResult
from mmsearch.core.sorting import sort_hits
from mmsearch.core.types import Calibration, FusionSpec, Ids, InputKind, Vectors
from mmsearch.search.confidence import (
    apply_calibration,
    best_guesses,
    is_calibrated,
    look_confidences,
)
from mmsearch.search.feedback import disliked_ids
from mmsearch.search.hits import make_hits
from mmsearch.search.notices import describe_incomplete, find_notices
from mmsearch.search.query_encoder import QueryEncoder
from mmsearch.search.query_parser import check_request, format_query, reject_urls
from mmsearch.search.query_reader import QueryReader
from mmsearch.search.retrieval import (
    Candidates,
    QueryPlan,
    SearchScope,
    rank_candidates,
    retrieve_batch,
)
from mmsearch.search.snapshots import open_latest_snapshot

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot, SnapshotReader
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import Encoder, Fusion, RankFusion, VectorStore
    from mmsearch.core.understood import Understood

Outcomes = MutableMapping[int, Any]
"""The result or the error of each query of a batch, by its position."""

MATCH_DEPTH = 10
"""Number of hits that decide if there is a match, even if fewer are returned."""


class SearchEngine:
    """Answers queries.

    A query is first encoded, then answered from one generation. Only one thread at a time may
    encode, and only one thread, the same or a different one, may answer: a vector index on a GPU
    does not allow more.

    Args:
        catalog: Catalog, open for reading.
        open_store: Opens the vectors of a generation.
        read_image_vectors: Returns the image vectors of ids, (n, dim), for a fused index.
        encoder: Encoder of the index.
        query_encoder: Encodes queries with the same encoder.
        make_fusion: Creates the fusion of the stored vectors.
        make_rank_fusion: Creates a rank fusion by its name.
        default_rank_fusion: Name of the rank fusion of hybrid queries that do not name one.
    """

    def __init__(
        self,
        catalog: SnapshotReader,
        open_store: Callable[[Snapshot], VectorStore],
        read_image_vectors: Callable[[Snapshot, Ids], Vectors],
        encoder: Encoder,
        query_encoder: QueryEncoder,
        *,
        make_fusion: Callable[[FusionSpec], Fusion],
        make_rank_fusion: Callable[[str], RankFusion],
        default_rank_fusion: str,
    ) -> None:
        self._catalog = catalog
        self._open_store = open_store
        self._read_image_vectors = read_image_vectors
        self._encoder = encoder
        self._query_encoder = query_encoder
        self._query_reader = QueryReader(catalog)
        self._make_fusion = make_fusion
        self._make_rank_fusion = make_rank_fusion
        self._default_rank_fusion = default_rank_fusion

    def encode(self, requests: Sequence[SearchRequest]) -> list[EncodedQuery | MMSearchError]:
        """Encode several queries; their texts are encoded in batches.

        Returns:
            An encoded query or an error for each request, in order. A query that is empty, or that
            names a picture that is missing or cannot be read, gives an error.

        Raises:
            EncoderMismatchError: The index was re-encoded with a different encoder.
        """
        started = time.perf_counter()
        outcomes: dict[int, EncodedQuery | MMSearchError] = {}
        valid: dict[int, SearchRequest] = {}
        understood: dict[int, Understood] = {}
        for position, request in enumerate(requests):
            try:
                valid[position], found = self._query_reader.read(check_request(request))
                if found is not None:
                    understood[position] = found
            except MMSearchError as error:
                outcomes[position] = error
        if len(requests) > 1:
            # A query that cannot be encoded raises again below, where the error is assigned to it.
            with suppress(MMSearchError):
                self._query_encoder.prefetch([request.query for request in valid.values()])
        for position, request in valid.items():
            try:
                encoded = self._query_encoder.encode(request, started)
                if position in understood:
                    line = format_query(requests[position].query.terms)
                    encoded = replace(encoded, understood=understood[position], line=line)
                outcomes[position] = encoded
            except EncoderMismatchError:
                # This affects all queries.
                raise
            except MMSearchError as error:
                outcomes[position] = error
        return list(map(outcomes.__getitem__, range(len(requests))))

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
        outcomes: dict[int, SearchResult | MMSearchError] = {}
        queries: dict[int, EncodedQuery] = {}
        for position, encoded in enumerate(encoded_queries):
            if isinstance(encoded, MMSearchError):
                outcomes[position] = encoded
            else:
                self._check_fingerprint(encoded)
                queries[position] = encoded

        started = time.perf_counter()
        with open_latest_snapshot(self._catalog, self._open_store) as (snapshot, store):
            opened = time.perf_counter()
            plans = self._plan(queries, snapshot, store, outcomes)
            candidates = self._rank(queries, plans, outcomes)
            searched = time.perf_counter()
            hits = self._make_hits(queries, plans, candidates, outcomes)
            timings = {
                "open": opened - started,
                "search": searched - opened,
                "hits": time.perf_counter() - searched,
            }
            for position, query_hits in hits.items():
                outcomes[position] = self._make_result(
                    queries[position], plans[position], query_hits, timings
                )
            return list(map(outcomes.__getitem__, range(len(encoded_queries))))

    def embed(self, terms: Sequence[Term]) -> Vectors:
        """Return unit vectors of terms, float32 (n, dim); see `QueryEncoder.vectors`."""
        reject_urls(terms)
        return self._query_encoder.vectors(
            terms, stored_vectors=self._query_encoder.stored_vectors(terms)
        )

    def release(self) -> None:
        """Free the resources that only query pictures need."""
        self._encoder.release(InputKind.IMAGE)

    # --- steps of an answer; each maps positions in the batch, and records errors by position ---

    def _check_fingerprint(self, encoded: EncodedQuery) -> None:
        expected = self._encoder.spec.fingerprint
        if encoded.encoder != expected:
            raise EncoderMismatchError(
                "A query was encoded with a different encoder.",
                "Send the query again.",
                index=expected,
                encoder=encoded.encoder,
            )

    def _plan(
        self,
        queries: Mapping[int, EncodedQuery],
        snapshot: Snapshot,
        store: VectorStore,
        outcomes: Outcomes,
    ) -> dict[int, QueryPlan]:
        positions_by_filters: dict[Filters, list[int]] = {}
        for position, encoded in queries.items():
            positions_by_filters.setdefault(encoded.request.query.filters, []).append(position)
        plans = {}
        identity = snapshot.identity
        fusion = self._make_fusion(FusionSpec() if identity is None else identity.fusion)
        for filters, positions in positions_by_filters.items():
            try:
                tree = _make_tree(filters)
                size = snapshot.pictures if tree is None else _count(snapshot, tree)
                undated = _count_undated(snapshot, filters) if filters else 0
            except MMSearchError as error:
                outcomes.update(dict.fromkeys(positions, error))
                continue
            scope = SearchScope(
                store, snapshot, fusion, self._read_image_vectors, tree, size, undated
            )
            for position in positions:
                request = queries[position].request
                disliked = disliked_ids(request.query.terms)
                try:
                    plans[position] = QueryPlan.from_query(
                        request.query,
                        queries[position].vectors,
                        scope.exclude(disliked, fold=request.fold) if len(disliked) else scope,
                        max(request.k, MATCH_DEPTH),
                        fold=request.fold,
                    )
                except MMSearchError as error:
                    outcomes[position] = error
        return plans

    def _rank(
        self,
        queries: Mapping[int, EncodedQuery],
        plans: Mapping[int, QueryPlan],
        outcomes: Outcomes,
    ) -> dict[int, Candidates]:
        candidates = {}
        matches = retrieve_batch(list(plans.values()))
        for (position, plan), vector_matches in zip(plans.items(), matches, strict=True):
            blend = queries[position].request.query.blend
            name = blend or self._default_rank_fusion
            try:
                if blend is not None:
                    # An unknown name is an error in every mode.
                    self._make_rank_fusion(blend)
                candidates[position] = rank_candidates(
                    plan,
                    vector_matches,
                    partial(self._make_rank_fusion, name),
                    partial(self._rate_look, plan, queries[position]),
                )
            except MMSearchError as error:
                outcomes[position] = error
        return candidates

    def _rate_look(
        self, plan: QueryPlan, encoded: EncodedQuery, candidates: Candidates
    ) -> NDArray[np.float64] | None:
        """Return the probability of each candidate that it shows what a query describes.

        It grows with the similarity that the candidates were found by.
        """
        terms, scope = encoded.request.query.terms, plan.scope
        calibration = self._calibration(scope.snapshot)
        if len(terms) > 1 or not scope.has_image_vectors:
            # The background of an encoder says nothing about a mixed query or a fused vector.
            calibration = replace(calibration, background=None)
        return look_confidences(
            scope, candidates, terms, encoded.vectors, calibration, plan.feedback
        )

    def _make_hits(
        self,
        queries: Mapping[int, EncodedQuery],
        plans: Mapping[int, QueryPlan],
        candidates: Mapping[int, Candidates],
        outcomes: Outcomes,
    ) -> dict[int, list[Hit]]:
        hits: dict[int, list[Hit]] = {}
        if not candidates:
            return hits
        scope = plans[next(iter(candidates))].scope
        ids = np.unique(np.concatenate([found.ids for found in candidates.values()])).tolist()
        moments = {
            moment_id
            for found in candidates.values()
            for listed in found.moments
            for moment_id, _ in listed
        }
        ids = [*ids, *moments.difference(ids)]
        records = {record.id: record for record in scope.snapshot.records(ids)}
        calibration = self._calibration(scope.snapshot)
        for position, found in candidates.items():
            plan, encoded = plans[position], queries[position]
            explain, terms = encoded.request.explain, encoded.request.query.terms
            vectors = encoded.vectors if explain and plan.mode is not Mode.TEXT else None
            text_terms = plan.text_terms if explain else []
            try:
                look = look_confidences(
                    plan.scope, found, terms, vectors, calibration, plan.feedback
                )
                hits[position] = make_hits(
                    plan.scope,
                    found,
                    _choose_keys(plan.scope, found, records),
                    text_terms,
                    look,
                    explain=explain,
                    fold=plan.fold,
                )
            except MMSearchError as error:
                outcomes[position] = error
        return hits

    def _calibration(self, snapshot: Snapshot) -> Calibration:
        return apply_calibration(snapshot.calibration, self._encoder)

    def _make_result(
        self,
        encoded: EncodedQuery,
        plan: QueryPlan,
        hits: Sequence[Hit],
        timings: Mapping[str, float],
    ) -> SearchResult:
        request, scope = encoded.request, plan.scope
        min_score = request.min_score
        if min_score is None or request.query.is_listing:
            min_score = -np.inf
        min_confidence = 0.0 if request.min_confidence is None else request.min_confidence
        shown_hits = [
            hit
            for hit in hits[: request.k]
            if hit.score >= min_score and hit.confidence >= min_confidence
        ]
        if request.check_files:
            shown_hits = [hit.prefer_existing_file() for hit in shown_hits]
        match = None
        if request.explain and hits:
            best = max(hits[:MATCH_DEPTH], key=attrgetter("confidence"))
            match = best.band
        terms, calibration = request.query.terms, self._calibration(scope.snapshot)
        calibrated = is_calibrated(terms, calibration)
        notices = self._find_notices(request, plan) if request.explain else ()
        if not scope.store.complete:
            notices = (
                *notices,
                describe_incomplete(scope.store.size, scope.snapshot.items_with_pixels),
            )
        if match is Band.UNLIKELY and calibrated and plan.mode is not Mode.TEXT:
            is_nothing = best.confidence < calibration.nothing
            guesses = best_guesses(terms, self._encoder.spec.name, is_nothing=is_nothing)
            notices = (*notices, guesses)
        return SearchResult(
            query=format_query(request.query.terms) if encoded.line is None else encoded.line,
            mode=plan.mode,
            hits=sort_hits(shown_hits, request.sort),
            match=match,
            calibrated=calibrated,
            generation=scope.snapshot.generation,
            pictures=scope.snapshot.pictures,
            passed=scope.size,
            undated=scope.undated,
            encoder=self._encoder.spec.name,
            timings_s={"encode": encoded.seconds, **timings},
            dropped_tokens=encoded.dropped_tokens,
            devices={**encoded.devices, "vector_index": scope.store.device},
            notices=notices,
            understood=encoded.understood,
        )

    def _find_notices(self, request: SearchRequest, plan: QueryPlan) -> tuple[Notice, ...]:
        encoder, snapshot = self._encoder, plan.scope.snapshot
        languages: Collection[str] = getattr(encoder, "languages", ())
        notices = find_notices(
            request.query.terms, plan.mode, encoder.spec.name, languages, snapshot
        )
        if encoder.spec.is_superseded:
            notices += (Notice("older_model", describe_older_model(encoder.spec)),)
        return notices


def _choose_keys(
    scope: SearchScope, found: Candidates, records: Mapping[int, PictureRecord]
) -> Mapping[int, PictureRecord]:
    """Return the records with the keys and the metadata that pass the filters of a query."""
    several = [item_id for item_id in found.ids.tolist() if len(records[item_id].paths) > 1]
    if not several or scope.filters is None or not scope.filters.uses_metadata:
        return records
    chosen = scope.snapshot.records(several, scope.filters)
    return {**records, **{record.id: record for record in chosen}}


def _count_undated(snapshot: Snapshot, filters: Filters) -> int:
    """Return the number of pictures that only the filters on the date leave out, without a date."""
    if filters.file_dates or (filters.after is None and filters.before is None):
        return 0
    is_undated: Condition = IsMissing("taken_at")
    where = is_undated if filters.where is None else AllOf((filters.where, is_undated))
    undated = _make_tree(replace(filters, after=None, before=None, where=where))
    return 0 if undated is None else _count(snapshot, undated)


def _make_tree(filters: Filters) -> FilterTree | None:
    """Return the tree of filters; None if every picture passes."""
    if not filters:
        return None
    from mmsearch.core.filter_tree import make_filter_tree  # noqa: PLC0415 - most queries have none

    return make_filter_tree(filters)


def _count(snapshot: Snapshot, filters: FilterTree) -> int:
    """Return the number of contents that pass filters."""
    return snapshot.count_contents(snapshot.filter_ids(filters))
