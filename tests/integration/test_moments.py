"""Contents of several items, such as films: one hit each, with the best moment first."""

import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from mmsearch.core.errors import SourceError, StateError
from mmsearch.core.filters import Filters
from mmsearch.core.query import Mode, Query, SearchRequest, Term
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import WHOLE, FusionSpec, ItemLocator, SearchGoals
from mmsearch.exports import npy
from mmsearch.exports.formats import PART_FORMATS
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing import encode as encode_module
from mmsearch.indexing.compaction import compact
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.search.retrieval import MAX_MOMENTS, SAMPLE_SIZE
from mmsearch.storage.layout import IndexLayout
from tests.exported_pictures import assert_same_batches, write_export
from tests.integration.test_exchange import read_export, run_export, run_import
from tests.integration.test_indexer_law import write
from tests.toy_index import (
    ToyEncoder,
    ToyFilmModality,
    make_toys,
    replaced,
    toy_engine,
    toy_indexer,
)

PICTURES = 30
LONG = 3000


def film(name, count, captions=()):
    """Return the content of a film whose moments are named name-0, name-1, ..."""
    named = dict(captions)
    lines = [f"{name}-{part}|{named.get(part, '')}" for part in range(count)]
    return "\n".join(["film", *lines]).encode()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(PICTURES):
        write(folder, b"%d.toy" % number, b"picture %d" % number, 1 + number)
    write(folder, b"short.film", film("short", 1), 40)
    write(folder, b"clip.film", film("clip", 5, {0: "an old mill", 3: "a red boat"}), 41)
    write(folder, b"long.film", film("long", LONG, {7: "a red boat", 2000: "the old harbour"}), 42)
    return folder


def run(layout, folder, encoder=None, **options):
    with toy_indexer(layout, encoder, fusion=FusionSpec("weighted", 0.4)) as indexer:
        return indexer.run(IndexRequest(os.fsencode(folder), allow_empty=True, **options))


@pytest.fixture
def layout(tmp_path, folder):
    layout = IndexLayout(tmp_path / "home" / "index")
    report = run(layout, folder)
    assert (report.added, report.encoded, report.failed) == (PICTURES + 3, PICTURES + 3, ())
    return layout


def search(layout, text, k=10, mode=Mode.VECTOR, **options):
    with toy_engine(layout) as engine:
        return engine.search_text(text, k, mode, **options)


def names(result):
    return [hit.path.name for hit in result.hits]


def ids_by_moment(layout):
    ids = {}
    with catalogs.open_read(layout) as catalog:
        after = 0
        while page := catalog.list_live_pictures(after, 500):
            for item in page:
                ids[os.path.basename(item.path), item.locator] = item.id
            after = page[-1].id
    return ids


def assert_sound(layout, pictures=PICTURES + 3):
    with catalogs.open_read(layout) as catalog:
        assert list(catalog.find_problems()) == []
        with catalog.snapshot() as snapshot:
            assert snapshot.pictures == pictures
    settings = Settings(home=layout.folder.parent)
    report = check(layout, settings, lambda message: None, sources=False, content=False)
    assert report.verdict == "sound", report.findings


# --- the index ---


def test_film_is_one_picture_of_many_items(layout):
    assert_sound(layout)
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.has_moments
        assert snapshot.items == PICTURES + 1 + 5 + LONG
        assert len(snapshot.list_ids(0, 10_000)) == PICTURES + 3
    moments = ids_by_moment(layout)
    assert len(set(moments.values())) == len(moments) == PICTURES + 1 + 5 + LONG
    seconds = [locator.start_ms for name, locator in moments if name == b"long.film"]
    assert sorted(seconds) == list(range(0, 1000 * LONG, 1000))


def test_unchanged_film_is_not_decoded_again_and_keeps_its_ids(layout, folder):
    before = ids_by_moment(layout)
    report = run(layout, folder, verify=True)
    assert (report.unchanged, report.encoded) == (PICTURES + 3, 0)
    os.rename(folder / "long.film", folder / "renamed.film")
    assert run(layout, folder).moved == 1
    after = {
        (name.replace(b"renamed", b"long"), place): i
        for (name, place), i in ids_by_moment(layout).items()
    }
    assert after == before


def test_deleted_film_vanishes_with_all_moments_and_returns_without_decoding(layout, folder):
    before = ids_by_moment(layout)
    content = (folder / "long.film").read_bytes()
    (folder / "long.film").unlink()
    assert run(layout, folder).gone == 1
    assert_sound(layout, PICTURES + 2)
    assert "long.film" not in names(search(layout, "long-2000", 50))
    write(folder, b"long.film", content, 60)
    assert run(layout, folder).encoded == 0
    assert ids_by_moment(layout) == before


@pytest.mark.parametrize("part", [1, 64, 150, 199])
def test_damaged_film_keeps_its_beginning_and_says_so(layout, folder, part):
    content = film("torn", 200).replace(b"torn-%d|" % part, b"bad|")
    write(folder, b"torn.film", content, 50)
    assert run(layout, folder).failed == ()
    (best,) = search(layout, "torn-0", 1).hits
    assert (best.path.name, best.part) == ("torn.film", 0)
    assert best.damage == "only the beginning could be read: a moment is bad"
    found = {place.part for name, place in ids_by_moment(layout) if name == b"torn.film"}
    assert found == set(range(part))
    assert_sound(layout, PICTURES + 4)


def test_film_that_changes_while_it_is_read_leaves_nothing_behind(layout, folder, monkeypatch):
    write(folder, b"growing.film", film("growing", 200), 50)
    path, items = folder / "growing.film", ToyFilmModality.items

    def grow(modality, source, edge_px, first_part=0, known=WHOLE):
        if first_part and b"growing" in source:
            write(folder, b"growing.film", film("grown", 300), 51)
        return items(modality, source, edge_px, first_part, known)

    monkeypatch.setattr(ToyFilmModality, "items", grow)
    write(folder, b"31.toy", b"picture 31", 32)
    (failed,) = run(layout, folder).failed
    assert (failed.path, failed.reason) == (
        os.fsencode(path),
        "the file changed while it was being read",
    )
    assert_sound(layout, PICTURES + 4)
    assert "growing.film" not in names(search(layout, "growing-3", 99))
    monkeypatch.undo()
    assert run(layout, folder).failed == ()
    assert search(layout, "grown-299", 1).hits[0].part == 299
    assert_sound(layout, PICTURES + 5)


def test_film_with_name_of_picture_is_read_as_film(layout, folder):
    write(folder, b"holiday.toy", film("holiday", 400), 50)
    assert run(layout, folder).failed == ()
    assert search(layout, "holiday-399", 1).hits[0].part == 399
    assert_sound(layout, PICTURES + 4)


def test_film_that_was_taken_for_a_picture_is_refused_with_reason(layout, folder, monkeypatch):
    monkeypatch.setattr(encode_module.DecoderFactory, "max_items", lambda *arguments: 1)
    write(folder, b"holiday.toy", film("holiday", 400), 50)
    write(folder, b"31.toy", b"picture 31", 32)
    (failed,) = run(layout, folder).failed
    assert "of the kind 'video' with the name of another" in failed.reason
    assert_sound(layout, PICTURES + 4)


def test_long_film_is_decoded_in_windows(tmp_path, folder, monkeypatch):
    sizes, decode = [], encode_module.DecoderFactory._read

    def read(factory, *arguments):
        window = decode(factory, *arguments)
        sizes.append(len(window.items))
        return window

    monkeypatch.setattr(encode_module.DecoderFactory, "_read", read)
    run(IndexLayout(tmp_path / "home" / "other"), folder)
    assert max(sizes) == encode_module.WINDOW_ITEMS
    assert sum(sizes) == PICTURES + 1 + 5 + LONG


# --- searches ---


def test_search_returns_each_film_once_with_its_best_moment(layout):
    result = search(layout, "long-2345", PICTURES + 3)
    assert sorted(names(result)) == sorted(set(names(result)))
    assert len(result.hits) == result.pictures == result.passed == PICTURES + 3
    best = result.hits[0]
    assert (best.path.name, best.part, best.start_ms, best.end_ms, best.page, best.kind) == (
        "long.film",
        2345,
        2_345_000,
        2_346_000,
        None,
        "video",
    )
    assert best.position == "39:05"
    assert [hit.position for hit in result.hits if hit.kind == "image"] == [""] * PICTURES


def test_other_moments_of_hit_are_best_first_and_at_most_five(layout):
    best = search(layout, "long-2345", 3).hits[0]
    assert len(best.moments) == MAX_MOMENTS
    scores = [moment.score for moment in best.moments]
    assert scores == sorted(scores, reverse=True)
    assert best.score >= scores[0]
    assert best.id not in {moment.id for moment in best.moments}
    clip = next(hit for hit in search(layout, "clip-1", 3).hits if hit.path.name == "clip.film")
    assert {moment.start_ms for moment in clip.moments} <= {0, 2000, 3000, 4000}


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
@pytest.mark.parametrize("text", ["long-12", "clip-3", "picture 4", "red boat", "mill"])
def test_top_5_is_prefix_of_top_15_and_of_all(layout, mode, text):
    top5, top15, every = (search(layout, text, k, mode).hits for k in (5, 15, PICTURES + 3))
    assert top5 == top15[:5]
    assert top15 == every[:15]


@pytest.mark.parametrize("vector_index", ["exact", "faiss_flat"])
def test_best_moments_are_those_of_exhaustive_search(layout, folder, vector_index):
    with toy_indexer(layout, ToyEncoder()) as indexer:
        fusion = make_fusion(FusionSpec("image"))
        indexer.reindex(fusion, vector_index, SearchGoals())
    with toy_engine(layout) as engine, catalogs.open_read(layout) as catalog:
        ids = np.array(sorted(ids_by_moment(layout).values()))
        with catalog.snapshot() as snapshot:
            contents = snapshot.content_ids(ids)
            store = engine._open_store(snapshot)
            for text in ("long-77", "clip-2", "picture 9", "anything"):
                query = engine._encoder.encode("text", [engine._encoder.prepare("text", text)])
                scores = store.scores(query, ids)[0]
                best = {}
                for row in np.lexsort((ids, -scores)).tolist():
                    best.setdefault(int(contents[row]), int(ids[row]))
                hits = engine.search_text(text, PICTURES + 3, Mode.VECTOR).hits
                assert [hit.id for hit in hits] == list(best.values())


def test_filters_count_films_once(layout):
    with toy_engine(layout) as engine:
        result = engine.search_line("clip-3", 10, filters=Filters(paths=("*.film",)))
    assert result.passed == 3
    assert names(result)[0] == "clip.film"
    assert len(result.hits) == 3


def test_words_are_found_only_in_one_moment_and_those_beside_it(layout):
    boats = search(layout, "red boat", 10, Mode.TEXT)
    assert sorted((hit.path.name, hit.part) for hit in boats.hits) == [
        ("clip.film", 3),
        ("long.film", 7),
    ]
    # The clip has old mill and red boat, too far apart, and the long film red boat and old harbour.
    for text, expected in (("old boat", 0.75), ("mill boat", 0.75)):
        for hit in search(layout, text, 10, Mode.TEXT).hits:
            assert hit.text < expected, (text, hit.path.name, hit.part)


def test_film_with_thousand_matching_moments_leaves_room_for_pictures(layout, folder):
    captions = dict.fromkeys(range(2000), "a windmill at the canal")
    write(folder, b"tour.film", film("tour", 2000, captions), 50)
    write(folder, b"0.toy.txt", b"a windmill", 51)
    run(layout, folder)
    result = search(layout, "windmill", 10, Mode.TEXT)
    assert sorted(names(result)) == ["0.toy", "tour.film"]
    hybrid = search(layout, "windmill", 10, Mode.HYBRID)
    assert {"0.toy", "tour.film"} <= set(names(hybrid))


def test_background_sample_has_one_moment_of_each_film(layout):
    with (
        toy_engine(layout) as engine,
        catalogs.open_read(layout) as catalog,
        catalog.snapshot() as snapshot,
    ):
        sample = engine._open_store(snapshot).sample(SAMPLE_SIZE)
        ids = snapshot.sample_ids(SAMPLE_SIZE)
        assert len(sample) == len(ids) == PICTURES + 3
        assert len(np.unique(snapshot.content_ids(ids))) == len(ids)
        everything = np.array(sorted(ids_by_moment(layout).values()))
        assert len(everything) > snapshot.count_contents(everything) == PICTURES + 3


def test_similar_to_moment_finds_it_first(layout):
    moment = next(i for (name, place), i in ids_by_moment(layout).items() if place.part == 1234)
    with toy_engine(layout) as engine:
        result = engine.search(SearchRequest(Query((Term(picture=moment),)), 5))
    assert (result.hits[0].id, result.hits[0].part) == (moment, 1234)
    assert len({hit.path for hit in result.hits}) == 5


# --- maintenance ---


def test_compaction_keeps_ids_moments_and_answers(layout, folder):
    before = ids_by_moment(layout)
    answer = [(hit.id, hit.part) for hit in search(layout, "long-42", 20).hits]
    (folder / "clip.film").unlink()
    run(layout, folder)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        fusion = make_fusion(catalog.identity().fusion)
        compact(layout, catalog, fusion, make_index_builder(layout, catalog, ToyEncoder))
    assert_sound(layout, PICTURES + 2)
    kept = {key: item for key, item in before.items() if key[0] != b"clip.film"}
    assert ids_by_moment(layout) == kept
    clip = {item for key, item in before.items() if key[0] == b"clip.film"}
    found = [(hit.id, hit.part) for hit in search(layout, "long-42", 20).hits]
    assert found[:5] == [entry for entry in answer if entry[0] not in clip][:5]


def test_fusion_that_reencodes_keeps_ids_of_moments(layout):
    before = ids_by_moment(layout)
    with toy_indexer(layout, ToyEncoder()) as indexer:
        made = make_fusion(FusionSpec("attention", 0.4))
        report = indexer.reindex(made, "exact", SearchGoals(), allow_reencode=True)
    assert report.failed == ()
    assert ids_by_moment(layout) == before
    assert search(layout, "long-2345", 1).hits[0].part == 2345
    assert_sound(layout)


def test_film_that_was_cut_fails_as_a_whole_when_it_is_encoded_again(layout, folder):
    facts = os.stat(folder / "long.film")
    with catalogs.open_write(layout, 0, create=False) as catalog:
        for segment in catalog.segments():
            catalog.mark_undecoded(segment.number)
    content = (folder / "long.film").read_bytes()
    cut = b"\n".join(content.splitlines()[:1000])
    (folder / "long.film").write_bytes(cut + b"x" * (len(content) - len(cut)))
    os.utime(folder / "long.film", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with toy_indexer(layout, ToyEncoder(), fusion=FusionSpec("weighted", 0.4)) as indexer:
        update = indexer.reencode_stale()
    assert {item.path for item in update.failed.values()} == {os.fsencode(folder / "long.film")}
    with catalogs.open_read(layout) as catalog:
        assert list(catalog.find_problems()) == []


def test_lost_segment_makes_whole_film_indexed_again(layout, folder):
    with catalogs.open_write(layout, 0, create=False) as catalog:
        numbers = [segment.number for segment in catalog.segments()]
        for number in numbers:
            catalog.drop_segment(number)
        assert list(catalog.find_problems()) == []
    run(layout, folder)
    assert_sound(layout)
    assert search(layout, "long-2999", 1).hits[0].part == 2999


def test_film_that_loses_only_some_rows_is_encoded_as_a_whole(layout, folder):
    write(folder, b"clip.film.txt", b"a canal", 70)
    assert run(layout, folder).retold == 1
    with catalogs.open_write(layout, 0, create=False) as catalog:
        newest = max(segment.number for segment in catalog.segments())
        catalog.drop_segment(newest)
        assert list(catalog.find_problems()) == []
    assert run(layout, folder).encoded == 1
    assert search(layout, "clip-4", 1).hits[0].part == 4
    assert_sound(layout)


def test_lost_catalog_is_rebuilt_with_moments(layout, folder):
    before = ids_by_moment(layout)
    layout.catalog.write_bytes(b"no catalog")
    settings = Settings(home=layout.folder.parent, device="cpu")
    with replaced(make_toys()):
        repair(layout, settings, lambda message: None, 0, lambda progress: None)
    run(layout, folder)
    assert ids_by_moment(layout) == before
    assert search(layout, "long-2345", 1).hits[0].position == "39:05"
    assert_sound(layout)


def comparable(result):
    return [
        replace(hit, id=0, moments=tuple(replace(moment, id=0) for moment in hit.moments))
        for hit in result.hits
    ]


def without_ids(folder):
    return [
        replace(batch, pictures=[replace(item, id=0) for item in batch.pictures])
        for batch in read_export(folder)
    ]


@pytest.mark.parametrize("format_name", PART_FORMATS)
def test_films_survive_an_export_and_an_import(format_name, layout, folder, tmp_path):
    # A caption of the file has its vector in a newer segment than the other moments.
    write(folder, b"clip.film.txt", b"a mill by the river", 50)
    run(layout, folder)
    report = run_export(layout, tmp_path / "a", format_name)
    assert (report.pictures, report.items) == (PICTURES + 3, PICTURES + 1 + 5 + LONG)
    other = IndexLayout(layout.folder.parent / "other")
    assert run_import(other, tmp_path / "a").added == PICTURES + 3
    for text, mode in (
        ("long-2345", Mode.VECTOR),
        ("the old harbour", Mode.TEXT),
        ("a mill by the river", Mode.HYBRID),
    ):
        assert comparable(search(other, text, 40, mode)) == comparable(
            search(layout, text, 40, mode)
        )
    run_export(other, tmp_path / "b", format_name)
    assert_same_batches(*(without_ids(tmp_path / name) for name in ("a", "b")))
    encoder = ToyEncoder()
    report = run(other, folder, encoder)
    assert (report.unchanged, report.encoded, encoder.encoded) == (PICTURES + 3, 0, 0)
    assert_sound(other)


def test_import_commits_films_whole_and_continues(layout, tmp_path, monkeypatch):
    run_export(layout, tmp_path / "a")
    monkeypatch.setattr(npy, "BATCH_ROWS", 33)

    def interrupt(progress):
        if progress.done > PICTURES:
            raise KeyboardInterrupt

    other = IndexLayout(layout.folder.parent / "other")
    with pytest.raises(KeyboardInterrupt):
        run_import(other, tmp_path / "a", progress=interrupt)
    with catalogs.open_read(other) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.items == PICTURES + 5
    run_import(other, tmp_path / "a")
    assert comparable(search(other, "long-2345", 40)) == comparable(search(layout, "long-2345", 40))


@pytest.mark.parametrize("format_name", PART_FORMATS)
def test_export_that_lacks_a_moment_is_refused_before_anything_is_imported(
    format_name, layout, tmp_path
):
    run_export(layout, tmp_path / "a", format_name)
    (batch,) = read_export(tmp_path / "a")
    gone = next(row for row, item in enumerate(batch.pictures) if item.locator.part == 1000)
    kept = [batch.slice(0, gone), batch.slice(gone + 1, len(batch.pictures))]
    roots = tuple({place.root for item in batch.pictures for place in item.places})
    write_export(tmp_path / "b", format_name, kept, roots=roots)
    other = IndexLayout(layout.folder.parent / "other")
    with pytest.raises(SourceError, match=r"lacks item 1,001 of the 3,000 items of .*long\.film"):
        run_import(other, tmp_path / "b")
    assert not other.folder.exists()


def test_film_that_lacks_a_vector_is_not_exported_and_encoded_by_the_next_run(
    layout, folder, tmp_path
):
    gone = ids_by_moment(layout)[b"clip.film", ItemLocator(2, 2000, 3000)]
    # The closing writer makes the checksum of what it finds.
    with (
        catalogs.open_write(layout, 0, create=False),
        closing(sqlite3.connect(layout.catalog)) as db,
        db,
    ):
        db.execute("DELETE FROM embeddings WHERE item_id = ?", [gone])
    report = run_export(layout, tmp_path / "a")
    assert (report.pictures, report.items) == (PICTURES + 2, PICTURES + 1 + LONG)
    other = IndexLayout(layout.folder.parent / "other")
    assert run_import(other, tmp_path / "a").added == PICTURES + 2
    assert run(other, folder).encoded == 1
    assert_sound(other)


def test_clip_retrieval_leaves_films_to_the_next_run(layout, folder, tmp_path):
    report = run_export(layout, tmp_path / "export", "clip-retrieval")
    assert (report.pictures, report.items, report.left_out) == (PICTURES, PICTURES, 3)
    other = IndexLayout(layout.folder.parent / "other")
    assert run_import(other, tmp_path / "export").added == PICTURES
    assert run(other, folder).encoded == 3
    assert search(other, "long-2345", 1).hits[0].part == 2345
    assert_sound(other)


def test_clip_retrieval_of_films_alone_names_a_format_that_holds_them(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    write(folder, b"clip.film", film("clip", 5), 41)
    layout = IndexLayout(tmp_path / "home" / "films")
    run(layout, folder)
    with pytest.raises(StateError, match="films and documents only") as raised:
        run_export(layout, tmp_path / "export", "clip-retrieval")
    assert "--format parquet" in raised.value.command_text
