"""The projection preserves inner products as well as any map to as few dimensions."""

import numpy as np
import pytest

from mmsearch.vector_indexes._projection import fit_projection
from tests.modality_gap import modality_gap_vectors

ROWS, TEXTS = modality_gap_vectors(4000, 2000)
OTHER_ROWS, OTHER_TEXTS = modality_gap_vectors(3000, 300, seed=1)


def mean_squared_error(projection, rows, texts):
    """Return the mean squared error of scores without the part common to all rows."""
    true = texts @ (rows - projection.mean).T
    mapped = projection.project_queries(texts) @ projection.project_rows(rows).T
    return float(np.mean((true - mapped) ** 2))


def test_projection_with_all_dimensions_preserves_scores():
    whole = fit_projection(TEXTS, ROWS)
    assert whole.dims == ROWS.shape[1]
    assert mean_squared_error(whole, OTHER_ROWS, OTHER_TEXTS) < 1e-9


def test_projection_error_falls_with_more_dimensions():
    whole = fit_projection(TEXTS, ROWS)
    errors = [
        mean_squared_error(whole.truncate(dims), OTHER_ROWS, OTHER_TEXTS)
        for dims in (8, 16, 32, 64, 96)
    ]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("dims", [8, 16, 32])
def test_projection_error_is_lower_than_that_of_pca(dims):
    learned = fit_projection(TEXTS, ROWS).truncate(dims)
    centred = OTHER_ROWS - ROWS.mean(axis=0)
    _, _, axes = np.linalg.svd(ROWS - ROWS.mean(axis=0), full_matrices=False)
    kept = axes[:dims].T
    principal = np.mean((OTHER_TEXTS @ centred.T - (OTHER_TEXTS @ kept) @ (centred @ kept).T) ** 2)
    assert mean_squared_error(learned, OTHER_ROWS, OTHER_TEXTS) < 0.8 * principal


def test_projection_perturbed_matrices_have_larger_error():
    dims = 12
    best = fit_projection(TEXTS, ROWS).truncate(dims)
    random = np.random.default_rng(5)
    # The minimised error includes a share of pictures among the queries.
    all_queries = np.concatenate([TEXTS, ROWS[:2000] / 3])
    min_error = mean_squared_error(best, ROWS, all_queries)
    for scale in (0.003, 0.01, 0.03):
        for _ in range(5):
            perturbed = type(best)(
                best.query_matrix
                + scale * random.standard_normal(best.query_matrix.shape).astype("f4"),
                best.row_matrix
                + scale * random.standard_normal(best.row_matrix.shape).astype("f4"),
                best.mean,
            )
            assert mean_squared_error(perturbed, ROWS, all_queries) > min_error


def test_projection_fitted_on_one_query_is_finite_and_preserves_scores():
    whole = fit_projection(TEXTS[:1], ROWS)
    assert np.isfinite(whole.query_matrix).all()
    assert np.isfinite(whole.row_matrix).all()
    assert mean_squared_error(whole, OTHER_ROWS, OTHER_TEXTS) < 1e-6
