"""A search uses as many threads as it has work for and restores the count afterwards."""

import threading

import faiss
import numpy as np
import pytest

from mmsearch.core import plugins
from mmsearch.core.types import IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.vector_indexes._exact import limit_omp_threads
from mmsearch.vector_indexes._fastscan import BYTES_PER_THREAD, useful_threads

DIM = 32


@pytest.fixture(autouse=True)
def many_threads():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(
    ("queries", "reads", "threads"),
    [
        (0, 10, 1),
        (1, 10, 1),
        (3, 10, 3),
        (500, 0, 1),
        (4, 0.5, 2),
        (30, 0.1, 3),
        (30, 0.01, 1),
    ],
)
def test_useful_threads_returns_no_more_threads_than_work(queries, reads, threads):
    assert useful_threads(queries, int(reads * BYTES_PER_THREAD)) == threads


@pytest.mark.parametrize(("most", "threads"), [(1, 1), (3, 3), (4, 4), (500, 4)])
def test_limit_omp_threads_caps_threads_and_restores_count(most, threads):
    with limit_omp_threads(most):
        assert faiss.omp_get_max_threads() == threads
    assert faiss.omp_get_max_threads() == 4


def test_limit_omp_threads_restores_count_after_error():
    with pytest.raises(KeyError), limit_omp_threads(1):
        raise KeyError
    assert faiss.omp_get_max_threads() == 4


def test_limit_omp_threads_does_not_affect_other_threads():
    inside, has_looked = threading.Event(), threading.Event()
    observed = []

    def look():
        faiss.omp_set_num_threads(3)
        inside.wait(10)
        observed.append(faiss.omp_get_max_threads())
        has_looked.set()

    other = threading.Thread(target=look)
    other.start()
    with limit_omp_threads(1):
        inside.set()
        assert has_looked.wait(10)
    other.join()
    assert observed == [3]


@pytest.mark.parametrize("name", ["faiss_flat", "faiss_fastscan"])
@pytest.mark.parametrize("share", [1, 500, None])
@pytest.mark.parametrize("queries", [1, 8])
def test_vector_index_scan_runs_with_one_omp_thread(name, share, queries, monkeypatch):
    vectors = as_unit_vectors(np.random.default_rng(0).standard_normal((1000, DIM)))
    ids = np.arange(1000)
    index = plugins.load("vector_indexes", name).build(
        IndexSpec(name, DIM, "cpu"), [(ids, vectors)]
    )
    thread_counts = []
    search = faiss.IndexScalarQuantizer.search

    def recording_search(self, *arguments, **options):
        thread_counts.append(faiss.omp_get_max_threads())
        return search(self, *arguments, **options)

    monkeypatch.setattr(faiss.IndexScalarQuantizer, "search", recording_search)
    index.search(vectors[:queries], 10, None if share is None else ids[:: 1000 // share])
    assert thread_counts
    assert set(thread_counts) == {1}
