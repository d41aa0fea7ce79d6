"""What one query looks for in one generation, and what is nearest to many queries at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import RankFusion
from mmsearch.core.queries import Mode, Query
from mmsearch.core.text_matches import TextTerm
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
    """A query, as it is looked for.

    Attributes:
        scope: What is searched.
        mode: What decides.
        text_terms: Words to look for in texts.
        query_vector: (1, fused dim), what vectors are compared with; None if words alone decide.
        depth: So many candidates are ranked.
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
        """What a query looks for.

        Args:
            query_vector: As it was asked.
            vectors: (n, dim), a row a term; None if words alone decide.
            scope: What it may find.
            depth: Hits that are wanted.

        Raises:
            InvalidQueryError: It has no words where words decide, or its terms cancel each other.
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
        """So many of the nearest pictures are candidates."""
        if self.mode is not Mode.HYBRID:
            return self.depth
        return min(max(self.depth, FUSION_DEPTH), max(self.scope.size, 1))


def retrieve_batch(plans: Sequence[QueryPlan]) -> list[VectorMatches | None]:
    """For each, the nearest pictures that its ranking takes; None if vectors do not matter.

    Queries over the same pictures are looked for together: a scan then reads the vectors once.
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
    """The candidates of a query in order.

    Args:
        plan: The query.
        vector_matches: As `retrieve_batch` gave it.
        make_rank_fusion: Joins both lists in hybrid mode.
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
    """What decides, as far as the query has words and the index has texts."""
    has_words = any(text_term.weight > 0 for text_term in text_terms)
    if query.mode is Mode.TEXT and not has_words:
        raise InvalidQueryError(
            "A query without words cannot be looked for in texts.", "Leave out --mode text."
        )
    if not has_words:
        return Mode.VECTOR
    return query.mode or (Mode.HYBRID if snapshot.has_texts else Mode.VECTOR)
