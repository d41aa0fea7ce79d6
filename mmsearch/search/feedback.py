"""Relevance feedback: liked and disliked pictures move the vector of a query.

This is Rocchio's method on standardized similarities, with a weight that falls with what the query
says by itself. A liked picture that the query ranks high tells little; one that it ranks among many
others tells what was meant. The weights are in standard deviations of the query, so that they hold
for every encoder. They were chosen on drawings and judged on photographs (section "Relevance
feedback" of benchmarks/RESULTS.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Term
from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors, row_scores

if TYPE_CHECKING:
    from mmsearch.search.retrieval import SearchScope

LIKE_WEIGHT = 6.0
"""Weight of a liked picture at the mean similarity of the library, relative to the query."""

LIKE_DECAY = 1.5
"""Standard deviations above the mean over which the weight falls to 1/e."""

UNLIKE_SHARE = 0.125
"""Weight of a disliked picture relative to a liked one. A picture is crossed out for one reason of
many, so most of what it shows says nothing: higher shares lose more pictures than they find."""

MIN_SURPRISE_STD = 1.0
"""Standard deviations above the mean below which the weight of a picture does not rise further."""

MIN_NORM = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Feedback:
    """Weights by which clicked pictures move a query.

    Attributes:
        rows: Rows of their terms, int64 (n,), in the order of the ids of the pictures.
        weights: float64 (n,), weight of each relative to the query without them, in standard
            deviations; negative for disliked ones.
        base_std: Standard deviation of the similarities of the query without them to the library.
    """

    rows: NDArray[np.intp]
    weights: Floats
    base_std: float


def feedback_rows(terms: Sequence[Term]) -> NDArray[np.intp]:
    """Return the rows of the terms that are feedback, in the order of the ids of their pictures.

    These are the pictures of the index. If nothing else says what is wanted, the liked ones are the
    query itself, and only the disliked ones are feedback.
    """
    has_query = any(term.picture is None and term.weight > 0 for term in terms)
    rows = [
        row
        for row, term in enumerate(terms)
        if term.picture is not None and (has_query or term.weight < 0)
    ]
    # Sums of floats depend on their order, and the order of clicks must not matter.
    return np.array(sorted(rows, key=lambda row: (terms[row].picture, row)), dtype=np.intp)


def disliked_ids(terms: Sequence[Term]) -> Ids:
    """Return the ids of disliked pictures, int64 (n,), ascending."""
    ids = {term.picture for term in terms if term.picture is not None and term.weight < 0}
    return np.array(sorted(ids), dtype=np.int64)


def move_query(
    scope: SearchScope, base: Vectors, vectors: Vectors, terms: Sequence[Term]
) -> tuple[Vectors, Feedback]:
    """Move a query towards liked pictures and away from disliked ones.

    Args:
        scope: The pictures to search.
        base: (1, fused dim), the query without feedback.
        vectors: (terms, fused dim), one row for each term.
        terms: The terms, of which some are feedback.

    Returns:
        The moved query, (1, fused dim), and the weights of the pictures.

    Raises:
        InvalidQueryError: The pictures cancel the query.
    """
    rows = feedback_rows(terms)
    clicked = vectors[rows]
    backgrounds = scope.score_distributions(np.concatenate([base, clicked]))
    base_background = backgrounds[0]
    similarities = row_scores(clicked, base).astype(np.float64)
    deviations = (similarities - base_background.mean) / base_background.std
    given = np.array([terms[row].weight for row in rows.tolist()])
    weights = click_weights(deviations, given)
    stds = np.array([background.std for background in backgrounds[1:]])
    moved = base[0] / base_background.std
    moved = moved + (weights / stds) @ clicked.astype(np.float64)
    if np.linalg.norm(moved) * base_background.std <= MIN_NORM:
        raise InvalidQueryError(
            "The pictures of the query cancel its description.", "Leave out one of them."
        )
    return as_unit_vectors(moved[None, :]), Feedback(rows, weights, base_background.std)


def click_weights(deviations: Floats, given: Floats) -> Floats:
    """Return the weights of clicked pictures relative to the query.

    Args:
        deviations: float64 (n,), standard deviations by which each picture is more similar to the
            query than the library is.
        given: float64 (n,), weights of their terms. Those of liked pictures are relative to each
            other, and so are those of disliked ones: several count as much as one.
    """
    surprise = LIKE_WEIGHT * np.exp(-np.maximum(deviations, MIN_SURPRISE_STD) / LIKE_DECAY)
    weights = np.zeros(len(given))
    for is_chosen, share in ((given > 0, 1.0), (given < 0, UNLIKE_SHARE)):
        if is_chosen.any():
            relative = given[is_chosen] / np.abs(given[is_chosen]).sum()
            weights[is_chosen] = share * relative * surprise[is_chosen]
    return weights
