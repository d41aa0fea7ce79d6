"""Grouping of candidates: enough stacks, the order of an exhaustive search, and stable pages."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.query import Mode
from mmsearch.core.types import Ranking
from mmsearch.core.vectors import top_k
from mmsearch.search import grouping, retrieval
from mmsearch.search.grouping import add_groups
from mmsearch.search.retrieval import QueryPlan, ScoreDistribution, VectorMatches, rank_candidates
from tests.property_budget import examples


class FakeStore:
    """Items with given scores; an approximate search misses some of them if it wants few."""

    def __init__(self, scores, missed, quick_k):
        self.ids = np.arange(1, len(scores) + 1)
        self.scores = np.array(scores, dtype=np.float32)
        self.missed = missed
        self.quick_k = quick_k
        self.searches = 0

    def search(self, queries, k, filters=None, excluded=()):
        self.searches += 1
        found = ~np.isin(self.ids, excluded)
        if k <= self.quick_k:
            found &= ~np.isin(self.ids, self.missed)
        ids, scores = top_k(self.ids[found], self.scores[found], k)
        return Ranking(ids[None], scores[None])


class FakeSnapshot:
    has_moments = False
    has_stacks = True
    has_texts = False

    def __init__(self, stacks):
        self.numbers = np.array(stacks)

    def stack_ids(self, ids):
        return self.numbers[ids - 1]

    def stack_item_ids(self, ids):
        return np.flatnonzero(np.isin(self.numbers, self.stack_ids(ids))) + 1


def search(store, snapshot, depth):
    """Return the ids of the hits of a folded search by vectors."""
    size = len(store.ids)
    scope = SimpleNamespace(
        store=store, snapshot=snapshot, filters=None, excluded=None, items=size, size=size
    )
    query = np.ones((1, 1), dtype=np.float32)
    plan = QueryPlan(scope, Mode.VECTOR, [], query, min(depth, size), fold=True)
    ranking = store.search(query, plan.num_candidates)
    is_hit = ranking.ids[0] >= 0
    background = ScoreDistribution(0.0, 1.0, 0.0)
    found = VectorMatches(ranking.ids[0][is_hit], ranking.scores[0][is_hit], background)
    candidates = rank_candidates(plan, add_groups(plan, found), None, None)
    assert candidates.scores.tolist() == sorted(candidates.scores, reverse=True)
    return candidates.ids.tolist()


ITEMS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=120)


@settings(max_examples=examples(300))
@given(
    items=ITEMS, missed=st.sets(st.integers(1, 120), max_size=30), first=st.sampled_from([4, 20])
)
def test_pages_are_prefixes_of_each_other_and_of_an_exhaustive_search(items, missed, first):
    scores, stacks = zip(*((score / 32, stack) for score, stack in items), strict=True)
    snapshot = FakeSnapshot(stacks)
    order = np.lexsort((np.arange(len(scores)), -np.array(scores)))
    _, firsts = np.unique(np.array(stacks)[order], return_index=True)
    expected = (order[np.sort(firsts)] + 1).tolist()
    with (
        patch.object(retrieval, "FOLD_DEPTH", first),
        patch.object(retrieval, "FUSION_DEPTH", 40),
        patch.object(grouping, "MAX_WIDENED", 40),
    ):
        exact = [search(FakeStore(scores, (), 0), snapshot, depth) for depth in (1, 5, 15, 120)]
        rough = [
            search(FakeStore(scores, list(missed), first), snapshot, d) for d in (1, first // 2)
        ]
    assert exact[-1] == expected
    assert [page == expected[: len(page)] for page in exact] == [True] * len(exact)
    assert [len(page) for page in exact] == [min(d, len(expected)) for d in (1, 5, 15, 120)]
    # Depths that begin with the same search.
    assert rough[0] == rough[1][:1]


def test_burst_that_fills_the_first_search_takes_one_more():
    scores = [1.0] * 300 + [0.5] * 50
    store = FakeStore(scores, (), 0)
    snapshot = FakeSnapshot([0] * 300 + list(range(1, 51)))
    assert search(store, snapshot, 10) == [1, *range(301, 310)]
    assert store.searches == 2
    store = FakeStore(scores[200:], (), 0)
    assert search(store, FakeSnapshot([0] * 100 + list(range(1, 51))), 10)[0] == 1
    assert store.searches == 1
