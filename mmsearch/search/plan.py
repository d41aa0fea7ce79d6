"""Query plans, and batched retrieval of the nearest vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import RankFusion
from mmsearch.core.query import Mode, Query, TextTerm
from mmsearch.core.types import Vectors
from mmsearch.search.retrieval import (
    FUSION_DEPTH,
    Candidates,
    SearchScope,
    VectorMatches,
    combine_terms,
    rank_by_texts,
    rank_by_vectors,
    rank_hybrid,
)


@dataclass(frozen=True)
class QueryPlan:
    """The plan of one query on one generation.

    Attributes:
        scope: The pictures to search.
        mode: Search mode: vectors, texts or both.
        text_terms: Words to find in texts.
        query_vector: (1, fused dim), vector to compare with stored vectors; None in text mode.
        depth: Number of candidates to rank.
    """

    scope: SearchScope
    mode: Mode
    text_terms: Sequence[TextTerm]
    query_vector: Vectors | None
    depth: int

    @classmethod
    def from_query(
        cls, query: Query, vectors: Vectors | None, scope: SearchScope, depth: int
    ) -> QueryPlan:
        """Return the plan of a query.

        Args:
            query: The query.
            vectors: (n, dim), one row for each term; None in text mode.
            scope: The pictures to search.
            depth: Number of hits to rank; reduced to the size of the scope.

        Raises:
            InvalidQueryError: A text query has no words, or the terms cancel each other.
        """
        text_terms = _text_terms(query)
        mode = _resolve_mode(query, scope.snapshot, text_terms)
        depth = min(depth, max(scope.size, 1))
        if vectors is None or mode is Mode.TEXT:
            return cls(scope, mode, text_terms, None, depth)
        query_vector = combine_terms(scope, vectors, [term.weight for term in query.terms])
        return cls(scope, mode, text_terms, query_vector, depth)

    @property
    def num_candidates(self) -> int:
        """Number of nearest pictures to retrieve as candidates."""
        if self.mode is not Mode.HYBRID:
            return self.depth
        return min(max(self.depth, FUSION_DEPTH), max(self.scope.size, 1))


def retrieve_batch(plans: Sequence[QueryPlan]) -> list[VectorMatches | None]:
    """Return the nearest pictures of each plan; None for a plan without a query vector.

    Queries with the same scope are searched as one batch, so that a scan reads the vectors once.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, plan in enumerate(plans):
        if plan.query_vector is not None:
            groups[id(plan.scope), plan.num_candidates].append(position)
    matches: list[VectorMatches | None] = [None] * len(plans)
    for positions in groups.values():
        first = plans[positions[0]]
        queries = np.concatenate([q for n in positions if (q := plans[n].query_vector) is not None])
        batch = first.scope.retrieve_batch(queries, first.num_candidates)
        for position, ranking in zip(positions, batch, strict=True):
            matches[position] = ranking
    return matches


def rank_candidates(
    plan: QueryPlan,
    vector_matches: VectorMatches | None,
    make_rank_fusion: Callable[[], RankFusion],
) -> Candidates:
    """Return the candidates of a query, best first.

    Args:
        plan: The plan of the query.
        vector_matches: Result of `retrieve_batch` for this plan.
        make_rank_fusion: Creates the rank fusion; only called in hybrid mode.
    """
    if plan.query_vector is None or vector_matches is None:
        return rank_by_texts(plan.scope, plan.text_terms, plan.depth)
    if plan.mode is Mode.VECTOR:
        return rank_by_vectors(plan.query_vector, vector_matches)
    return rank_hybrid(
        plan.scope,
        plan.query_vector,
        vector_matches,
        plan.text_terms,
        make_rank_fusion(),
        plan.depth,
    )


def _text_terms(query: Query) -> list[TextTerm]:
    return [TextTerm(term.text, term.weight) for term in query.terms if term.text]


def _resolve_mode(query: Query, snapshot: Snapshot, text_terms: Sequence[TextTerm]) -> Mode:
    """Return the mode of a query, given its words and the texts of the index."""
    has_words = any(text_term.weight > 0 for text_term in text_terms)
    if query.mode is Mode.TEXT and not has_words:
        raise InvalidQueryError(
            "A query without words cannot be searched in texts.", "Leave out --mode text."
        )
    if not has_words:
        return Mode.VECTOR
    return query.mode or (Mode.HYBRID if snapshot.has_texts else Mode.VECTOR)
