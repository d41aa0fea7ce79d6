"""Ranking of the candidates of a query: by vectors, by texts, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import Fusion, RankFusion
from mmsearch.core.query import HybridCandidates, TextMatches, TextTerm
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors, row_scores
from mmsearch.search.confidence import BackgroundSample, ScoreDistribution
from mmsearch.search.index_reader import IndexReader

FUSION_DEPTH = 1000
"""Number of candidates from each list in hybrid mode; more only if k is higher. Fixed, so that the
top 5 is a prefix of the top 15."""

NEGATIVE_WEIGHT = 0.75
"""Weight of a negative term relative to a positive one. Higher values favour pictures that are only
dissimilar to the negative term. Chosen by the study of negative terms in benchmarks/RESULTS.md."""

MIN_NORM = 1e-6


@dataclass(frozen=True)
class VectorMatches:
    """The pictures nearest to a query, best first, and its background distribution.

    Attributes:
        ids: int64 (n,), ids of the pictures.
        scores: float32 (n,), cosine similarities.
        background: Similarity of the query to a sample of the library.
    """

    ids: Ids
    scores: NDArray[np.float32]
    background: ScoreDistribution


@dataclass(frozen=True)
class SearchScope:
    """The pictures of one generation that a query may find.

    Attributes:
        reader: Reader of their vectors.
        snapshot: Snapshot that holds their records.
        fusion: Fusion of the generation.
        allowed: Ids that pass the filters; None for all.
        background_sample: Draws a sample of the library.
    """

    reader: IndexReader
    snapshot: Snapshot
    fusion: Fusion
    allowed: Ids | None
    background_sample: BackgroundSample

    @property
    def size(self) -> int:
        """Number of pictures that may be found."""
        return self.snapshot.pictures if self.allowed is None else len(self.allowed)

    def retrieve_batch(self, queries: Vectors, k: int) -> list[VectorMatches]:
        """Return the top k pictures of each of (q, dim) queries, without padding."""
        ranking = self.reader.search(queries, k, self.snapshot.deleted_ids, self.allowed)
        rows = zip(ranking.ids, ranking.scores, self.score_distributions(queries), strict=True)
        return [
            VectorMatches(ids[ids >= 0], scores[ids >= 0], background)
            for ids, scores, background in rows
        ]

    def scores(self, query_vector: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the cosine similarities of ids with (1, dim), in their order, float32 (n,)."""
        if not len(ids):
            return np.empty(0, dtype=np.float32)
        return row_scores(self.reader.vectors(ids), query_vector[0])

    def score_distributions(self, queries: Vectors) -> list[ScoreDistribution]:
        """Return the similarity of each of (q, dim) queries to a sample of the library."""
        sample = self.background_sample.vectors(self.reader, self.snapshot)
        if not len(sample):
            return ScoreDistribution.from_score_rows(np.empty((len(queries), 0), np.float32))
        # A matrix product would wait for the threads of the BLAS library.
        return ScoreDistribution.from_score_rows(row_scores(sample, queries[:, None, :]))


@dataclass(frozen=True)
class Candidates:
    """Candidates of one query, best first.

    Attributes:
        ids: int64 (n,), ids of the pictures.
        scores: float64 (n,), scores that determine the order.
        text: float32 (n,), text scores.
        visual: float32 (n,), cosine similarities; None in text mode.
        query_vector: (1, dim), vector that stored vectors were compared with; None in text mode.
        background: Similarity of the query to a sample of the library; None in text mode.
    """

    ids: Ids
    scores: NDArray[np.float64]
    text: NDArray[np.float32]
    visual: NDArray[np.float32] | None = None
    query_vector: Vectors | None = None
    background: ScoreDistribution | None = field(default=None)


def combine_terms(scope: SearchScope, vectors: Vectors, weights: Sequence[float]) -> Vectors:
    """Combine the vectors of several terms into one query vector.

    Text and image vectors occupy different regions of the shared space: the similarities of a
    picture term vary more between pictures than those of a text term and would dominate the sum.
    Each term is therefore divided by the standard deviation of its similarities to a sample of the
    library.

    Args:
        scope: The pictures to search.
        vectors: (n, dim), one row for each term.
        weights: Weight of each term; a negative weight subtracts the term.

    Returns:
        (1, fused dim).

    Raises:
        InvalidQueryError: The terms cancel each other.
    """
    term_vectors = scope.fusion.fuse_query(vectors)
    if len(term_vectors) == 1:
        return term_vectors
    stds = np.array([background.std for background in scope.score_distributions(term_vectors)])
    scaled_weights = (
        np.array([weight if weight > 0 else weight * NEGATIVE_WEIGHT for weight in weights]) / stds
    )
    combined = scaled_weights @ term_vectors.astype(np.float64)
    if np.linalg.norm(combined) <= MIN_NORM * np.abs(scaled_weights).sum():
        raise InvalidQueryError(
            "The terms of the query cancel each other.",
            "Subtract something other than what you add.",
        )
    return as_unit_vectors(combined[None, :])


def rank_by_vectors(query_vector: Vectors, vector_matches: VectorMatches) -> Candidates:
    """Return candidates ranked by cosine similarity alone."""
    ids, scores = vector_matches.ids, vector_matches.scores
    text_scores = np.zeros(len(ids), dtype=np.float32)
    return Candidates(
        ids, scores.astype(np.float64), text_scores, scores, query_vector, vector_matches.background
    )


def rank_by_texts(scope: SearchScope, text_terms: Sequence[TextTerm], k: int) -> Candidates:
    """Return the top k candidates ranked by their text scores alone."""
    matches = scope.snapshot.match(text_terms, max(k, FUSION_DEPTH), scope.allowed)
    ids, scores = matches.ids[:k], matches.scores[:k]
    return Candidates(ids, scores.astype(np.float64), scores)


def rank_hybrid(
    scope: SearchScope,
    query_vector: Vectors,
    vector_matches: VectorMatches,
    text_terms: Sequence[TextTerm],
    rank_fusion: RankFusion,
    k: int,
) -> Candidates:
    """Return the top k candidates of both lists, ranked by a rank fusion."""
    matches = scope.snapshot.match(text_terms, max(k, FUSION_DEPTH), scope.allowed)
    candidates = _merge_candidates(scope, query_vector, vector_matches, matches)
    scores = rank_fusion.fuse(candidates)
    order = np.lexsort((candidates.ids, -candidates.visual_scores, -scores))[:k]
    return Candidates(
        candidates.ids[order],
        scores[order],
        candidates.text_scores[order],
        candidates.visual_scores[order],
        query_vector,
        vector_matches.background,
    )


def _merge_candidates(
    scope: SearchScope,
    query_vector: Vectors,
    vector_matches: VectorMatches,
    matches: TextMatches,
) -> HybridCandidates:
    vector_ids, similarities = vector_matches.ids, vector_matches.scores
    text_only_ids = np.setdiff1d(matches.ids, vector_ids)
    ids = np.concatenate([vector_ids, text_only_ids])
    visual = np.concatenate([similarities, scope.scores(query_vector, text_only_ids)])
    order = np.argsort(ids)
    ids, visual = ids[order], visual[order]
    visual_ranks = np.empty(len(ids), dtype=np.int64)
    visual_ranks[np.lexsort((ids, -visual))] = np.arange(1, len(ids) + 1)
    text = np.zeros(len(ids), dtype=np.float32)
    text_ranks = np.zeros(len(ids), dtype=np.int64)
    positions = np.searchsorted(ids, matches.ids)
    text[positions] = matches.scores
    text_ranks[positions] = np.arange(1, len(matches.ids) + 1)
    return HybridCandidates(
        ids,
        visual,
        visual_ranks,
        text,
        text_ranks,
        scope.snapshot.has_text_mask(ids),
        vector_matches.background.median,
    )
