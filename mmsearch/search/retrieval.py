"""One query's candidates in order: by vectors, by texts, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.ordering import row_scores
from mmsearch.core.protocols import Fusion, RankFusion
from mmsearch.core.text_matches import HybridCandidates, TextMatches, TextTerm
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.background_sample import BackgroundSample
from mmsearch.search.confidence import ScoreDistribution
from mmsearch.search.index_reader import IndexReader

FUSION_DEPTH = 1000
"""Candidates that each list brings to a blend. Fixed, so that the top 5 begins the top 15."""

NEGATIVE_WEIGHT = 0.75
"""Of what a positive term counts; more, and pictures win that are merely unlike what is not wanted.
Chosen by the study of negative terms in benchmarks/RESULTS.md."""

MIN_NORM = 1e-6


@dataclass(frozen=True)
class VectorMatches:
    """The pictures nearest to a query, best first, and what is usual for it.

    Attributes:
        ids: int64 (n,).
        scores: float32 (n,), cosine similarities.
        background: Of the query.
    """

    ids: Ids
    scores: NDArray[np.float32]
    background: ScoreDistribution


@dataclass(frozen=True)
class SearchScope:
    """The pictures of one generation that a query may find.

    Attributes:
        reader: Their vectors.
        snapshot: Their records.
        fusion: That of the generation.
        allowed: Ids that pass the filters; None: all.
        background_sample: Picks pictures of all kinds.
    """

    reader: IndexReader
    snapshot: Snapshot
    fusion: Fusion
    allowed: Ids | None
    background_sample: BackgroundSample

    @property
    def size(self) -> int:
        """Pictures that may be found."""
        return self.snapshot.pictures if self.allowed is None else len(self.allowed)

    def retrieve_batch(self, queries: Vectors, k: int) -> list[VectorMatches]:
        """For each of (q, dim), the k best pictures, without padding."""
        ranking = self.reader.search(queries, k, self.snapshot.deleted_ids, self.allowed)
        rows = zip(ranking.ids, ranking.scores, self.score_distributions(queries), strict=True)
        return [
            VectorMatches(ids[ids >= 0], scores[ids >= 0], background)
            for ids, scores, background in rows
        ]

    def scores(self, query_vector: Vectors, ids: Ids) -> NDArray[np.float32]:
        """float32 (n,): cosine similarities of pictures with (1, dim), in their order."""
        if not len(ids):
            return np.empty(0, dtype=np.float32)
        return row_scores(self.reader.vectors(ids), query_vector[0])

    def score_distributions(self, queries: Vectors) -> list[ScoreDistribution]:
        """What the similarity of each of (q, dim) is to pictures of all kinds."""
        sample = self.background_sample.vectors(self.reader, self.snapshot)
        if not len(sample):
            return ScoreDistribution.from_score_rows(np.empty((len(queries), 0), np.float32))
        # A matrix product would wait for threads.
        return ScoreDistribution.from_score_rows(row_scores(sample, queries[:, None, :]))


@dataclass(frozen=True)
class Candidates:
    """Candidates, best first.

    Attributes:
        ids: int64 (n,).
        scores: float64 (n,), what the order goes by.
        text: float32 (n,), text scores.
        visual: float32 (n,), cosine similarities; None if only texts were asked.
        query_vector: (1, dim), what vectors were compared with; None likewise.
        background: Of that; None likewise.
    """

    ids: Ids
    scores: NDArray[np.float64]
    text: NDArray[np.float32]
    visual: NDArray[np.float32] | None = None
    query_vector: Vectors | None = None
    background: ScoreDistribution | None = field(default=None)


def combine_terms(scope: SearchScope, vectors: Vectors, weights: Sequence[float]) -> Vectors:
    """One query vector of several terms.

    Texts and pictures lie apart in a shared space, so that the similarities of a picture term
    differ more between pictures than those of a text term, and would decide alone. Each term is
    therefore divided by the spread of its similarities to a sample of the library.

    Args:
        scope: What is searched.
        vectors: (n, dim), a row a term.
        weights: Of each; a negative one takes away.

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
            "The terms of the query cancel each other.", "Take away something else than is added."
        )
    return as_unit_vectors(combined[None, :])


def rank_by_vectors(query_vector: Vectors, vector_matches: VectorMatches) -> Candidates:
    """By cosine similarity alone."""
    ids, scores = vector_matches.ids, vector_matches.scores
    text_scores = np.zeros(len(ids), dtype=np.float32)
    return Candidates(
        ids, scores.astype(np.float64), text_scores, scores, query_vector, vector_matches.background
    )


def rank_by_texts(scope: SearchScope, text_terms: Sequence[TextTerm], k: int) -> Candidates:
    """By the words of texts alone."""
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
    """By both, as a blend has it."""
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
