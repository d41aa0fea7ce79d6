"""Retrieval: the plan of each query, the nearest pictures of a batch, and ranked candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import Hint, InvalidQueryError
from mmsearch.core.query import (
    TEXT_PRIOR,
    HybridCandidates,
    Mode,
    Query,
    Term,
    TextMatches,
    TextTerm,
)
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors, ranks_in_groups, row_scores
from mmsearch.search.feedback import Feedback, feedback_rows, move_query
from mmsearch.search.grouping import (
    WIDENING,
    add_groups,
    append_groups,
    group_first,
    lacks_groups,
    list_newest,
)

if TYPE_CHECKING:
    from mmsearch.core.catalog import Snapshot
    from mmsearch.core.filter_tree import FilterTree
    from mmsearch.core.protocols import Fusion, RankFusion, VectorStore

FUSION_DEPTH = 1000
"""Number of candidates from each list in hybrid mode; more only if k is higher. Fixed, so that the
top 5 is a prefix of the top 15."""

SAMPLE_SIZE = 1000
"""Number of pictures in the sample of the library that a query is compared with."""

MIN_GROUPS = 100
"""Number of contents or stacks among the candidates of an index with films, documents or
duplicates; more only if k is higher. A film has many moments among the nearest items, and a burst
has many pictures."""

FOLD_DEPTH = 200
"""Number of nearest items to begin with to fold a page of at most half as many hits: enough for all
but long bursts, as a second search takes as long as the first. That many cost 1.5 ms of processor
time more than ten in an approximate index, and nothing in an exact one."""

MAX_MOMENTS = 5
"""Maximum number of other items of its content that a hit has."""

FULL_EVIDENCE = 3.5
"""Evidence of a text, in nats, that counts as much as the most similar picture in hybrid mode: that
of a title with all words of a query. Weaker evidence counts by its square root: on a linear scale,
fewer captions of the split dev found their photograph among ten in the study of words (0.77
against 0.79)."""

NEGATIVE_WEIGHT = 0.75
"""Weight of a negative term relative to a positive one. Higher values favour pictures that are only
dissimilar to the negative term. Chosen by the study of negative terms in benchmarks/RESULTS.md."""

MIN_NORM = 1e-6


@dataclass(frozen=True)
class ScoreDistribution:
    """Similarity of one query to a sample of the library, most of which is unrelated to it.

    Attributes:
        mean: Mean of the cosine similarities.
        std: Standard deviation of the cosine similarities.
        median: Median of the cosine similarities.
    """

    mean: float
    std: float
    median: float

    @classmethod
    def from_scores(cls, scores: NDArray[np.float32]) -> ScoreDistribution:
        """Return the distribution of cosine similarities (n,); a neutral one if n is 0."""
        return cls.from_score_rows(scores[None])[0]

    @classmethod
    def from_score_rows(cls, scores: NDArray[np.float32]) -> list[ScoreDistribution]:
        """Return the distribution of each row of (q, n): one row for each query."""
        if not scores.shape[1]:
            return [cls(0.0, 1.0, 0.0)] * len(scores)
        stds = np.maximum(np.std(scores, axis=1, dtype=np.float64), 1e-3)
        means = np.mean(scores, axis=1, dtype=np.float64)
        medians = np.median(scores, axis=1)
        rows = np.stack([means, stds, medians], axis=1).tolist()
        return [cls(mean, std, median) for mean, std, median in rows]


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
        store: Their vectors.
        snapshot: Snapshot that holds their records.
        fusion: Fusion of the stored vectors.
        read_image_vectors: Returns the image vectors of ids, (n, dim), where the stored vectors are
            not these.
        filters: Filters that they pass; None for all.
        size: Number of pictures that may be found; a content with several items counts once.
        undated: See `SearchResult.undated`.
        excluded: Ids of items that are no hits although they pass the filters, int64, ascending;
            None for none.
    """

    store: VectorStore
    snapshot: Snapshot
    fusion: Fusion
    read_image_vectors: Callable[[Snapshot, Ids], Vectors]
    filters: FilterTree | None
    size: int
    undated: int = 0
    excluded: Ids | None = None

    @cached_property
    def allowed(self) -> Ids | None:
        """Ids that pass the filters; None for all."""
        return None if self.filters is None else self.snapshot.filter_ids(self.filters)

    @property
    def items(self) -> int:
        """Number of items that may be found."""
        return self.snapshot.items if self.allowed is None else len(self.allowed)

    def exclude(self, ids: Ids, *, fold: bool = False) -> SearchScope:
        """Return the scope without the contents of some items, which are no hits then.

        Args:
            ids: Ids of the items, int64 (n,).
            fold: True to leave out their stacks, for which a hit stands.
        """
        snapshot = self.snapshot
        is_folded = fold and snapshot.has_stacks
        excluded = snapshot.stack_item_ids(ids) if is_folded else snapshot.sibling_ids(ids)
        excluded = np.setdiff1d(excluded, snapshot.deleted_ids)
        passing = excluded if self.allowed is None else np.intersect1d(excluded, self.allowed)
        size = self.size - self.snapshot.count_contents(passing)
        return replace(self, excluded=excluded, size=max(size, 0))

    def match(self, terms: Sequence[TextTerm], limit: int) -> TextMatches:
        """Return at most ``limit`` items of the scope whose texts hold most of the words."""
        if self.excluded is None:
            return self.snapshot.match(terms, limit, self.allowed)
        found = self.snapshot.match(terms, limit + len(self.excluded), self.allowed)
        kept = np.flatnonzero(np.isin(found.ids, self.excluded, invert=True))[:limit]
        return TextMatches(found.ids[kept], found.scores[kept], found.evidence[kept])

    @property
    def has_image_vectors(self) -> bool:
        """True if the stored vectors are the image vectors."""
        return self.fusion.spec.name == "image"

    def image_scores(self, queries: Vectors, ids: Ids) -> NDArray[np.float32]:
        """Return the similarities of (q, dim) queries and n pictures without texts, (q, n).

        Raises:
            DamagedFileError: The image vectors of a fused index cannot be read.
        """
        if self.has_image_vectors or not len(ids):
            return self.store.scores(queries, ids)
        return row_scores(self.read_image_vectors(self.snapshot, ids), queries[:, None, :])

    def score_distributions(self, queries: Vectors) -> list[ScoreDistribution]:
        """Return the similarity of each of (q, dim) queries to a sample of the library."""
        sample = self.store.sample(SAMPLE_SIZE)
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
        evidence: float32 (n,), evidence of the texts, as `TextMatches.evidence`; 0 without a match.
        visual: float32 (n,), cosine similarities, NaN for items without pixels; None in text mode.
        query_vector: (1, dim), vector that stored vectors were compared with; None in text mode.
        background: Similarity of the query to a sample of the library; None in text mode.
        moments: Ids and scores of other items of the content of each candidate, best first; empty
            if every content is one item.
    """

    ids: Ids
    scores: NDArray[np.float64]
    text: NDArray[np.float32]
    evidence: NDArray[np.float32]
    visual: NDArray[np.float32] | None = None
    query_vector: Vectors | None = None
    background: ScoreDistribution | None = None
    moments: Sequence[Sequence[tuple[int, float]]] = ()

    def take(self, rows: NDArray[np.int64]) -> Candidates:
        """Return the candidates of some rows."""
        visual = None if self.visual is None else self.visual[rows]
        return replace(
            self,
            ids=self.ids[rows],
            scores=self.scores[rows],
            text=self.text[rows],
            evidence=self.evidence[rows],
            visual=visual,
        )

    def group(self, groups: Ids, contents: Ids | None, count: int) -> Candidates:
        """Return the best candidate of each group, with others of its content as its moments.

        Args:
            groups: int64 (n,), the content or the stack of each candidate.
            contents: int64 (n,), the content of each candidate; None if each content is one item.
            count: Maximum number of candidates.
        """
        best = np.flatnonzero(ranks_in_groups(groups) == 0)[:count]
        if contents is None:
            return self.take(best)
        ranks = ranks_in_groups(contents)
        moments: dict[int, list[tuple[int, float]]] = {}
        for row in np.flatnonzero((ranks > 0) & (ranks <= MAX_MOMENTS)).tolist():
            found = (int(self.ids[row]), float(self.scores[row]))
            moments.setdefault(int(contents[row]), []).append(found)
        listed = [moments.get(content, ()) for content in contents[best].tolist()]
        return replace(self.take(best), moments=listed)


@dataclass(frozen=True)
class QueryPlan:
    """The plan of one query on one generation.

    Attributes:
        scope: The pictures to search.
        mode: Search mode: vectors, texts or both.
        text_terms: Words to find in texts.
        query_vector: (1, fused dim), vector to compare with stored vectors; None in text mode.
        depth: Number of candidates to rank.
        fold: True if the contents of a stack become one candidate; only if there are stacks.
        feedback: How pictures that a person liked or disliked move the query; None without any.
    """

    scope: SearchScope
    mode: Mode
    text_terms: Sequence[TextTerm]
    query_vector: Vectors | None
    depth: int
    fold: bool = False
    feedback: Feedback | None = None

    @classmethod
    def from_query(
        cls,
        query: Query,
        vectors: Vectors | None,
        scope: SearchScope,
        depth: int,
        *,
        fold: bool = False,
    ) -> QueryPlan:
        """Return the plan of a query.

        Args:
            query: The query.
            vectors: (n, dim), one row for each term; None in text mode.
            scope: The pictures to search.
            depth: Number of hits to rank; reduced to the size of the scope.
            fold: See `SearchRequest.fold`.

        Raises:
            InvalidQueryError: A text query has no words, or the terms cancel each other.
        """
        if query.is_listing:
            depth = min(depth, max(scope.size, 1))
            return cls(scope, Mode.TEXT, [], None, depth, fold and scope.snapshot.has_stacks)
        has_words = any(term.text and term.weight > 0 for term in query.terms)
        if query.mode is Mode.TEXT and not has_words:
            raise InvalidQueryError(
                "A query without words cannot be searched in texts.",
                Hint("Leave out {}.", "mode='text'", "--mode text"),
            )
        text_terms = [TextTerm(term.text, term.weight) for term in query.terms if term.text]
        mode = query.mode if has_words else Mode.VECTOR
        if mode is None:
            mode = Mode.HYBRID if scope.snapshot.has_texts else Mode.VECTOR
        depth = min(depth, max(scope.size, 1))
        fold = fold and scope.snapshot.has_stacks
        if vectors is None or mode is Mode.TEXT:
            return cls(scope, mode, text_terms, None, depth, fold)
        term_vectors = scope.fusion.fuse_query(vectors)
        clicked = feedback_rows(query.terms)
        if not len(clicked):
            query_vector = _combine_terms(scope, term_vectors, query.terms)
            return cls(scope, mode, text_terms, query_vector, depth, fold)
        rows = np.setdiff1d(np.arange(len(query.terms)), clicked)
        base = _combine_terms(
            scope, term_vectors[rows], [query.terms[row] for row in rows.tolist()]
        )
        query_vector, feedback = move_query(scope, base, term_vectors, query.terms)
        return cls(scope, mode, text_terms, query_vector, depth, fold, feedback)

    @property
    def num_candidates(self) -> int:
        """Number of nearest items to retrieve as candidates, at first."""
        wanted = self.depth
        if self.mode is Mode.HYBRID or self.scope.snapshot.has_moments:
            wanted = max(self.depth, FUSION_DEPTH)
        elif not self.fold:
            return wanted
        else:
            wanted = max(self.depth, min(max(2 * self.depth, FOLD_DEPTH), FUSION_DEPTH))
        return min(wanted, max(self.scope.items, 1))

    @property
    def num_groups(self) -> int:
        """Number of contents or stacks that the candidates should belong to."""
        by_vectors_alone = self.mode is Mode.VECTOR and not self.scope.snapshot.has_moments
        wanted = self.depth if by_vectors_alone else max(self.depth, MIN_GROUPS)
        return min(wanted, self.scope.size)

    @property
    def has_groups(self) -> bool:
        """True if several items may become one candidate."""
        return self.fold or self.scope.snapshot.has_moments

    def group_ids(self, ids: Ids) -> Ids:
        """Return a number for each item, int64 (n,), equal for items of one candidate."""
        snapshot = self.scope.snapshot
        return snapshot.stack_ids(ids) if self.fold else snapshot.content_ids(ids)

    def ids_in_groups(self, ids: Ids) -> Ids:
        """Return the ids of all items of the contents or stacks of some items, ascending."""
        snapshot = self.scope.snapshot
        return snapshot.stack_item_ids(ids) if self.fold else snapshot.sibling_ids(ids)


def retrieve_batch(plans: Sequence[QueryPlan]) -> list[VectorMatches | None]:
    """Return the nearest pictures of each plan; None for a plan without a query vector.

    Queries with the same scope are searched as one batch, so that a scan reads the vectors once.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for position, plan in enumerate(plans):
        if plan.query_vector is not None:
            groups[id(plan.scope), plan.num_candidates].append(position)
    matches: list[VectorMatches | None] = [None] * len(plans)
    for (_, k), positions in groups.items():
        scope = plans[positions[0]].scope
        queries = np.concatenate([q for n in positions if (q := plans[n].query_vector) is not None])
        ranking = scope.store.search(queries, k, scope.filters, scope.excluded)
        rows = zip(ranking.ids, ranking.scores, scope.score_distributions(queries), strict=True)
        for position, (ids, scores, background) in zip(positions, rows, strict=True):
            is_hit = ids >= 0  # Short rankings are padded with -1.
            found = VectorMatches(ids[is_hit], scores[is_hit], background)
            if plans[position].has_groups:
                found = add_groups(plans[position], found)
            matches[position] = found
    return matches


def rank_candidates(
    plan: QueryPlan,
    vector_matches: VectorMatches | None,
    make_rank_fusion: Callable[[], RankFusion],
    rate_look: Callable[[Candidates], NDArray[np.float64] | None],
) -> Candidates:
    """Return the candidates of a query, best first.

    Args:
        plan: The plan of the query.
        vector_matches: Result of `retrieve_batch` for this plan.
        make_rank_fusion: Creates the rank fusion; only called in hybrid mode.
        rate_look: Returns the probability of candidates that they show what the query describes,
            float64 (n,), NaN without pixels; only called in hybrid mode.
    """
    if plan.query_vector is None or vector_matches is None:
        candidates = _rank_by_texts(plan) if plan.text_terms else _rank_by_date(plan)
    elif plan.mode is Mode.VECTOR:
        candidates = _rank_by_vectors(plan.query_vector, vector_matches)
    else:
        candidates = _rank_hybrid(
            plan.scope,
            plan.query_vector,
            vector_matches,
            plan.text_terms,
            make_rank_fusion(),
            rate_look,
            plan.depth,
        )
    snapshot = plan.scope.snapshot
    if snapshot.has_moments:
        contents = snapshot.content_ids(candidates.ids)
        groups = plan.group_ids(candidates.ids) if plan.fold else contents
        return candidates.group(groups, contents, plan.depth)
    if plan.fold:
        _, groups = group_first(plan, candidates.ids, plan.depth)
        return candidates.take(np.arange(len(groups))).group(groups, None, plan.depth)
    return candidates.take(np.arange(min(plan.depth, len(candidates.ids))))


def _combine_terms(scope: SearchScope, term_vectors: Vectors, terms: Sequence[Term]) -> Vectors:
    """Combine the vectors of several terms into one query vector.

    Text and image vectors occupy different regions of the shared space: the similarities of a
    picture term vary more between pictures than those of a text term and would dominate the sum.
    Each term is therefore divided by the standard deviation of its similarities to a sample of the
    library.

    Args:
        scope: The pictures to search.
        term_vectors: (n, fused dim), one row for each term.
        terms: The terms; one with a negative weight is subtracted.

    Returns:
        (1, fused dim).

    Raises:
        InvalidQueryError: The terms cancel each other.
    """
    if len(term_vectors) == 1:
        return term_vectors
    stds = np.array([background.std for background in scope.score_distributions(term_vectors)])
    weights = [term.weight if term.weight > 0 else term.weight * NEGATIVE_WEIGHT for term in terms]
    scaled_weights = np.array(weights) / stds
    combined = scaled_weights @ term_vectors.astype(np.float64)
    if np.linalg.norm(combined) <= MIN_NORM * np.abs(scaled_weights).sum():
        raise InvalidQueryError(
            "The terms of the query cancel each other.",
            "Subtract something other than what you add.",
        )
    return as_unit_vectors(combined[None, :])


def _rank_by_vectors(query_vector: Vectors, vector_matches: VectorMatches) -> Candidates:
    """Return candidates ranked by cosine similarity alone."""
    ids, scores = vector_matches.ids, vector_matches.scores
    zeros = np.zeros(len(ids), dtype=np.float32)
    return Candidates(
        ids,
        scores.astype(np.float64),
        zeros,
        zeros,
        scores,
        query_vector,
        vector_matches.background,
    )


def _rank_by_texts(plan: QueryPlan) -> Candidates:
    """Return candidates ranked by their text scores alone, enough if there are as many."""
    scope, limit = plan.scope, max(plan.depth, FUSION_DEPTH)
    matches = scope.match(plan.text_terms, limit)
    num_found = len(matches.ids)
    while plan.fold and num_found >= limit and lacks_groups(plan, matches.ids):
        limit *= WIDENING
        more = scope.match(plan.text_terms, limit)
        num_found = len(more.ids)
        matches = append_groups(plan, matches, more)
    scores = matches.scores
    return Candidates(matches.ids, scores.astype(np.float64), scores, matches.evidence)


def _rank_by_date(plan: QueryPlan) -> Candidates:
    """Return candidates without a description, the newest first, enough if there are as many."""
    ids = list_newest(plan, max(plan.depth, FUSION_DEPTH))
    zeros = np.zeros(len(ids), dtype=np.float32)
    return Candidates(ids, zeros.astype(np.float64), zeros, zeros)


def _rank_hybrid(
    scope: SearchScope,
    query_vector: Vectors,
    vector_matches: VectorMatches,
    text_terms: Sequence[TextTerm],
    rank_fusion: RankFusion,
    rate_look: Callable[[Candidates], NDArray[np.float64] | None],
    k: int,
) -> Candidates:
    """Return the candidates of both lists, ranked by a rank fusion."""
    matches = _order_by_evidence(scope.match(text_terms, max(k, FUSION_DEPTH)))
    candidates = _merge_candidates(scope, query_vector, vector_matches, matches, rate_look)
    scores = rank_fusion.fuse(candidates)
    # A text that holds all words is better evidence than the best look, which may match nothing.
    ties = (candidates.ids, -candidates.visual_scores, -candidates.text_scores)
    order = np.lexsort((*ties, -scores))
    visual = _hide_missing(candidates.visual_scores, candidates.has_look)
    return Candidates(
        candidates.ids[order],
        scores[order],
        candidates.text_scores[order],
        candidates.evidence[order],
        visual[order],
        query_vector,
        vector_matches.background,
    )


def _order_by_evidence(matches: TextMatches) -> TextMatches:
    """Return the matches that are evidence, best first, with scores in (0, 1] that say how much.

    In hybrid mode, words that say nothing must not lift a picture.
    """
    order = np.argsort(-matches.evidence, kind="stable")
    order = order[matches.evidence[order] > 0]
    scores = np.sqrt(np.minimum(matches.evidence[order] / FULL_EVIDENCE, 1.0)).astype(np.float32)
    return TextMatches(matches.ids[order], scores, matches.evidence[order])


def _merge_candidates(
    scope: SearchScope,
    query_vector: Vectors,
    vector_matches: VectorMatches,
    matches: TextMatches,
    rate_look: Callable[[Candidates], NDArray[np.float64] | None],
) -> HybridCandidates:
    vector_ids, similarities = vector_matches.ids, vector_matches.scores
    without_pixels = scope.snapshot.ids_without_pixels
    text_only_ids = np.setdiff1d(matches.ids, vector_ids)
    has_pixels = np.isin(text_only_ids, without_pixels, invert=True)
    ids = np.concatenate([vector_ids, text_only_ids])
    other_scores = np.full(len(text_only_ids), vector_matches.background.median, np.float32)
    other_scores[has_pixels] = scope.store.scores(query_vector, text_only_ids[has_pixels])[0]
    visual = np.concatenate([similarities, other_scores])
    order = np.argsort(ids)
    ids, visual = ids[order], visual[order]
    visual_ranks = np.empty(len(ids), dtype=np.int64)
    visual_ranks[np.lexsort((ids, -visual))] = np.arange(1, len(ids) + 1)
    text = np.zeros(len(ids), dtype=np.float32)
    text_ranks = np.zeros(len(ids), dtype=np.int64)
    positions = np.searchsorted(ids, matches.ids)
    text[positions] = matches.scores
    text_ranks[positions] = np.arange(1, len(matches.ids) + 1)
    evidence = np.zeros(len(ids), dtype=np.float32)
    evidence[positions] = matches.evidence
    has_look = None if has_pixels.all() else np.isin(ids, without_pixels, invert=True)
    rated = Candidates(
        ids,
        np.zeros(len(ids)),
        text,
        evidence,
        _hide_missing(visual, has_look),
        query_vector,
        vector_matches.background,
    )
    look = rate_look(rated)
    look = np.full(len(ids), TEXT_PRIOR) if look is None else look
    return HybridCandidates(
        ids,
        visual,
        visual_ranks,
        text,
        text_ranks,
        scope.snapshot.has_text_mask(ids),
        vector_matches.background.median,
        np.where(np.isnan(look), TEXT_PRIOR, look),
        evidence,
        has_look,
    )


def _hide_missing(
    visual: NDArray[np.float32], has_look: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Return visual scores with NaN for items without pixels."""
    return visual if has_look is None else np.where(has_look, visual, np.float32(np.nan))
