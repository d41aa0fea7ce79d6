"""What the search benchmarks are judged on: vectors, exact answers, and the reading of curves."""

import numpy as np
import pytest

from benchmarks.speed import synthetic
from benchmarks.speed.synthetic import CHUNK, DIM, KINDS, Collection
from benchmarks.speed.truth import nearest, recall, truth

ROWS = 2 * CHUNK + 300

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_the_same_seed_gives_the_same_bytes_in_blocks_of_any_size(kind):
    whole = Collection(kind, ROWS).base()
    for size in (ROWS + 1, CHUNK, 1000, 7919):
        blocks = list(Collection(kind, ROWS).blocks(size))
        assert [len(ids) for ids, _ in blocks[:-1]] == [size] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate([ids for ids, _ in blocks]), np.arange(ROWS))
        assert np.concatenate([rows for _, rows in blocks]).tobytes() == whole.tobytes()


def test_a_smaller_collection_is_the_beginning_of_a_larger_one(kind):
    small, large = Collection(kind, 5000).base(), Collection(kind, ROWS).base()
    assert small.tobytes() == large[:5000].tobytes()
    queries = Collection(kind, 1).text_queries(50)
    assert queries.tobytes() == Collection(kind, ROWS).text_queries(60)[:50].tobytes()


def test_another_seed_or_kind_has_another_name_and_other_vectors(kind):
    one, other = Collection(kind, 100), Collection(kind, 100, seed=1)
    assert one.name != other.name
    assert abs((one.base() * other.base()).sum(axis=1)).mean() < 0.5
    assert len({Collection(each, 100).name for each in KINDS}) == len(KINDS)


def test_vectors_are_unit_rows_of_float32(kind):
    made = Collection(kind, 300)
    for vectors in (
        made.base(),
        made.image_queries(200),
        made.text_queries(200),
        made.training_queries(200),
    ):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == DIM
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_query_of_the_test_is_among_those_of_the_training(kind):
    made = Collection(kind, 10)
    assert (made.text_queries(400) @ made.training_queries(2000).T).max() < 0.95


def test_texts_lie_apart_from_pictures_and_still_belong_to_them(kind):
    made = Collection(kind, 4000)
    pictures, texts, paired = made.base(), made.text_queries(400), made.image_queries(400)
    offsets = [each.mean(axis=0) for each in (pictures, texts)]
    centred = [each - each.mean(axis=0) for each in (paired, texts)]
    assert np.linalg.norm(offsets[0] - offsets[1]) > 0.25
    own = (centred[0] * centred[1]).sum(axis=1).mean()
    assert own > 0.1
    assert abs((centred[0] * np.roll(centred[1], 1, axis=0)).sum(axis=1).mean()) < 0.02
    # The nearest picture of a text is much farther than that of a picture.
    assert (texts @ pictures.T).max(axis=1).mean() + 0.1 < (paired @ pictures.T).max(axis=1).mean()


def test_an_inverted_file_loses_more_on_texts_than_on_pictures(kind):
    faiss = pytest.importorskip("faiss")
    made = Collection(kind, 20_000)
    index = faiss.index_factory(DIM, "IVF128,Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 4
    index.train(made.base()[:8000])
    index.add(made.base())
    index.nprobe = 32
    on = {}
    for name, queries in (("pictures", made.image_queries(200)), ("texts", made.text_queries(200))):
        true, _ = nearest(made.blocks(), queries, 10)
        on[name] = recall(index.search(queries, 10)[1], true)
    assert on["pictures"] - on["texts"] >= 0.15


def test_only_the_mixed_kind_has_no_directions_that_can_be_thrown_away(kind):
    texts = Collection(kind, 1).training_queries(4000)
    strengths = np.linalg.svd(texts, compute_uv=False)
    assert (strengths[-1] > 0.02 * strengths[0]) == (KINDS[kind].noise > 0)


def test_exact_answers_do_not_depend_on_blocks_and_are_kept(kind, tmp_path, monkeypatch):
    made = Collection(kind, 3000)
    queries = made.text_queries(20)
    products = queries @ made.base().T
    order = np.argsort(-products, axis=1)[:, :10]
    for size in (7, 1000, 5000):
        ids, scores = nearest(made.blocks(size), queries, 10)
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_allclose(scores, np.take_along_axis(products, order, axis=1), atol=1e-6)
    np.testing.assert_array_equal(truth(made, queries, 10, tmp_path), order)
    monkeypatch.setattr(synthetic.Collection, "base", None)
    np.testing.assert_array_equal(truth(made, queries, 10, tmp_path), order)
    assert truth(made, queries[:5], 10, tmp_path).shape == (5, 10)
