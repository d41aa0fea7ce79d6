"""An index of the first format opens, and is checked, repaired and compacted.

Its vectors are in .npz files. See tests/data/format1/README.md.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError, SchemaError
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.segments import read_image_vectors, read_segment
from tests.toy_index import ToyEncoder, seeded_pixels, toy_engine

FORMAT1 = Path(__file__).parent.parent / "data" / "format1" / "index"
LIVE_IDS = {1, 2, 3, 4, 5, 6, 7, 8, 10}


@pytest.fixture
def layout(tmp_path):
    shutil.copytree(FORMAT1, tmp_path / "home" / "index")
    layout = IndexLayout(tmp_path / "home" / "index")
    with catalogs.open_read(layout):
        pass  # The first command that reads a catalog upgrades it.
    return layout


def run_check(layout):
    settings = Settings(home=layout.folder.parent)
    return check(layout, settings, lambda message: None, sources=False, content=False)


def run_repair(layout):
    settings = Settings(home=layout.folder.parent)
    return repair(layout, settings, lambda message: None, 0, lambda progress: None)


def assert_searchable(layout):
    pixels = seeded_pixels(b"toy 4")
    (vector,) = ToyEncoder().encode("image", [pixels])
    with toy_engine(layout) as engine, catalogs.open_read(layout) as catalog:
        hits = engine.search_text("anything", 20).hits
        assert {hit.id for hit in hits} == LIVE_IDS
        assert engine.search_text("caption 3", 1, mode="text").hits[0].id == 4
        with catalog.snapshot() as snapshot:
            segment = snapshot.find_segments([5])[5]
    np.testing.assert_allclose(read_image_vectors(layout, segment, [5])[0], vector, atol=1e-3)


def suffixes(layout):
    return {path.suffix for _, path in layout.files()}


def test_format1_catalog_that_another_writer_holds_is_not_upgraded(tmp_path):
    shutil.copytree(FORMAT1, tmp_path / "home" / "index")
    layout = IndexLayout(tmp_path / "home" / "index")
    with writer_lock(layout, 0), pytest.raises(SchemaError, match="schema 8, of an older"):
        catalogs.open_reader(layout)
    catalogs.open_reader(layout).close()


def test_format1_index_is_sound_and_searchable(layout):
    assert run_check(layout).verdict == "sound"
    assert_searchable(layout)
    assert suffixes(layout) == {".npz"}


def test_format1_compact_rewrites_vectors_in_present_format(layout):
    with catalogs.open_write(layout, 0, create=False) as catalog:
        fusion = make_fusion(catalog.identity().fusion)
        before = {s.number: read_segment(layout, s) for s in catalog.segments()}
        compact(layout, catalog, fusion, make_index_builder(layout, catalog, ToyEncoder))
        (segment,) = catalog.segments()
    after = read_segment(layout, segment)
    assert set(after.ids.tolist()) == LIVE_IDS
    for row, number in enumerate(after.ids.tolist()):
        old = before[1 if number <= 5 else 2]
        old_row = old.ids.tolist().index(number)
        np.testing.assert_array_equal(after.images[row], old.images[old_row])
        assert after.texts[row].kinds == old.texts[old_row].kinds
        np.testing.assert_array_equal(after.texts[row].vectors, old.texts[old_row].vectors)
    assert suffixes(layout) == {".vectors"}
    assert run_check(layout).verdict == "sound"
    assert_searchable(layout)


def test_format1_lost_catalog_is_rebuilt_from_segments(layout):
    layout.catalog.unlink()
    segments = layout.folder / "segments"
    shutil.copy(segments / "000001.npz", segments / "000003.npz.tmp")
    report = run_repair(layout)
    assert "rebuilt with 10 vectors" in report.mended[0]
    with catalogs.open_write(layout, 0, create=False) as catalog:
        numbers = [segment.number for segment in catalog.segments()]
        ids = [catalog.segment_item_ids(number).tolist() for number in numbers]
    assert ids == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert sorted(path.name for path in segments.iterdir()) == ["000001.npz", "000002.npz"]


def test_format1_damaged_vector_index_is_rebuilt(layout):
    flip_byte(layout.folder / "ann" / "000002.npz", 0.5)
    assert run_check(layout).verdict == "damaged"
    run_repair(layout)
    assert run_check(layout).verdict == "sound"
    assert_searchable(layout)


@pytest.mark.parametrize("position", [0, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_format1_damaged_segment_is_found(layout, position):
    flip_byte(layout.folder / "segments" / "000001.npz", position)
    with catalogs.open_read(layout) as catalog:
        segment = catalog.segments()[0]
    with pytest.raises(DamagedFileError):
        read_segment(layout, segment)
    with pytest.raises(DamagedFileError):
        read_image_vectors(layout, segment, [1])
    report = run_check(layout)
    assert [f.part for f in report if f.weight == "damage"] == ["segments/000001.npz"]


def flip_byte(path, position):
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 4
    path.write_bytes(content)
