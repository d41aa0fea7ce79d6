"""Items of texts alone, such as sounds: words find them, and vectors know nothing of them."""

import os

import pytest

from mmsearch.core.derived import DerivedTexts
from mmsearch.core.errors import InvalidQueryError, StateError
from mmsearch.core.filters import Filters
from mmsearch.core.query import TEXT_PRIOR, Mode, Query, SearchRequest, Term
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, SearchGoals, Text
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.indexing.enrich import commit_derived
from mmsearch.maintenance.repair import repair
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_exchange import run_export
from tests.integration.test_indexer_law import write
from tests.integration.test_moments import assert_sound, ids_by_moment, names, run, search
from tests.toy_index import ToyEncoder, make_toys, replaced, toy_engine, toy_indexer

PICTURES = 30
NOTES = 3


def note(*lines):
    return "\n".join(["note", *lines]).encode()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(PICTURES):
        write(folder, b"%d.toy" % number, b"picture %d" % number, 1 + number)
    write(folder, b"0.toy.txt", b"a boat", 39)
    write(folder, b"memo.note", note("call the plumber"), 40)
    write(folder, b"talk.note", note("a lecture on lighthouses", "the red lantern", "thanks"), 41)
    write(folder, b"long.note", note(*(f"line {number}" for number in range(200))), 42)
    return folder


@pytest.fixture
def layout(tmp_path, folder):
    layout = IndexLayout(tmp_path / "home" / "index")
    report = run(layout, folder)
    assert (report.added, report.encoded, report.failed) == (PICTURES + NOTES,) * 2 + ((),)
    return layout


def test_words_find_items_without_pixels(layout):
    for mode in (Mode.HYBRID, Mode.TEXT):
        result = search(layout, "red lantern", 3, mode)
        (hit,) = [hit for hit in result.hits if hit.matched]
        assert (result.hits[0], hit.path.name, hit.part) == (hit, "talk.note", 1)
        assert (hit.start_ms, hit.kind, hit.visual) == (1000, "sound", None)
        assert hit.matched.text == "the red lantern"
        assert hit.confidence > TEXT_PRIOR
    assert result.pictures == PICTURES + NOTES


def test_looks_never_find_items_without_pixels(layout):
    found = names(search(layout, "the red lantern", 100))
    assert len(found) == PICTURES
    assert not [name for name in found if name.endswith(".note")]


def test_query_for_everything_in_hybrid_mode_has_no_confidence_from_looks(layout):
    hits = search(layout, "line", 100, Mode.HYBRID).hits
    (note_hit,) = [hit for hit in hits if hit.path.name == "long.note"]
    assert note_hit.visual is None
    assert note_hit.score == note_hit.score
    assert len(note_hit.moments) == 5
    assert all(hit.visual is not None for hit in hits if hit.path.name.endswith(".toy"))


def test_index_counts_items_with_and_without_pixels(layout):
    assert_sound(layout, PICTURES + NOTES)
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.items == PICTURES + 1 + 3 + 200
        assert snapshot.items_with_pixels == PICTURES
        assert len(snapshot.ids_without_pixels) == 204
        assert set(snapshot.sample_ids(1000)).isdisjoint(snapshot.ids_without_pixels)


def test_unchanged_files_are_known(layout, folder):
    before = ids_by_moment(layout)
    report = run(layout, folder)
    assert (report.unchanged, report.encoded) == (PICTURES + NOTES, 0)
    assert ids_by_moment(layout) == before


def test_filters_hold_for_items_without_pixels(layout):
    with toy_engine(layout) as engine:
        filters = Filters(paths=("*.note",))
        request = SearchRequest(Query((Term("red lantern"),), filters, mode=Mode.HYBRID))
        assert names(engine.search(request)) == ["talk.note"]
        request = SearchRequest(Query((Term("picture 3"),), filters, mode=Mode.VECTOR))
        result = engine.search(request)
        assert (result.hits, result.passed) == ([], NOTES)
        query = Query((Term("line"),), Filters(orientation="square"), mode=Mode.TEXT)
        assert engine.search(SearchRequest(query)).passed == PICTURES


def test_item_without_pixels_cannot_be_compared(layout):
    (memo,) = [item for (name, _), item in ids_by_moment(layout).items() if name == b"memo.note"]
    with toy_engine(layout) as engine, pytest.raises(InvalidQueryError, match="no pixels"):
        engine.search(SearchRequest(Query((Term(picture=memo),), mode=Mode.VECTOR)))


def test_index_of_nothing_but_texts(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, b"memo.note", note("call the plumber"), 40)
    layout = IndexLayout(tmp_path / "home" / "index")
    assert run(layout, folder).added == 1
    assert_sound(layout, 1)
    assert names(search(layout, "plumber", mode=Mode.HYBRID)) == ["memo.note"]
    assert names(search(layout, "plumber", mode=Mode.TEXT)) == ["memo.note"]
    assert names(search(layout, "plumber")) == []
    with toy_indexer(layout, ToyEncoder()) as indexer:
        made = make_fusion(FusionSpec("attention", 0.4))
        with pytest.raises(StateError, match="no pictures"):
            indexer.reindex(made, "exact", SearchGoals(), allow_reencode=True)
    compact_index(layout)
    assert_sound(layout, 1)
    assert names(search(layout, "plumber", mode=Mode.HYBRID)) == ["memo.note"]


def compact_index(layout):
    with catalogs.open_write(layout, 0, create=False) as catalog:
        fusion = make_fusion(catalog.identity().fusion)
        return compact(layout, catalog, fusion, make_index_builder(layout, catalog, ToyEncoder))


def test_compaction_keeps_live_items_and_removes_deleted_ones(layout, folder):
    before = ids_by_moment(layout)
    assert compact_index(layout).dropped == 0
    (folder / "talk.note").unlink()
    (folder / "7.toy").unlink()
    assert run(layout, folder).gone == 2
    assert names(search(layout, "red lantern", mode=Mode.TEXT)) == []
    assert_sound(layout, PICTURES + NOTES - 2)
    assert compact_index(layout).dropped == 1
    assert_sound(layout, PICTURES + NOTES - 2)
    kept = {key: item for key, item in before.items() if key[0] not in (b"talk.note", b"7.toy")}
    assert ids_by_moment(layout) == kept
    with catalogs.open_read(layout) as catalog:
        assert catalog.find_item_ids([]) == {}
    write(folder, b"talk.note", note("a lecture on lighthouses", "the red lantern"), 50)
    assert run(layout, folder).added == 1
    assert names(search(layout, "red lantern", mode=Mode.TEXT)) == ["talk.note"]


def test_reencoding_keeps_items_without_pixels(layout):
    before = ids_by_moment(layout)
    with toy_indexer(layout, ToyEncoder()) as indexer:
        made = make_fusion(FusionSpec("attention", 0.4))
        report = indexer.reindex(made, "exact", SearchGoals(), allow_reencode=True)
    assert report.failed == ()
    assert ids_by_moment(layout) == before
    assert_sound(layout, PICTURES + NOTES)


def test_changed_text_replaces_the_item(layout, folder):
    write(folder, b"memo.note", note("call the electrician"), 60)
    assert run(layout, folder).changed == 1
    assert names(search(layout, "plumber", mode=Mode.TEXT)) == []
    assert names(search(layout, "electrician", mode=Mode.TEXT)) == ["memo.note"]
    assert_sound(layout, PICTURES + NOTES)


def test_sidecar_of_an_item_without_pixels_is_found(layout, folder):
    before = ids_by_moment(layout)
    write(folder, b"memo.note.txt", b"kitchen sink", 61)
    run(layout, folder)
    assert names(search(layout, "kitchen sink", mode=Mode.HYBRID, k=1)) == ["memo.note"]
    assert ids_by_moment(layout) == before
    assert_sound(layout, PICTURES + NOTES)


def test_damaged_file_keeps_the_texts_before_the_damage(layout, folder):
    write(folder, b"cut.note", note("an overture", "bad", "a finale"), 62)
    write(folder, b"broken.note", note("bad"), 63)
    report = run(layout, folder)
    assert [os.path.basename(item.path) for item in report.failed] == [b"broken.note"]
    (hit,) = search(layout, "overture", mode=Mode.TEXT).hits
    assert "a line is bad" in hit.damage
    assert names(search(layout, "finale", mode=Mode.TEXT)) == []


def test_lost_segment_and_lost_catalog_keep_or_read_again_what_has_no_pixels(layout, folder):
    before = ids_by_moment(layout)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        for segment in catalog.segments():
            catalog.drop_segment(segment.number)
        assert list(catalog.find_problems()) == []
    run(layout, folder)
    after = ids_by_moment(layout)
    notes = {key: item for key, item in before.items() if key[0].endswith(b".note")}
    assert {key: item for key, item in after.items() if key[0].endswith(b".note")} == notes
    assert_sound(layout, PICTURES + NOTES)
    add_transcript(layout, folder)
    layout.catalog.write_bytes(b"no catalog")
    settings = Settings(home=layout.folder.parent, device="cpu")
    with replaced(make_toys()):
        repair(layout, settings, lambda message: None, 0, lambda progress: None)
    run(layout, folder)
    assert_sound(layout, PICTURES + NOTES)
    assert names(search(layout, "red lantern", mode=Mode.TEXT)) == ["talk.note"]
    assert names(search(layout, "pears", mode=Mode.TEXT)) == ["talk.note"]


def add_transcript(layout, folder):
    """Store a text that a model made of an item without pixels."""
    with catalogs.open_write(layout, 0, create=False) as catalog:
        after, talk = 0, None
        while page := catalog.list_live_pictures(after, 500):
            after = page[-1].id
            talk = next((item for item in page if item.path.endswith(b"talk.note")), talk)
        text = Text("transcript", "apples and pears", None, "speech", "toy 1")
        commit_derived(
            layout, catalog, [DerivedTexts(talk.digest, "speech", "toy 1", {1: (text,)})]
        )


def test_export_leaves_out_what_has_no_vector_and_counts_it(layout, folder, tmp_path):
    report = run_export(layout, tmp_path / "export", "parquet")
    assert (report.pictures, report.left_out) == (PICTURES, NOTES)
