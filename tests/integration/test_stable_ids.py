"""The id of a picture stays while its content is in the index, whatever happens to its vectors."""

import os

import pytest

from mmsearch.core.query import Mode
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, SearchGoals
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing import build as build_module
from mmsearch.indexing.compaction import compact
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import reencode_segment
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_fused_search import reindex, run
from tests.integration.test_indexer_law import write
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

COUNT = 12


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        write(folder, b"%d.toy" % number, b"content %d" % number, 1 + number)
    return folder


@pytest.fixture
def layout(tmp_path, photos):
    layout = IndexLayout(tmp_path / "home" / "index")
    run(layout, photos)
    return layout


@pytest.fixture
def no_merge(monkeypatch):
    """New vectors stay beside the built index, as in a large one."""
    monkeypatch.setattr(build_module, "needs_merge", lambda built_rows, tail_rows: False)


def ids_by_name(layout):
    with catalogs.open_read(layout) as catalog:
        return {os.path.basename(item.path): item.id for item in catalog.list_live_pictures(0, 99)}


def describe(photos, name, words, tick=50):
    write(photos, name + b".txt", words.encode(), tick)


def search(layout, text, mode=Mode.VECTOR):
    with toy_engine(layout) as engine:
        return {hit.id: round(hit.score, 3) for hit in engine.search_text(text, 99, mode).hits}


def assert_sound(layout):
    with catalogs.open_read(layout) as catalog:
        assert list(catalog.find_problems()) == []
        with catalog.snapshot() as snapshot:
            assert snapshot.pictures == COUNT
    report = check(
        layout,
        Settings(home=layout.folder.parent),
        lambda message: None,
        sources=False,
        content=False,
    )
    assert report.verdict == "sound", report.findings


def test_changed_captions_keep_ids_and_are_found_beside_built_index(layout, photos, no_merge):
    before, scores = ids_by_name(layout), search(layout, "an old mill")
    describe(photos, b"3.toy", "an old mill")
    describe(photos, b"7.toy", "a red boat")
    assert run(layout, photos).retold == 2
    assert ids_by_name(layout) == before
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        moved = sorted([before[b"3.toy"], before[b"7.toy"]])
        assert snapshot.moved_ids(snapshot.built.covers).tolist() == moved
        assert [segment.rows for segment in snapshot.unindexed_segments] == [2]
    found = search(layout, "an old mill")
    assert sorted(found) == sorted(before.values())
    assert max(found, key=found.get) == before[b"3.toy"]
    changed = {number for number, score in found.items() if score != scores[number]}
    assert changed == {before[b"3.toy"], before[b"7.toy"]}
    assert_sound(layout)


def test_captions_changed_twice_leave_one_current_row(layout, photos, tmp_path, no_merge):
    for tick, words in enumerate(["an old mill", "a red boat", "a dog"], start=50):
        describe(photos, b"3.toy", words, tick)
        run(layout, photos)
    assert_sound(layout)
    fresh = IndexLayout(tmp_path / "home" / "fresh")
    run(fresh, photos)
    for text in ("an old mill", "a red boat", "a dog"):
        mine, theirs = search(layout, text), search(fresh, text)
        assert sorted(mine.values()) == sorted(theirs.values())


def test_rebuilt_index_and_compaction_keep_ids_and_answers(layout, photos, no_merge):
    before = ids_by_name(layout)
    describe(photos, b"3.toy", "an old mill")
    run(layout, photos)
    answer = search(layout, "an old mill")
    with catalogs.open_write(layout, 0, create=False) as catalog:
        identity = catalog.identity()
        fusion = make_fusion(identity.fusion)
        builder = make_index_builder(layout, catalog, ToyEncoder)
        stale_rows = catalog.stale_rows()
        catalog.publish(builder.build(catalog.segments(), fusion, identity, stale_rows))
    assert search(layout, "an old mill") == answer
    assert_sound(layout)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        compact(layout, catalog, fusion, make_index_builder(layout, catalog, ToyEncoder))
        assert catalog.stale_rows() == {}
    assert ids_by_name(layout) == before
    assert search(layout, "an old mill") == answer
    assert_sound(layout)


def test_other_encoder_and_other_fusion_keep_ids(layout, photos):
    before = ids_by_name(layout)
    describe(photos, b"3.toy", "an old mill")
    run(layout, photos)
    reindex(layout, "attention", again=True)
    assert ids_by_name(layout) == before

    class OtherEncoder(ToyEncoder):
        spec = type(ToyEncoder.spec)("other", ToyEncoder.spec.dim, "1" * 64, {}, 1, 16)

    with toy_indexer(layout, OtherEncoder()) as indexer:
        indexer.change_encoder()
    assert ids_by_name(layout) == before
    with catalogs.open_read(layout) as catalog:
        assert catalog.identity().encoder.name == "other"
        assert catalog.building_key() is None
        assert list(catalog.find_problems()) == []


def test_pictures_of_damaged_segment_keep_ids(layout, photos):
    before, answer = ids_by_name(layout), search(layout, "an old mill")
    with toy_indexer(layout) as indexer:
        lost, update = reencode_segment(indexer.catalog, 1, indexer.reencode_stale)
    assert (len(lost), update.updated, update.failed) == (COUNT, COUNT, {})
    assert ids_by_name(layout) == before
    run(layout, photos)
    assert search(layout, "an old mill") == answer
    assert_sound(layout)


def test_change_of_encoder_resumes_after_it_was_interrupted(layout, photos):
    class OtherEncoder(ToyEncoder):
        spec = type(ToyEncoder.spec)("other", ToyEncoder.spec.dim, "1" * 64, {}, 1, 16)

    encoder = OtherEncoder()
    (photos / "5.toy").chmod(0)
    (photos / "5.toy").rename(photos / "away")
    with pytest.raises(Exception, match="cannot be read now"), toy_indexer(layout, encoder) as on:
        on.change_encoder()
    assert encoder.encoded == COUNT - 1
    assert len(search(layout, "an old mill")) == COUNT
    (photos / "away").rename(photos / "5.toy")
    (photos / "5.toy").chmod(0o600)
    with toy_indexer(layout, encoder) as indexer:
        indexer.change_encoder()
    assert encoder.encoded == COUNT


def test_interrupted_fusion_with_reencoding_keeps_serving_old_vectors(layout, photos, monkeypatch):
    before = search(layout, "an old mill")
    describe(photos, b"3.toy", "an old mill")
    with toy_indexer(layout) as indexer:
        catalog = indexer.catalog
        monkeypatch.setattr(catalog, "activate_space", lambda *arguments: 1 / 0)
        fusion = make_fusion(FusionSpec("attention", 0.4))
        with pytest.raises(ZeroDivisionError):
            indexer.reindex(fusion, "exact", SearchGoals(), allow_reencode=True)
        assert catalog.building_key().endswith("+attention")
    assert search(layout, "an old mill") == before
    assert len(before) == COUNT
