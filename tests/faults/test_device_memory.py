"""Indexing on a GPU that runs out of memory: the run fails, and the next one resumes."""

import os

import numpy as np
import pytest

from mmsearch.core.errors import DeviceMemoryError
from mmsearch.core.gpu_memory import run_halving_on_oom
from mmsearch.core.results import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import load_stored_files
from tests.integration.test_indexer_law import write
from tests.toy_index import ToyEncoder, toy_indexer


class OnGpu(ToyEncoder):
    """Encoder on a GPU that holds ``holds`` pictures at once, and none after ``until``."""

    def __init__(self, holds, until=None):
        super().__init__()
        self.holds = holds
        self.until = until

    def encode(self, kind, batch):
        if kind == "text":
            return super().encode(kind, batch)

        def run(part):
            if len(batch[part]) > self.holds or self.encoded == self.until:
                raise RuntimeError("CUDA out of memory.")
            return ToyEncoder.encode(self, kind, batch[part])

        return np.concatenate(
            run_halving_on_oom(run, len(batch), device="cuda", item_name="one picture")
        )


@pytest.fixture
def toys(tmp_path):
    made = tmp_path / "toys"
    made.mkdir()
    for number in range(30):
        write(made, b"%d.toy" % number, b"content %d" % number, 1 + number)
    return made


def run(layout, toys, encoder):
    with toy_indexer(layout, encoder) as indexer:
        return indexer.run(IndexRequest(os.fsencode(toys)))


def vectors(layout, toys):
    with toy_indexer(layout) as indexer:
        return {path: row for path, (_, row) in load_stored_files(layout, indexer.catalog).items()}


def test_index_on_small_gpu_gives_same_vectors_as_on_large_gpu(tmp_path, toys):
    small, large = IndexLayout(tmp_path / "small"), IndexLayout(tmp_path / "large")
    assert run(small, toys, OnGpu(1)).added == run(large, toys, OnGpu(4)).added == 30
    mine, theirs = vectors(small, toys), vectors(large, toys)
    assert mine.keys() == theirs.keys()
    for path, row in mine.items():
        np.testing.assert_array_equal(row, theirs[path])


def test_index_out_of_gpu_memory_raises_and_next_run_completes(tmp_path, toys):
    layout = IndexLayout(tmp_path / "index")
    with pytest.raises(DeviceMemoryError, match="one picture does not fit"):
        run(layout, toys, OnGpu(4, until=8))
    report = run(layout, toys, OnGpu(4))
    assert (report.added + report.unchanged, len(report.failed)) == (30, 0)
    assert len(vectors(layout, toys)) == 30
