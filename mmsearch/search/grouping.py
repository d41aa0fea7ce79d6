"""Groups of candidates: the items of one content, and the contents of one stack of duplicates.

A group becomes one hit. If a few groups hold all the nearest items, further ones are searched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.core.query import TextMatches
from mmsearch.core.types import Ids

if TYPE_CHECKING:
    from mmsearch.search.retrieval import QueryPlan, VectorMatches

WIDENING = 2
"""Factor by which each further search for contents or stacks asks for more items."""

MAX_WIDENED = 1000
"""Maximum number of items that a further search asks for, unless k is higher."""


def list_newest(plan: QueryPlan, limit: int) -> Ids:
    """Return the newest items, with enough contents or stacks if there are as many.

    Args:
        plan: The plan of a query without a description.
        limit: Number of items; more only if they are too few contents or stacks.
    """
    scope = plan.scope
    excluded = np.empty(0, np.int64) if scope.excluded is None else scope.excluded
    while True:
        found = scope.snapshot.newest_ids(limit + len(excluded), scope.filters)
        ids = found[np.isin(found, excluded, invert=True)]
        is_last = len(found) < limit + len(excluded)
        if is_last or not plan.has_groups or not lacks_groups(plan, ids):
            return ids
        limit *= WIDENING


def add_groups(plan: QueryPlan, found: VectorMatches) -> VectorMatches:
    """Add the nearest items of further contents or stacks until there are enough of them.

    Further items follow the nearest ones, so that these do not depend on the depth of the plan:
    what an approximate index has missed stays missed.
    """
    scope, count = plan.scope, plan.num_candidates
    ids, scores = found.ids, found.scores
    excluded = np.empty(0, np.int64) if scope.excluded is None else scope.excluded
    is_last = len(ids) < count or count >= scope.items
    while plan.query_vector is not None and not is_last and lacks_groups(plan, ids):
        count = min(WIDENING * count, max(plan.depth, MAX_WIDENED))
        excluded = np.union1d(excluded, plan.ids_in_groups(ids))
        ranking = scope.store.search(plan.query_vector, count, scope.filters, excluded)
        is_hit = ranking.ids[0] >= 0
        is_last = not is_hit.all()
        new_ids, new_scores = ranking.ids[0][is_hit], ranking.scores[0][is_hit]
        excluded = np.union1d(excluded, new_ids)
        follows = (new_scores < scores[-1]) | ((new_scores == scores[-1]) & (new_ids > ids[-1]))
        ids = np.concatenate([ids, new_ids[follows]])
        scores = np.concatenate([scores, new_scores[follows]])
    return replace(found, ids=ids, scores=scores)


def lacks_groups(plan: QueryPlan, ids: Ids) -> bool:
    """Return True if items belong to fewer contents or stacks than the plan needs."""
    num_groups, _ = group_first(plan, ids, plan.num_groups)
    return num_groups < plan.num_groups


def group_first(plan: QueryPlan, ids: Ids, wanted: int) -> tuple[int, Ids]:
    """Return the groups of the first items of a ranking, as many as belong to enough groups.

    Returns:
        The number of different groups, and the group of each of the first items, int64 (m,).
    """
    # A look-up of a thousand items takes longer than a search.
    length = 2 * wanted
    while True:
        groups = plan.group_ids(ids[:length])
        num_groups = len(np.unique(groups))
        if num_groups >= wanted or length >= len(ids):
            return num_groups, groups
        length *= WIDENING


def append_groups(plan: QueryPlan, matches: TextMatches, more: TextMatches) -> TextMatches:
    """Return matches followed by those of further groups, so that the first ones stay the same."""
    is_new = np.isin(plan.group_ids(more.ids), plan.group_ids(matches.ids), invert=True)
    # Weights of words depend on how many pictures are compared.
    scores = np.minimum(more.scores[is_new], matches.scores[-1])
    return TextMatches(
        np.concatenate([matches.ids, more.ids[is_new]]),
        np.concatenate([matches.scores, scores]),
        np.concatenate([matches.evidence, more.evidence[is_new]]),
    )
