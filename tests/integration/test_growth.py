"""A large index keeps new pictures in separate segments until the next encoding run."""

import os
from dataclasses import replace

import pytest

from mmsearch.core.query import Mode
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.indexing import build, indexer
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer


@pytest.fixture
def grown(tmp_path, monkeypatch):
    """Index of 40 pictures that counts as a large one, and its folder."""
    monkeypatch.setattr(build, "REBUILD_BELOW", 20)
    monkeypatch.setattr(indexer, "REBUILD_BELOW", 20)
    photos = tmp_path / "photos"
    photos.mkdir()
    layout = IndexLayout(tmp_path / "index")
    add(photos, range(40))
    run(layout, photos)
    return layout, photos


def add(photos, numbers):
    for number in numbers:
        (photos / f"{number:03}.toy").write_text(f"picture {number}")


def run(layout, photos, encoder=None):
    with toy_indexer(layout, encoder) as writer:
        return writer.run(IndexRequest(os.fsencode(photos)))


def state(layout):
    """Return the number of pictures in the vector index and in segments outside it."""
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        built = snapshot.built.rows if snapshot.built else 0
        return built, sum(segment.rows for segment in snapshot.unindexed_segments)


def all_are_found(layout, numbers):
    with toy_engine(layout) as engine:
        for number in numbers:
            found = engine.search_text(f"picture {number}", 1, Mode.VECTOR).hits[0]
            assert found.path.name == f"{number:03}.toy"
            assert found.score > 0.999


def test_index_growth_few_new_pictures_stay_unmerged_and_searchable(grown):
    layout, photos = grown
    assert state(layout) == (40, 0)
    add(photos, range(40, 43))
    run(layout, photos)
    assert state(layout) == (40, 3)
    all_are_found(layout, range(43))


def test_index_growth_next_encoding_run_merges_waiting_pictures(grown):
    layout, photos = grown
    add(photos, range(40, 43))
    run(layout, photos)
    add(photos, range(43, 45))
    run(layout, photos)
    assert state(layout) == (43, 2)
    all_are_found(layout, range(45))


def test_index_growth_run_without_encoding_merges_nothing(grown):
    layout, photos = grown
    add(photos, range(40, 43))
    run(layout, photos)
    assert run(layout, photos).encoded == 0
    assert state(layout) == (40, 3)


def test_index_growth_many_new_pictures_are_merged_at_once(grown):
    layout, photos = grown
    add(photos, range(40, 50))
    run(layout, photos)
    assert state(layout) == (50, 0)
    all_are_found(layout, range(50))


def test_index_growth_picture_removed_before_merge_is_not_found(grown):
    layout, photos = grown
    add(photos, range(40, 43))
    run(layout, photos)
    (photos / "000.toy").unlink()
    (photos / "041.toy").write_text("picture 999")
    run(layout, photos)
    assert state(layout) == (43, 1)
    with toy_engine(layout) as engine:
        names = {hit.path.name for hit in engine.search_text("picture 0", 100).hits}
    assert len(names) == 42
    assert "000.toy" not in names


def test_index_growth_failed_run_keeps_state_and_next_run_merges(grown):
    layout, photos = grown
    add(photos, range(40, 43))
    run(layout, photos)
    before = {name for name, _ in layout.files()}

    class Broken(ToyEncoder):
        def encode(self, kind, batch):
            raise RuntimeError("the device is gone")

    add(photos, range(43, 45))
    with pytest.raises(Exception, match="the device is gone"):
        run(layout, photos, Broken())
    assert state(layout) == (40, 3)
    run(layout, photos)
    assert state(layout) == (43, 2)
    all_are_found(layout, range(45))
    assert len({name for name, _ in layout.files()}) <= len(before) + 2


def test_index_growth_keeps_search_goals_of_index_identity(grown):
    layout, photos = grown
    with catalogs.open_write(layout, 0, create=False) as catalog:
        bound = catalog.identity()
        catalog.set_identity(replace(bound, goals=replace(bound.goals, recall=0.8)))
    add(photos, range(40, 50))
    run(layout, photos)
    with catalogs.open_read(layout) as catalog:
        assert catalog.identity().goals.recall == 0.8
