"""Captions of tables and sidecars can be replaced and removed by later index runs."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.query import Mode
from mmsearch.core.results import IndexRequest
from mmsearch.core.types import FusionSpec, Text
from mmsearch.storage.layout import IndexLayout
from tests.property_budget import examples
from tests.toy_index import ToyCaptionTable, toy_engine, toy_indexer

NAMES = ("a.toy", "sub/b.toy", "sub/c.toy")
WORDS = ("a windmill", "a giraffe", "a red boat")


def run(layout, folder, captions=None, fusion="weighted", **options):
    with toy_indexer(layout, fusion=FusionSpec(fusion, 0.4), captions=captions) as indexer:
        return indexer.run(IndexRequest(os.fsencode(folder), **options))


def table(path, **captions):
    """Make a caption table at a path; the keyword is the letter in the picture's name."""
    by_letter = {name.removesuffix(".toy")[-1]: os.fsencode(name) for name in NAMES}
    found = {
        by_letter[letter]: tuple(Text("caption", words, None, "table") for words in texts)
        for letter, texts in captions.items()
    }
    return ToyCaptionTable(path, found)


def said(layout):
    """Return the texts of each picture, by its file name."""
    with toy_engine(layout) as engine:
        hits = engine.search_text("anything", 9, Mode.VECTOR).hits
        return {hit.path.name: sorted(text.text for text in hit.texts) for hit in hits}


def scores(layout):
    with toy_engine(layout) as engine:
        hits = engine.search_text("a windmill", 9, Mode.VECTOR).hits
        return {hit.path.name: hit.score for hit in hits}


def fill(folder):
    (folder / "sub").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(10**9, 10**9))
    return folder


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos")


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


def test_caption_table_given_again_replaces_its_earlier_captions(layout, photos, tmp_path):
    run(layout, photos)
    plain = scores(layout)
    first = run(layout, photos, table(b"/t.csv", a=WORDS[:2], b=WORDS[2:]))
    assert (first.captions_removed, first.retold) == (0, 2)
    fused = scores(layout)
    assert fused["c.toy"] == plain["c.toy"]
    assert fused["a.toy"] != plain["a.toy"]
    # The picture's file is unchanged, so a run without a table skips its folder.
    second = run(layout, photos, table(b"/t.csv", a=WORDS[:1]))
    assert (second.captions_removed, second.retold) == (2, 2)
    assert said(layout) == {"a.toy": ["a windmill"], "b.toy": [], "c.toy": []}
    assert scores(layout)["b.toy"] == plain["b.toy"]
    fresh = IndexLayout(tmp_path / "fresh")
    run(fresh, photos, table(b"/t.csv", a=WORDS[:1]))
    assert scores(layout) == scores(fresh)
    last = run(layout, photos, table(b"/t.csv"))
    assert (last.captions_removed, last.retold) == (1, 1)
    assert scores(layout) == plain
    with toy_engine(layout) as engine:
        assert engine.search_text("windmill", 5, Mode.TEXT).hits == []


def test_index_run_without_caption_table_keeps_all_captions(layout, photos):
    run(layout, photos, table(b"/t.csv", a=WORDS))
    for options in ({}, {"exclude": ("sub/",)}, {"retry_failed": True}):
        report = run(layout, photos, **options)
        assert (report.captions_removed, report.retold) == (0, 0)
    assert said(layout)["a.toy"] == sorted(WORDS)


def test_caption_tables_at_two_paths_update_only_their_own_captions(layout, photos):
    run(layout, photos, table(b"/1.csv", a=WORDS[:2], b=WORDS[:1]))
    report = run(layout, photos, table(b"/2.csv", a=WORDS[1:]))
    assert report.captions_removed == 0
    assert said(layout)["a.toy"] == sorted([WORDS[0], WORDS[1], WORDS[1], WORDS[2]])
    assert run(layout, photos, table(b"/1.csv")).captions_removed == 2
    assert said(layout) == {"a.toy": sorted(WORDS[1:]), "b.toy": [], "c.toy": []}


def test_caption_removal_in_subfolder_run_affects_only_pictures_below_it(layout, photos):
    run(layout, photos, table(b"/t.csv", a=WORDS[:1], b=WORDS[:1]))
    report = run(layout, photos / "sub", ToyCaptionTable(b"/t.csv", {b"c.toy": ()}))
    assert report.captions_removed == 1
    assert said(layout) == {"a.toy": ["a windmill"], "b.toy": [], "c.toy": []}


def test_moved_picture_keeps_captions_until_table_is_given_again(layout, photos):
    run(layout, photos, table(b"/t.csv", a=WORDS[:1]))
    (photos / "a.toy").rename(photos / "moved.toy")
    run(layout, photos)
    assert said(layout)["moved.toy"] == ["a windmill"]
    report = run(layout, photos, table(b"/t.csv", a=WORDS[:1]))
    assert (report.captions_removed, said(layout)["moved.toy"]) == (1, [])


def test_captions_without_table_path_stay_until_a_table_names_the_picture(layout, photos):
    """Older indexes do not record the table of a caption."""
    run(layout, photos, table(b"/t.csv", a=WORDS[:1], b=WORDS[:1]))
    with toy_indexer(layout) as indexer, indexer.catalog._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE texts SET table_path = NULL")
    report = run(layout, photos, table(b"/t.csv", b=WORDS[1:2]))
    assert report.captions_removed == 1
    assert said(layout) == {"a.toy": ["a windmill"], "b.toy": ["a giraffe"], "c.toy": []}


@pytest.mark.parametrize("change", ["emptied", "deleted", "blank"])
def test_sidecar_emptied_or_deleted_removes_its_text_and_score_effect(layout, photos, change):
    run(layout, photos)
    plain = scores(layout)
    sidecar = photos / "a.toy.txt"
    sidecar.write_text("a windmill")
    run(layout, photos)
    assert said(layout)["a.toy"] == ["a windmill"]
    assert scores(layout) != plain
    if change == "deleted":
        sidecar.unlink()
    else:
        sidecar.write_text(" \n" if change == "blank" else "")
    assert run(layout, photos).retold == 1
    assert "".join(said(layout)["a.toy"]).strip() == ""
    assert scores(layout) == plain


TABLES = st.sampled_from([b"/1.csv", b"/2.csv"])
CAPTIONS = st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from(WORDS), unique=True))


@given(st.lists(st.tuples(TABLES, CAPTIONS), max_size=5))
@settings(max_examples=examples(15))
def test_captions_after_any_table_versions_equal_latest_of_each_table(tmp_path_factory, versions):
    tmp_path = tmp_path_factory.mktemp("law")
    photos, layout = fill(tmp_path / "photos"), IndexLayout(tmp_path / "index")
    run(layout, photos)
    latest = {}
    for path, captions in versions:
        before = latest.get(path, {})
        others = [latest[other] for other in latest if other != path]
        report = run(layout, photos, table(path, **captions))
        latest[path] = captions
        assert report.captions_removed == sum(
            len(set(before.get(letter, ())) - set(captions.get(letter, ())).union(
                *(other.get(letter, ()) for other in others)
            ))
            for letter in "abc"
        )  # fmt: skip
    assert said(layout) == {
        f"{letter}.toy": sorted(
            words for captions in latest.values() for words in captions.get(letter, ())
        )
        for letter in "abc"
    }
