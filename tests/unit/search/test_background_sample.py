"""The sample is of living pictures from all over, and is read once for each generation."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmsearch.core.types import IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.background_sample import SAMPLE_ROWS, Sampler
from mmsearch.search.index_reader import View
from mmsearch.vector_indexes import exact

DIM = 8


def part(ids, seed):
    vectors = as_unit_vectors(np.random.default_rng(seed).standard_normal((len(ids), DIM)))
    return exact.build(IndexSpec("exact", DIM, "cpu"), [(np.array(ids, dtype=np.int64), vectors)])


def snapshot(view, dead=(), generation=1):
    dead = np.array(dead, dtype=np.int64)
    return SimpleNamespace(generation=generation, pictures=view.size - len(dead), dead_ids=dead)


@pytest.fixture
def view():
    return View(("name",), (part(range(0, 4000, 2), 1), part(range(1, 3000, 2), 2)), "cpu")


def test_a_view_gives_the_vectors_of_all_its_parts(view):
    ids = np.array([2999, 0, 3998, 1, 0])
    found = view.vectors(ids)
    for row, number in zip(found, ids, strict=True):
        holder = view.parts[number % 2]
        np.testing.assert_array_equal(row, holder.vectors(np.array([number]))[0])


@pytest.mark.parametrize("parts", [(), (part([], 1), part([5], 2))])
def test_a_view_may_hold_nothing(parts):
    view = View(("name",), parts, "cpu")
    assert len(view.vectors(np.empty(0, dtype=np.int64))) == 0
    assert len(Sampler().vectors(view, snapshot(view))) == view.size


def test_the_sample_is_alive_and_from_all_over(view):
    dead = np.arange(0, 4000, 4)
    sample = Sampler().vectors(view, snapshot(view, dead))
    assert 0.9 * SAMPLE_ROWS <= len(sample) <= 1.1 * SAMPLE_ROWS
    numbers = [number for each in view.parts for number in each.ids.tolist()]
    by_vector = {view.vectors(np.array([n]))[0].tobytes(): n for n in numbers}
    picked = np.array([by_vector[row.tobytes()] for row in sample])
    assert not np.isin(picked, dead).any()
    for start in range(0, 3000, 500):
        assert ((picked >= start) & (picked < start + 500)).any()


def test_a_small_library_is_its_own_sample():
    view = View(("name",), (part(range(50), 1),), "cpu")
    assert len(Sampler().vectors(view, snapshot(view, dead=[3, 4]))) == 48


def test_it_is_picked_again_for_another_generation(view):
    sampler = Sampler()
    before = sampler.vectors(view, snapshot(view))
    assert sampler.vectors(view, snapshot(view)) is before
    dead = snapshot(view, dead=range(0, 4000, 2), generation=2)
    after = sampler.vectors(view, dead)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, Sampler().vectors(view, dead))
