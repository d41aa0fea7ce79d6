"""Synthetic vectors and exact answers that the search benchmarks are measured on."""

import numpy as np
import pytest

from benchmarks.speed import synthetic
from benchmarks.speed.ground_truth import exact_top_k, load_ground_truth, recall
from benchmarks.speed.synthetic import DIM, KINDS, Collection

CHUNK = 1024
ROWS = CHUNK + 300

pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(synthetic, "CHUNK", CHUNK)


def test_collection_blocks_of_any_size_give_same_bytes(kind):
    whole = Collection(kind, ROWS).base()
    for size in (ROWS + 1, CHUNK, 100, 791):
        blocks = list(Collection(kind, ROWS).blocks(size))
        assert [len(ids) for ids, _ in blocks[:-1]] == [size] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate([ids for ids, _ in blocks]), np.arange(ROWS))
        assert np.concatenate([rows for _, rows in blocks]).tobytes() == whole.tobytes()


def test_collection_smaller_size_is_prefix_of_larger_size(kind):
    small, large = Collection(kind, 1100).base(), Collection(kind, ROWS).base()
    assert small.tobytes() == large[:1100].tobytes()
    queries = Collection(kind, 1).text_queries(50)
    assert queries.tobytes() == Collection(kind, ROWS).text_queries(60)[:50].tobytes()


def test_collection_other_seed_or_kind_changes_name_and_vectors(kind):
    one, other = Collection(kind, 100), Collection(kind, 100, seed=1)
    assert one.name != other.name
    assert abs((one.base() * other.base()).sum(axis=1)).mean() < 0.5
    assert len({Collection(other_kind, 100).name for other_kind in KINDS}) == len(KINDS)


def test_collection_vectors_are_float32_unit_rows(kind):
    collection = Collection(kind, 300)
    for vectors in (
        collection.base(),
        collection.image_queries(200),
        collection.text_queries(200),
        collection.training_queries(200),
    ):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == DIM
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_collection_test_queries_differ_from_training_queries(kind):
    collection = Collection(kind, 10)
    assert (collection.text_queries(400) @ collection.training_queries(2000).T).max() < 0.95


def test_collection_texts_have_modality_gap_and_match_own_pictures(kind):
    collection = Collection(kind, 4000)
    pictures, texts, paired = (
        collection.base(),
        collection.text_queries(400),
        collection.image_queries(400),
    )
    offsets = [vectors.mean(axis=0) for vectors in (pictures, texts)]
    centred = [vectors - vectors.mean(axis=0) for vectors in (paired, texts)]
    assert np.linalg.norm(offsets[0] - offsets[1]) > 0.25
    own = (centred[0] * centred[1]).sum(axis=1).mean()
    assert own > 0.1
    assert abs((centred[0] * np.roll(centred[1], 1, axis=0)).sum(axis=1).mean()) < 0.02
    # The nearest picture is much farther from a text than from another picture.
    assert (texts @ pictures.T).max(axis=1).mean() + 0.1 < (paired @ pictures.T).max(axis=1).mean()


def test_inverted_file_recall_is_lower_for_text_than_image_queries(kind):
    faiss = pytest.importorskip("faiss")
    collection = Collection(kind, 20_000)
    index = faiss.index_factory(DIM, "IVF128,Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 4
    index.train(collection.base()[:8000])
    index.add(collection.base())
    index.nprobe = 32
    recalls = {}
    for name, queries in (
        ("pictures", collection.image_queries(200)),
        ("texts", collection.text_queries(200)),
    ):
        true, _ = exact_top_k(collection.blocks(), queries, 10)
        recalls[name] = recall(index.search(queries, 10)[1], true)
    assert recalls["pictures"] - recalls["texts"] >= 0.15


def test_collection_texts_have_full_rank_only_in_kind_with_noise(kind):
    texts = Collection(kind, 1).training_queries(4000)
    strengths = np.linalg.svd(texts, compute_uv=False)
    assert (strengths[-1] > 0.02 * strengths[0]) == (KINDS[kind].noise > 0)


def test_ground_truth_is_independent_of_block_size_and_cached(kind, tmp_path, monkeypatch):
    collection = Collection(kind, 3000)
    queries = collection.text_queries(20)
    products = queries @ collection.base().T
    order = np.argsort(-products, axis=1)[:, :10]
    for size in (7, 1000, 5000):
        ids, scores = exact_top_k(collection.blocks(size), queries, 10)
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_allclose(scores, np.take_along_axis(products, order, axis=1), atol=1e-6)
    np.testing.assert_array_equal(load_ground_truth(collection, queries, 10, tmp_path), order)
    monkeypatch.setattr(synthetic.Collection, "base", None)
    np.testing.assert_array_equal(load_ground_truth(collection, queries, 10, tmp_path), order)
    assert load_ground_truth(collection, queries[:5], 10, tmp_path).shape == (5, 10)
