"""The index reader cache opens the vectors of a new generation in place of the old ones."""

import gc
import os
import shutil
import weakref

import pytest

from mmsearch.core.results import IndexRequest
from mmsearch.factories.catalogs import open_read
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores.files import IndexReaderCache
from tests.integration.test_indexer_law import write
from tests.toy_index import ToyEncoder, toy_indexer


class Plugin:
    """Built-in plugin that counts its live indexes whenever it opens another one."""

    def __init__(self, name):
        self.plugin = load_vector_index_plugin(name)
        self.opened = []
        self.live_counts = []

    def load(self, spec, path, file_ref):
        self.live_counts.append(sum(ref() is not None for ref in self.opened))
        index = self.plugin.load(spec, path, file_ref)
        self.opened.append(weakref.ref(index))
        return index


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


def test_index_reader_cache_frees_old_generation_before_opening_next(layout, tmp_path):
    """GPU memory may hold the vectors of one generation, but not of two."""
    toys = tmp_path / "toys"
    toys.mkdir()
    plugin = Plugin("exact")
    loader = IndexReaderCache(
        layout, ToyEncoder(), lambda name: plugin, "exact", "cpu", make_fusion
    )
    gc.disable()
    try:
        for number in range(3):
            write(toys, b"%d.toy" % number, b"content %d" % number, 1 + number)
            with toy_indexer(layout) as indexer:
                indexer.run(IndexRequest(os.fsencode(toys)))
            with open_read(layout) as catalog, catalog.snapshot() as snapshot:
                assert loader.get(snapshot).size == number + 1
    finally:
        gc.enable()
    assert plugin.live_counts == [0, 0, 0]


def test_index_reader_cache_reopens_vectors_after_index_is_replaced(tmp_path):
    """A restored backup and another run can produce the same generation and file name."""
    loader, sizes, names = None, [], []
    for history, pictures in enumerate((3, 2)):
        toys = tmp_path / f"toys-{history}"
        toys.mkdir()
        layout = IndexLayout(tmp_path / "index")
        shutil.rmtree(layout.folder, ignore_errors=True)
        for number in range(pictures):
            write(toys, b"%d.toy" % number, b"content %d %d" % (history, number), 1 + number)
        with toy_indexer(layout) as indexer:
            indexer.run(IndexRequest(os.fsencode(toys)))
        loader = loader or IndexReaderCache(
            layout, ToyEncoder(), load_vector_index_plugin, "exact", "cpu", make_fusion
        )
        with open_read(layout) as catalog, catalog.snapshot() as snapshot:
            view = loader.get(snapshot)
            sizes.append(view.size)
            names.append((snapshot.generation, snapshot.built.file_ref.name))
    assert names[0] == names[1]
    assert sizes == [3, 2]
