"""A flat index on a GPU with too little memory."""

import numpy as np
import pytest

from mmsearch.core import gpu_memory
from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.types import IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.vector_indexes import faiss_flat

FULL = (
    "StandardGpuResources: alloc fail type TemporaryMemoryOverflow dev 0 space Device "
    "(cudaMalloc error out of memory [2])"
)


class Gpu:
    """Searches as FAISS does; out of memory for more than ``holds`` queries."""

    def __init__(self, vectors, holds):
        self.vectors = vectors
        self.holds = holds
        self.batch_sizes = []

    def search(self, queries, count):
        self.batch_sizes.append(len(queries))
        if len(queries) > self.holds:
            raise RuntimeError(FULL)
        scores = queries @ self.vectors.T
        places = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(scores, places, axis=1), places


@pytest.fixture
def vectors():
    return as_unit_vectors(np.random.default_rng(0).standard_normal((300, 16)))


@pytest.fixture
def index(vectors):
    spec = IndexSpec("faiss_flat", 16, "cpu")
    return faiss_flat.build(spec, [(np.arange(300, dtype=np.int64), vectors)])


@pytest.fixture
def memory_releases(monkeypatch):
    times = []
    monkeypatch.setattr(gpu_memory, "_release_callbacks", [lambda: times.append(1)])
    return times


@pytest.mark.parametrize("holds", [1, 5, 6])
def test_flat_gpu_search_out_of_memory_splits_batch_with_same_ranking(
    index, vectors, memory_releases, holds
):
    queries = vectors[:20]
    expected = index.search(queries, 7)
    index._gpu = Gpu(vectors, holds)
    found = index.search(queries, 7)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(memory_releases) == sum(size > holds for size in index._gpu.batch_sizes) > 0


def test_flat_gpu_search_one_query_too_large_raises_error_then_recovers(
    index, vectors, memory_releases
):
    index._gpu = Gpu(vectors, 0)
    with pytest.raises(DeviceMemoryError, match="the search for one query does not fit"):
        index.search(vectors[:3], 7)
    index._gpu.holds = 1
    assert index.search(vectors[:3], 7).ids[:, 0].tolist() == [0, 1, 2]


@pytest.fixture
def resources(monkeypatch):
    """A GPU that is out of memory ``num_failures`` times before an index fits."""

    class Index:
        num_failures = 0
        num_built = 0

        def __init__(self, resources, dim, config):
            type(self).num_built += 1

        def add(self, rows):
            if self.num_built <= self.num_failures:
                raise RuntimeError(FULL)

    class Config:
        useFloat16 = False  # noqa: N815 - name in FAISS

    monkeypatch.setattr(faiss_flat.faiss, "GpuIndexFlatIP", Index, raising=False)
    monkeypatch.setattr(faiss_flat.faiss, "GpuIndexFlatConfig", Config, raising=False)
    monkeypatch.setattr(faiss_flat.faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss_flat.faiss, "get_num_gpus", lambda: 1)
    return Index


def test_flat_gpu_build_out_of_memory_retries_after_release(resources, vectors, memory_releases):
    resources.num_failures = 1
    spec = IndexSpec("faiss_flat", 16, "auto")
    index = faiss_flat.build(spec, [(np.arange(300, dtype=np.int64), vectors)])
    assert (index.device, resources.num_built, len(memory_releases)) == ("cuda", 2, 1)


def test_flat_gpu_build_index_too_large_raises_error_with_size(resources, vectors, memory_releases):
    resources.num_failures = 9
    with pytest.raises(DeviceMemoryError, match=r"the index, 300 vectors of 32 bytes, does not"):
        faiss_flat.build(
            IndexSpec("faiss_flat", 16, "auto"), [(np.arange(300, dtype=np.int64), vectors)]
        )
    assert len(memory_releases) == 2
