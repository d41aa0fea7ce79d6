"""Contract tests that compare every vector index with a plain numpy computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core import plugins
from mmsearch.core.errors import DamagedFileError, DimensionError, UsageError
from mmsearch.core.types import IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from tests.property_budget import examples

DIM = 48
PLUGINS = plugins.names("vector_indexes")


def random_vectors(n, seed=0, dim=DIM):
    return as_unit_vectors(np.random.default_rng(seed).standard_normal((n, dim)).reshape(n, dim))


def make(name, ids, vectors, device="cpu"):
    module = plugins.load("vector_indexes", name)
    half = len(vectors) // 2
    blocks = [(ids[:half], vectors[:half]), (ids[half:], vectors[half:])]
    return module.build(IndexSpec(name, DIM, device), blocks)


@pytest.fixture(scope="module")
def library():
    vectors = random_vectors(3000)
    vectors[100:180] = vectors[100]
    return np.arange(3000, dtype=np.int64) * 3 + 7, vectors


@pytest.fixture(scope="module", params=PLUGINS)
def index(request, library):
    return make(request.param, *library)


def test_vector_index_plugins_include_exact_and_faiss_flat():
    assert {"exact", "faiss_flat"} <= set(PLUGINS)


@pytest.mark.parametrize("name", PLUGINS)
def test_vector_index_built_from_shuffled_blocks_is_identical(name, library):
    ids, vectors = library
    order = np.random.default_rng(5).permutation(len(ids))
    shuffled = make(name, ids[order], vectors[order])
    ordered = make(name, ids, vectors)
    np.testing.assert_array_equal(shuffled.ids, ids)
    queries, allowed = random_vectors(5, seed=8), ids[::7]
    for among in (None, allowed):
        one, other = shuffled.search(queries, 20, among), ordered.search(queries, 20, among)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(shuffled.vectors(allowed), ordered.vectors(allowed))


@pytest.mark.parametrize("k", [1, 10, 500, 3000, 4000])
def test_vector_index_search_matches_numpy_top_k(index, library, k):
    queries = random_vectors(7, seed=1)
    ranking = index.search(queries, k)
    assert ranking.ids.dtype == np.int64
    assert ranking.ids.shape == (7, k)
    assert ranking.scores.dtype == np.float32
    assert ranking.scores.shape == (7, k)
    ids, vectors = library
    truth = queries @ vectors.T
    found = min(k, len(ids))
    best = -np.sort(-truth, axis=1)[:, :found]
    np.testing.assert_allclose(ranking.scores[:, :found], best, atol=index.score_tolerance)
    for row in range(7):
        places = np.searchsorted(ids, ranking.ids[row, :found])
        np.testing.assert_array_equal(ids[places], ranking.ids[row, :found])
        np.testing.assert_allclose(
            ranking.scores[row, :found], truth[row, places], atol=index.score_tolerance
        )
        assert len(set(ranking.ids[row, :found].tolist())) == found
    assert (ranking.ids[:, found:] == -1).all()
    assert (ranking.scores[:, found:] == -np.inf).all()


def test_vector_index_search_orders_by_score_then_id(index, library):
    query = library[1][100:101]
    ranking = index.search(query, 60)
    assert (np.diff(ranking.scores[0]) <= 0).all()
    np.testing.assert_array_equal(ranking.ids[0], library[0][100:160])


def test_vector_index_search_small_k_returns_prefix_of_large_k(index, library):
    queries = np.vstack([random_vectors(5, seed=2), library[1][100:101]])
    long = index.search(queries, 90).ids
    for k in (1, 5, 15, 40):
        np.testing.assert_array_equal(index.search(queries, k).ids, long[:, :k])


@pytest.mark.parametrize(("k", "spare"), [(5, 3), (20, 1), (20, 200), (1000, 5)])
def test_vector_index_spare_results_follow_those_of_k(index, library, k, spare):
    queries = random_vectors(5, seed=2)
    longer = index.search(queries, k, spare=spare)
    assert longer.ids.shape == (5, k + spare)
    np.testing.assert_array_equal(longer.ids[:, :k], index.search(queries, k).ids)
    assert all(len(set(row)) == k + spare for row in longer.ids.tolist())
    assert (np.diff(longer.scores, axis=1) <= 0).all()
    some = index.search(queries, k, library[0][::2], spare)
    assert not set(some.ids.ravel().tolist()) - {-1, *library[0][::2].tolist()}


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.99, 1.0])
def test_vector_index_search_with_filter_returns_best_allowed_ids(index, library, share):
    ids, vectors = library
    mask = np.random.default_rng(3).random(len(ids)) < share
    mask[5] = True
    queries = random_vectors(4, seed=4)
    ranking = index.search(queries, 25, np.append(ids[mask], 10**9))
    truth = queries @ vectors[mask].T
    found = min(25, int(mask.sum()))
    np.testing.assert_allclose(
        ranking.scores[:, :found], -np.sort(-truth, axis=1)[:, :found], atol=index.score_tolerance
    )
    assert set(ranking.ids[:, :found].ravel().tolist()) <= set(ids[mask].tolist())
    assert (ranking.ids[:, found:] == -1).all()


def test_vector_index_vectors_match_stored_vectors_and_scores(index, library):
    ids, vectors = library
    places = np.array([2999, 0, 150, 42])
    stored = index.vectors(ids[places])
    assert stored.dtype == np.float32
    np.testing.assert_allclose(stored, vectors[places], atol=index.score_tolerance)
    query = random_vectors(1, seed=3)
    ranking = index.search(query, len(ids))
    np.testing.assert_array_equal(
        np.vecdot(index.vectors(ranking.ids[0]), query), ranking.scores[0]
    )
    assert index.vectors(ids[:0]).shape == (0, DIM)


def test_vector_index_search_with_empty_filter_finds_nothing(index):
    ranking = index.search(random_vectors(2), 3, np.empty(0, dtype=np.int64))
    assert (ranking.ids == -1).all()


def test_vector_index_search_without_queries_returns_empty_ranking(index):
    assert index.search(random_vectors(0), 3).ids.shape == (0, 3)


def test_vector_index_query_of_other_dim_raises_dimension_error(index):
    with pytest.raises(DimensionError):
        index.search(random_vectors(1, dim=DIM + 1), 3)


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("n", [0, 1])
def test_vector_index_of_zero_or_one_vectors_pads_ranking(name, n):
    index = make(name, np.arange(n, dtype=np.int64), random_vectors(n))
    ranking = index.search(random_vectors(2, seed=9), 3)
    assert (ranking.ids[:, n:] == -1).all()
    assert (ranking.ids[:, :n] == 0).all()


def test_vector_index_loaded_from_file_searches_same(index, library, tmp_path):
    module = plugins.load("vector_indexes", index.spec.name)
    path = tmp_path / "ann" / f"000001.{module.SUFFIX}"
    path.parent.mkdir()
    file_ref = module.write(index.spec, [library], path)
    assert file_ref.name == f"ann/000001.{module.SUFFIX}"
    assert file_ref.bytes == path.stat().st_size
    again = module.load(index.spec, path, file_ref)
    queries = random_vectors(3, seed=5)
    np.testing.assert_array_equal(again.ids, library[0])
    np.testing.assert_array_equal(again.search(queries, 9).ids, index.search(queries, 9).ids)


def test_vector_index_load_damaged_or_missing_file_raises_error(index, library, tmp_path):
    module = plugins.load("vector_indexes", index.spec.name)
    path = tmp_path / "damaged"
    file_ref = module.write(index.spec, [library], path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="checksum"):
        module.load(index.spec, path, file_ref)
    path.write_bytes(content[:-1])
    with pytest.raises(DamagedFileError, match="bytes"):
        module.load(index.spec, path, file_ref)
    with pytest.raises(DamagedFileError, match="missing"):
        module.load(index.spec, tmp_path / "absent", file_ref)


def test_vector_index_load_foreign_file_raises_damaged_file_error(index, tmp_path):
    from mmsearch.storage.atomic import atomic_write

    module = plugins.load("vector_indexes", index.spec.name)
    file_ref = atomic_write(tmp_path / "other", b"not an index at all")
    with pytest.raises(DamagedFileError):
        module.load(index.spec, tmp_path / "other", file_ref)


def test_faiss_flat_on_cuda_without_gpu_raises_usage_error():
    faiss = pytest.importorskip("faiss")
    if faiss.get_num_gpus():
        pytest.skip("only meaningful on a machine without a GPU")
    with pytest.raises(UsageError, match="no NVIDIA GPU"):
        make("faiss_flat", np.arange(1), random_vectors(1), device="cuda")


@pytest.mark.parametrize("name", PLUGINS)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_vector_index_any_library_matches_sorted_scores(name, data):
    n = data.draw(st.integers(1, 40))
    distinct = data.draw(st.integers(1, n))
    rows = random_vectors(distinct, seed=data.draw(st.integers(0, 999)))
    choice = data.draw(st.lists(st.integers(0, distinct - 1), min_size=n, max_size=n))
    vectors = rows[choice]
    k = data.draw(st.integers(1, 50))
    ids = np.arange(n, dtype=np.int64)
    query = random_vectors(1, seed=1234)
    ranking = make(name, ids, vectors).search(query, k)
    by_row = (rows @ query[0])[choice]
    expected = sorted(range(n), key=lambda i: (-by_row[i], i))[:k]
    scores = by_row[expected]
    gaps = np.abs(np.subtract.outer(rows @ query[0], rows @ query[0]))
    apart = distinct == 1 or gaps[~np.eye(distinct, dtype=bool)].min() > 2e-3
    if apart:
        assert ranking.ids[0, : len(expected)].tolist() == expected
    np.testing.assert_allclose(ranking.scores[0, : len(expected)], scores, atol=1e-3)
