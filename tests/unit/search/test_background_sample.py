"""The sample covers living pictures of the whole index and is drawn once per generation."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mmsearch.core.types import IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.retrieval import SAMPLE_SIZE
from mmsearch.vector_indexes import exact
from mmsearch.vector_stores.files import IndexReader

DIM = 8

NOTHING = np.empty(0, dtype=np.int64)


def make_leaf(ids, seed):
    vectors = as_unit_vectors(np.random.default_rng(seed).standard_normal((len(ids), DIM)))
    return exact.build(IndexSpec("exact", DIM, "cpu"), [(np.array(ids, dtype=np.int64), vectors)])


def snapshot(reader, deleted=(), generation=1):
    deleted = np.array(deleted, dtype=np.int64)
    return SimpleNamespace(
        generation=generation,
        items_with_pixels=reader.size - len(deleted),
        deleted_ids=deleted,
        has_moments=False,
    )


@pytest.fixture
def reader():
    return IndexReader(
        ("name",),
        (make_leaf(range(0, 4000, 2), 1), make_leaf(range(1, 3000, 2), 2)),
        (NOTHING, NOTHING),
        "cpu",
    )


def test_index_reader_returns_vectors_of_all_leaves_in_order_of_ids(reader):
    ids = np.array([2999, 0, 3998, 1, 0])
    vectors = reader.vectors(ids)
    for row, image_id in zip(vectors, ids, strict=True):
        leaf = reader.leaves[image_id % 2]
        np.testing.assert_array_equal(row, leaf.vectors(np.array([image_id]))[0])


@pytest.mark.parametrize("parts", [(), (make_leaf([], 1), make_leaf([5], 2))])
def test_index_reader_without_leaves_or_with_empty_leaf_is_readable(parts):
    reader = IndexReader(("name",), parts, (NOTHING,) * len(parts), "cpu")
    assert len(reader.vectors(np.empty(0, dtype=np.int64))) == 0
    assert len(reader.background_sample(snapshot(reader), SAMPLE_SIZE)) == reader.size


def test_background_sample_skips_deleted_ids_and_covers_whole_id_range(reader):
    deleted = np.arange(0, 4000, 4)
    sample = reader.background_sample(snapshot(reader, deleted), SAMPLE_SIZE)
    assert 0.9 * SAMPLE_SIZE <= len(sample) <= 1.1 * SAMPLE_SIZE
    image_ids = [image_id for leaf in reader.leaves for image_id in leaf.ids.tolist()]
    by_vector = {reader.vectors(np.array([n]))[0].tobytes(): n for n in image_ids}
    sampled_ids = np.array([by_vector[row.tobytes()] for row in sample])
    assert not np.isin(sampled_ids, deleted).any()
    for start in range(0, 3000, 500):
        assert ((sampled_ids >= start) & (sampled_ids < start + 500)).any()


def test_background_sample_of_small_library_holds_every_living_picture():
    reader = IndexReader(("name",), (make_leaf(range(50), 1),), (NOTHING,), "cpu")
    assert len(reader.background_sample(snapshot(reader, deleted=[3, 4]), SAMPLE_SIZE)) == 48


def test_background_sample_is_redrawn_only_for_new_generation(reader):
    before = reader.background_sample(snapshot(reader), SAMPLE_SIZE)
    assert reader.background_sample(snapshot(reader), SAMPLE_SIZE) is before
    deleted = snapshot(reader, deleted=range(0, 4000, 2), generation=2)
    after = reader.background_sample(deleted, SAMPLE_SIZE)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, replace(reader).background_sample(deleted, SAMPLE_SIZE))
