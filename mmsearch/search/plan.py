"""What one query looks for in one generation, and what is nearest to many queries at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmsearch.core.catalog import Snapshot
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import Blend
from mmsearch.core.queries import Mode, Query
from mmsearch.core.text_matches import Phrase
from mmsearch.core.types import Vectors
from mmsearch.search.retrieval import (
    DEPTH,
    Found,
    Library,
    Nearest,
    compose,
    rank_hybrid,
    rank_texts,
    rank_vectors,
)


@dataclass(frozen=True)
class Aim:
    """A query, as it is looked for.

    Attributes:
        library: What is searched.
        mode: What decides.
        phrases: Words to look for in texts.
        query: (1, fused dim), what vectors are compared with; None if words alone decide.
        depth: So many candidates are ranked.
    """

    library: Library
    mode: Mode
    phrases: Sequence[Phrase]
    query: Vectors | None
    depth: int

    @classmethod
    def of(cls, query: Query, vectors: Vectors | None, library: Library, depth: int) -> Aim:
        """What a query looks for.

        Args:
            query: As it was asked.
            vectors: (n, dim), a row a term; None if words alone decide.
            library: What it may find.
            depth: Hits that are wanted.

        Raises:
            InvalidQueryError: It has no words where words decide, or its terms cancel each other.
        """
        phrases = _phrases(query)
        mode = _mode(query, library.snapshot, phrases)
        depth = min(depth, max(library.size, 1))
        if vectors is None or mode is Mode.TEXT:
            return cls(library, mode, phrases, None, depth)
        looked_for = compose(library, vectors, [term.weight for term in query.terms])
        return cls(library, mode, phrases, looked_for, depth)

    @property
    def reach(self) -> int:
        """So many of the nearest pictures are candidates."""
        if self.mode is not Mode.HYBRID:
            return self.depth
        return min(max(self.depth, DEPTH), max(self.library.size, 1))


def nearest(aims: Sequence[Aim]) -> list[Nearest | None]:
    """For each, the nearest pictures that its ranking takes; None if vectors do not matter.

    Queries over the same pictures are looked for together: a scan then reads the vectors once.
    """
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, aim in enumerate(aims):
        if aim.query is not None:
            alike[id(aim.library), aim.reach].append(number)
    found: list[Nearest | None] = [None] * len(aims)
    for numbers in alike.values():
        first = aims[numbers[0]]
        queries = np.concatenate([q for n in numbers if (q := aims[n].query) is not None])
        rankings = first.library.nearest(queries, first.reach)
        for number, ranking in zip(numbers, rankings, strict=True):
            found[number] = ranking
    return found


def rank(aim: Aim, near: Nearest | None, make_blend: Callable[[], Blend]) -> Found:
    """The candidates of a query in order.

    Args:
        aim: The query.
        near: As `nearest` gave it.
        make_blend: Joins both lists in hybrid mode.
    """
    if aim.query is None or near is None:
        return rank_texts(aim.library, aim.phrases, aim.depth)
    if aim.mode is Mode.VECTOR:
        return rank_vectors(aim.query, near)
    return rank_hybrid(aim.library, aim.query, near, aim.phrases, make_blend(), aim.depth)


def _phrases(query: Query) -> list[Phrase]:
    return [Phrase(term.text, term.weight) for term in query.terms if term.text]


def _mode(query: Query, snapshot: Snapshot, phrases: Sequence[Phrase]) -> Mode:
    """What decides, as far as the query has words and the index has texts."""
    words = any(phrase.weight > 0 for phrase in phrases)
    if query.mode is Mode.TEXT and not words:
        raise InvalidQueryError(
            "A query without words cannot be looked for in texts.", "Leave out --mode text."
        )
    if not words:
        return Mode.VECTOR
    return query.mode or (Mode.HYBRID if snapshot.has_texts else Mode.VECTOR)
