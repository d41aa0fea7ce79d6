"""Exact search returns the same answers for any batch size and number of threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core import threads
from mmsearch.core.vectors import row_scores, top_k
from mmsearch.vector_indexes import _exact
from mmsearch.vector_indexes._exact import MIN_QUERIES_FOR_GEMM, StoredRows, gemm_top_k
from tests.property_budget import examples

DIM = 48


def random_unit_rows(count, seed):
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def content():
    rows = random_unit_rows(20_000, 1).astype(np.float16)
    # Equal rows, near each other and far apart.
    rows[[5, 6, 15_000]] = rows[5]
    return rows


@pytest.fixture
def queries(content):
    vectors = np.concatenate(
        [random_unit_rows(MIN_QUERIES_FOR_GEMM, 2), content[5:6].astype(np.float32)]
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_stored_rows(content):
    return StoredRows(np.arange(len(content), dtype=np.int64)[::-1] * 2, content)


@pytest.fixture
def three_parts(content, monkeypatch):
    monkeypatch.setattr(_exact, "MIN_BYTES_PER_PART", content.nbytes // 4)
    monkeypatch.setattr(_exact, "available_cpus", lambda: 3)
    monkeypatch.setattr(_exact.faiss, "omp_get_max_threads", lambda: 3)


def test_stored_rows_search_single_query_equals_batch(content, queries, monkeypatch):
    rows = make_stored_rows(content)
    products = []

    def counting_gemm(*arguments):
        products.append(arguments)
        return gemm_top_k(*arguments)

    monkeypatch.setattr(_exact, "gemm_top_k", counting_gemm)
    together = rows.search(queries, 20, None)
    assert len(products) == 1
    for number, query in enumerate(queries):
        alone = rows.search(query[None], 20, None)
        np.testing.assert_array_equal(alone.ids[0], together.ids[number])
        np.testing.assert_array_equal(alone.scores[0], together.scores[number])
    assert len(products) == 1


@pytest.mark.parametrize("asked", [1, MIN_QUERIES_FOR_GEMM + 1])
@pytest.mark.parametrize("share", [1, 3, 900])
@pytest.mark.parametrize("k", [1, 20, 7_000, 20_000])
def test_stored_rows_search_in_three_parts_equals_unpartitioned_top_k(
    content, queries, three_parts, asked, share, k
):
    places = None if share == 1 else np.arange(0, len(content), share)
    rows = make_stored_rows(content)
    assert len(rows._partition(asked)) == 3
    found = rows.search(queries[:asked], k, places)
    ids, kept = rows.row_ids[::share], content[::share]
    for number, query in enumerate(queries[:asked]):
        wanted, scores = top_k(ids, row_scores(kept, query), k)
        np.testing.assert_array_equal(found.ids[number], wanted)
        np.testing.assert_array_equal(found.scores[number], scores)


def test_stored_rows_search_with_one_thread_uses_no_helper_pool(
    content, queries, three_parts, monkeypatch
):
    rows = make_stored_rows(content)
    shared = rows.search(queries, 5, None)
    assert len(rows._partition(1)) == 3
    monkeypatch.setattr(_exact.faiss, "omp_get_max_threads", lambda: 1)
    monkeypatch.setattr(threads, "_helper_pool", None)
    alone = rows.search(queries, 5, None)
    np.testing.assert_array_equal(alone.ids, shared.ids)
    assert len(rows._partition(1)) == 1


@pytest.mark.parametrize(("asked", "parts"), [(0, 1), (1, 1), (63, 1), (200, 3), (10_000, 8)])
def test_scan_partition_uses_more_parts_for_more_queries(content, monkeypatch, asked, parts):
    monkeypatch.setattr(_exact, "available_cpus", lambda: 8)
    monkeypatch.setattr(_exact.faiss, "omp_get_max_threads", lambda: 8)
    assert len(make_stored_rows(content)._partition(asked)) == parts


@given(
    rows=st.integers(1, 300),
    asked=st.integers(1, 20),
    block=st.integers(1, 400),
    share=st.floats(0, 1),
    step=st.integers(1, 4),
    distinct=st.integers(1, 300),
    ascending=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=examples(150), deadline=None)
def test_gemm_top_k_any_sizes_returns_best_scores_and_allowed_places(
    rows, asked, block, share, step, distinct, ascending, seed
):
    content = random_unit_rows(distinct, seed).astype(np.float16)[np.arange(rows) % distinct]
    allowed = np.arange(0, rows, step)
    queries, count = random_unit_rows(asked, seed + 1), max(1, int(share * len(allowed)))
    if ascending:
        content = content[np.argsort(content.astype(np.float32) @ queries[0])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_exact, "BLOCK_BYTES", block * 4 * DIM)
        scores, places = gemm_top_k(content, queries, count, None if step == 1 else allowed)
    assert scores.shape == places.shape == (asked, count)
    every = queries @ content.astype(np.float32).T
    np.testing.assert_allclose(scores, np.take_along_axis(every, places, axis=1), atol=1e-5)
    np.testing.assert_allclose(scores, -np.sort(-every[:, allowed], axis=1)[:, :count], atol=1e-5)
    assert np.isin(places, allowed).all()
    assert all(len(set(row)) == count for row in places.tolist())
