"""One query's candidates in order: by vectors, by texts, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.ordering import row_scores
from mmsearch.core.protocols import Blend, Fusion
from mmsearch.core.text_matches import Evidence, Phrase, TextMatches
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.background_sample import Sampler
from mmsearch.search.confidence import Background
from mmsearch.search.index_reader import View

DEPTH = 1000
"""Candidates that each list brings to a blend. Fixed, so that the top 5 begins the top 15."""

NEGATIVE_SHARE = 0.75
"""Of what a positive term counts; more, and pictures win that are merely unlike what is not wanted.
Chosen by the study of negative terms in benchmarks/RESULTS.md."""

NO_DIRECTION = 1e-6


@dataclass(frozen=True)
class Nearest:
    """The pictures nearest to a query, best first, and what is usual for it.

    Attributes:
        ids: int64 (n,).
        scores: float32 (n,), cosine similarities.
        background: Of the query.
    """

    ids: Ids
    scores: NDArray[np.float32]
    background: Background


@dataclass(frozen=True)
class Library:
    """The pictures of one generation that a query may find.

    Attributes:
        view: Their vectors.
        snapshot: Their records.
        fusion: That of the generation.
        allowed: Ids that pass the filters; None: all.
        sampler: Picks pictures of all kinds.
    """

    view: View
    snapshot: Snapshot
    fusion: Fusion
    allowed: Ids | None
    sampler: Sampler

    @property
    def size(self) -> int:
        """Pictures that may be found."""
        return self.snapshot.pictures if self.allowed is None else len(self.allowed)

    def nearest(self, queries: Vectors, k: int) -> list[Nearest]:
        """For each of (q, dim), the k best pictures, without padding."""
        ranking = self.view.search(queries, k, self.snapshot.dead_ids, self.allowed)
        rows = zip(ranking.ids, ranking.scores, self.backgrounds(queries), strict=True)
        return [Nearest(ids[ids >= 0], scores[ids >= 0], usual) for ids, scores, usual in rows]

    def scores(self, query: Vectors, ids: Ids) -> NDArray[np.float32]:
        """float32 (n,): cosine similarities of pictures with (1, dim), in their order."""
        if not len(ids):
            return np.empty(0, dtype=np.float32)
        return row_scores(self.view.vectors(ids), query[0])

    def backgrounds(self, queries: Vectors) -> list[Background]:
        """What the similarity of each of (q, dim) is to pictures of all kinds."""
        sample = self.sampler.vectors(self.view, self.snapshot)
        if not len(sample):
            return Background.each(np.empty((len(queries), 0), np.float32))
        # A matrix product would wait for threads.
        return Background.each(row_scores(sample, queries[:, None, :]))


@dataclass(frozen=True)
class Found:
    """Candidates, best first.

    Attributes:
        ids: int64 (n,).
        scores: float64 (n,), what the order goes by.
        text: float32 (n,), text scores.
        visual: float32 (n,), cosine similarities; None if only texts were asked.
        query: (1, dim), what vectors were compared with; None likewise.
        background: Of that; None likewise.
    """

    ids: Ids
    scores: NDArray[np.float64]
    text: NDArray[np.float32]
    visual: NDArray[np.float32] | None = None
    query: Vectors | None = None
    background: Background | None = field(default=None)


def compose(library: Library, vectors: Vectors, weights: Sequence[float]) -> Vectors:
    """One query vector of several terms.

    Texts and pictures lie apart in a shared space, so that the similarities of a picture term
    differ more between pictures than those of a text term, and would decide alone. Each term is
    therefore divided by the spread of its similarities to a sample of the library.

    Args:
        library: What is searched.
        vectors: (n, dim), a row a term.
        weights: Of each; a negative one takes away.

    Returns:
        (1, fused dim).

    Raises:
        InvalidQueryError: The terms cancel each other.
    """
    terms = library.fusion.fuse_query(vectors)
    if len(terms) == 1:
        return terms
    spreads = np.array([background.spread for background in library.backgrounds(terms)])
    shares = np.array([w if w > 0 else w * NEGATIVE_SHARE for w in weights]) / spreads
    joined = shares @ terms.astype(np.float64)
    if np.linalg.norm(joined) <= NO_DIRECTION * np.abs(shares).sum():
        raise InvalidQueryError(
            "The terms of the query cancel each other.", "Take away something else than is added."
        )
    return as_unit_vectors(joined[None, :])


def rank_vectors(query: Vectors, nearest: Nearest) -> Found:
    """By cosine similarity alone."""
    ids, scores = nearest.ids, nearest.scores
    nothing = np.zeros(len(ids), dtype=np.float32)
    return Found(ids, scores.astype(np.float64), nothing, scores, query, nearest.background)


def rank_texts(library: Library, phrases: Sequence[Phrase], k: int) -> Found:
    """By the words of texts alone."""
    matches = library.snapshot.match(phrases, max(k, DEPTH), library.allowed)
    ids, scores = matches.ids[:k], matches.scores[:k]
    return Found(ids, scores.astype(np.float64), scores)


def rank_hybrid(
    library: Library,
    query: Vectors,
    nearest: Nearest,
    phrases: Sequence[Phrase],
    blend: Blend,
    k: int,
) -> Found:
    """By both, as a blend has it."""
    matches = library.snapshot.match(phrases, max(k, DEPTH), library.allowed)
    evidence = _evidence(library, query, nearest, matches)
    scores = blend.blend(evidence)
    order = np.lexsort((evidence.ids, -evidence.visual, -scores))[:k]
    return Found(
        evidence.ids[order],
        scores[order],
        evidence.text[order],
        evidence.visual[order],
        query,
        nearest.background,
    )


def _evidence(
    library: Library,
    query: Vectors,
    nearest: Nearest,
    matches: TextMatches,
) -> Evidence:
    found, similarities = nearest.ids, nearest.scores
    others = np.setdiff1d(matches.ids, found)
    ids = np.concatenate([found, others])
    visual = np.concatenate([similarities, library.scores(query, others)])
    by_id = np.argsort(ids)
    ids, visual = ids[by_id], visual[by_id]
    visual_ranks = np.empty(len(ids), dtype=np.int64)
    visual_ranks[np.lexsort((ids, -visual))] = np.arange(1, len(ids) + 1)
    text = np.zeros(len(ids), dtype=np.float32)
    text_ranks = np.zeros(len(ids), dtype=np.int64)
    places = np.searchsorted(ids, matches.ids)
    text[places] = matches.scores
    text_ranks[places] = np.arange(1, len(matches.ids) + 1)
    return Evidence(
        ids,
        visual,
        visual_ranks,
        text,
        text_ranks,
        library.snapshot.with_texts(ids),
        nearest.background.floor,
    )
