"""The vectors of a generation, as they are opened when another has taken its place."""

import gc
import os
import shutil
import weakref

import pytest

from mmsearch.core.requests import IndexRequest
from mmsearch.factories.catalogs import open_read
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.search.index_reader import IndexReaderCache
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_indexer_law import write
from tests.toy_index import toy_indexer


class Plugin:
    """One of the house, that notes which of its indexes are alive when it opens another."""

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


def test_the_vectors_of_two_generations_are_never_held_at_once(layout, tmp_path):
    """A GPU holds one of them, maybe not two."""
    toys = tmp_path / "toys"
    toys.mkdir()
    plugin = Plugin("exact")
    loader = IndexReaderCache(layout, lambda name: plugin, "exact", "cpu", make_fusion)
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


def test_vectors_of_another_history_are_opened_though_their_files_have_the_same_names(tmp_path):
    """As after a restoration and another run."""
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
            layout, load_vector_index_plugin, "exact", "cpu", make_fusion
        )
        with open_read(layout) as catalog, catalog.snapshot() as snapshot:
            view = loader.get(snapshot)
            sizes.append(view.size)
            names.append((snapshot.generation, snapshot.built.file_ref.name))
    assert names[0] == names[1]
    assert sizes == [3, 2]
