"""The map keeps inner products as well as a map to so few dimensions can."""

import numpy as np
import pytest

from mmsearch.vector_indexes._projection import learn_map
from tests.gapped import gapped

ROWS, TEXTS = gapped(4000, 2000)
OTHER_ROWS, OTHER_TEXTS = gapped(3000, 300, seed=1)


def error(query_map, rows, texts):
    """Mean squared error of scores, what is common to all rows aside."""
    true = texts @ (rows - query_map.mean).T
    mapped = query_map.of_queries(texts) @ query_map.of_rows(rows).T
    return float(np.mean((true - mapped) ** 2))


def test_all_dimensions_keep_every_score():
    whole = learn_map(TEXTS, ROWS)
    assert whole.dims == ROWS.shape[1]
    assert error(whole, OTHER_ROWS, OTHER_TEXTS) < 1e-9


def test_the_first_dimensions_tell_most():
    whole = learn_map(TEXTS, ROWS)
    errors = [error(whole.first(dims), OTHER_ROWS, OTHER_TEXTS) for dims in (8, 16, 32, 64, 96)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("dims", [8, 16, 32])
def test_it_is_better_than_what_keeps_the_variance_of_the_rows(dims):
    learned = learn_map(TEXTS, ROWS).first(dims)
    centred = OTHER_ROWS - ROWS.mean(axis=0)
    _, _, axes = np.linalg.svd(ROWS - ROWS.mean(axis=0), full_matrices=False)
    kept = axes[:dims].T
    principal = np.mean((OTHER_TEXTS @ centred.T - (OTHER_TEXTS @ kept) @ (centred @ kept).T) ** 2)
    assert error(learned, OTHER_ROWS, OTHER_TEXTS) < 0.8 * principal


def test_no_other_map_of_as_many_dimensions_has_a_smaller_error():
    dims = 12
    best = learn_map(TEXTS, ROWS).first(dims)
    random = np.random.default_rng(5)
    # The share of pictures among the queries is part of what is minimised.
    asked = np.concatenate([TEXTS, ROWS[:2000] / 3])
    least = error(best, ROWS, asked)
    for scale in (0.003, 0.01, 0.03):
        for _ in range(5):
            moved = type(best)(
                best.queries + scale * random.standard_normal(best.queries.shape).astype("f4"),
                best.rows + scale * random.standard_normal(best.rows.shape).astype("f4"),
                best.mean,
            )
            assert error(moved, ROWS, asked) > least


def test_one_training_query_is_enough_to_learn_something():
    whole = learn_map(TEXTS[:1], ROWS)
    assert np.isfinite(whole.queries).all()
    assert np.isfinite(whole.rows).all()
    assert error(whole, OTHER_ROWS, OTHER_TEXTS) < 1e-6
