"""Differences from exact search that a check of a vector index counts as damage."""

import numpy as np

from mmsearch.core.types import Ranking
from mmsearch.core.vectors import as_unit_vectors, exact_top_k, stack
from mmsearch.maintenance.check import _count_wrong

ROWS = as_unit_vectors(np.random.default_rng(0).standard_normal((50, 8)))
IDS = np.arange(50, dtype=np.int64)


def truth(queries, k):
    return stack([exact_top_k(IDS, ROWS, query, k) for query in queries], k)


class Missing:
    """A vector index that finds all true neighbours except the third."""

    score_tolerance = 1e-5

    def __init__(self, stats, shift=0.0):
        self.stats = stats
        self._shift = shift

    def search(self, queries, k):
        found = truth(queries, k + 1)
        ids, scores = (np.delete(part, 2, axis=1) for part in (found.ids, found.scores))
        return Ranking(ids, scores + np.float32(self._shift))


APPROXIMATE = {"recall": 1.0, "recall_low": 1.0, "recall_high": 1.0}


def test_count_wrong_approximate_index_missing_neighbour_returns_zero():
    assert _count_wrong(Missing(APPROXIMATE), ROWS[:6], truth(ROWS[:6], 5)) == 0


def test_count_wrong_exact_index_missing_neighbour_counts_each_query():
    assert _count_wrong(Missing({"recall": 1.0}), ROWS[:6], truth(ROWS[:6], 5)) == 6


def test_count_wrong_approximate_index_with_false_scores_counts_each_query():
    assert _count_wrong(Missing(APPROXIMATE, shift=0.1), ROWS[:6], truth(ROWS[:6], 5)) == 6
