"""Texts, fusions, modes and filters in the whole engine, on toy pictures."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import InvalidQueryError, UsageError
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.query import Mode
from mmsearch.core.results import IndexRequest
from mmsearch.core.types import FusionSpec, SearchGoals, Text
from mmsearch.factories.plugins import make_fusion
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_indexer_law import NAMES, STEPS, apply, write
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

WORDS = ("red boat", "blue boat", "old mill", "a dog by the old mill", "")
FUSIONS = ("image", "weighted", "concat", "attention")
TOLD = st.one_of(
    STEPS,
    st.tuples(st.just("tell"), NAMES, st.sampled_from(WORDS)),
    st.tuples(st.just("hush"), NAMES),
)


def run(layout, photos, encoder=None, fusion="weighted", captions=None):
    with toy_indexer(layout, encoder, fusion=FusionSpec(fusion, 0.4), captions=captions) as indexer:
        return indexer.run(IndexRequest(os.fsencode(photos), allow_empty=True))


def reindex(layout, fusion, encoder=None, *, weight=0.4, again=False):
    with toy_indexer(layout, encoder) as indexer:
        made = make_fusion(FusionSpec(fusion, weight))
        return indexer.reindex(made, "exact", SearchGoals(), allow_reencode=again)


def answers(layout, **more):
    """Return path, copies, score and text score of every hit, for a few queries."""
    with toy_engine(layout) as engine:
        return {
            (line, mode): [
                (hit.path, hit.copies, round(hit.score, 2), round(hit.text, 3))
                for hit in engine.search_text(line, 100, mode, **more).hits
            ]
            for line in ("boat", "old mill", "one")
            for mode in (Mode.VECTOR, Mode.TEXT, Mode.HYBRID)
        }


def describe_step(photos, step, tick):
    kind, name, *words = step
    sidecar = os.path.join(os.fsencode(photos), name + b".txt")
    if kind == "tell":
        write(photos, name + b".txt", words[0].encode(), tick)
    elif os.path.exists(sidecar):
        os.unlink(sidecar)


@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(TOLD, min_size=1, max_size=12))
def test_index_after_any_text_history_answers_like_fresh_index(tmp_path_factory, steps):
    base = tmp_path_factory.mktemp("law")
    photos = base / "photos"
    photos.mkdir()
    old, fresh = IndexLayout(base / "old"), IndexLayout(base / "fresh")
    for tick, step in enumerate(steps, start=1):
        if step[0] in {"tell", "hush"}:
            describe_step(photos, step, tick)
        elif step[0] == "index":
            run(old, photos)
        else:
            apply(photos, step, tick)
    run(old, photos)
    run(fresh, photos)
    mine, theirs = answers(old), answers(fresh)
    for asked, expected in theirs.items():
        # float16 rounds equal vectors equally, but ids order the pictures of equal score.
        assert sorted(mine[asked], key=str) == sorted(expected, key=str)
    shutil.rmtree(base)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        write(folder, b"%d/%d.toy" % (number % 3, number), b"content %d" % number, 1 + number)
        if number % 4 == 0:
            words = f"boat number {number}, {WORDS[number // 4 % 4]}"
            write(folder, b"%d/%d.toy.txt" % (number % 3, number), words.encode(), 1)
    return folder


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


@pytest.mark.parametrize("fusion", FUSIONS[:3])
def test_reindex_with_other_fusion_equals_fresh_index_without_reencoding(
    layout, photos, tmp_path, fusion
):
    encoder = ToyEncoder()
    run(layout, photos, encoder, "weighted" if fusion == "image" else "image")
    encoded = encoder.encoded
    reindex(layout, fusion, encoder)
    assert encoder.encoded == encoded
    fresh = IndexLayout(tmp_path / "fresh")
    run(fresh, photos, fusion=fusion)
    assert answers(layout) == answers(fresh)


def test_reindex_with_other_weight_changes_answers_reversibly(layout, photos):
    run(layout, photos)
    before = answers(layout)
    reindex(layout, "weighted", weight=0.9)
    assert answers(layout) != before
    reindex(layout, "weighted", weight=0.4)
    assert answers(layout) == before


def test_reindex_to_attention_requires_permission_to_reencode(layout, photos, tmp_path):
    encoder = ToyEncoder()
    run(layout, photos, encoder, "image")
    with pytest.raises(UsageError, match="attention"):
        reindex(layout, "attention", encoder)
    encoded = encoder.encoded
    reindex(layout, "attention", encoder, again=True)
    assert encoder.encoded > encoded
    fresh = IndexLayout(tmp_path / "fresh")
    run(fresh, photos, fusion="attention")
    mine, theirs = answers(layout), answers(fresh)
    assert {a: sorted(h, key=str) for a, h in mine.items()} == {
        a: sorted(h, key=str) for a, h in theirs.items()
    }


def test_table_caption_survives_later_run_and_move_of_picture(layout, photos):
    table = {b"1/1.toy": (Text("caption", "a windmill", "en", "table"),)}
    run(layout, photos)
    assert run(layout, photos, captions=table).retold == 1

    def windmills():
        with toy_engine(layout) as engine:
            return [h.path.name for h in engine.search_text("windmill", 5, Mode.TEXT).hits]

    assert windmills() == ["1.toy"]
    run(layout, photos)
    assert windmills() == ["1.toy"]
    (photos / "1/1.toy").rename(photos / "1/moved.toy")
    run(layout, photos)
    assert windmills() == ["moved.toy"]


@pytest.mark.parametrize("mode", list(Mode))
def test_search_with_smaller_k_returns_prefix_of_longer_result(layout, photos, mode):
    run(layout, photos)
    with toy_engine(layout) as engine:
        long = engine.search_text("old boat", 30, mode).hits
        for k in (1, 3, 10):
            assert list(engine.search_text("old boat", k, mode).hits) == list(long[:k])


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
@pytest.mark.parametrize("fusion", FUSIONS)
@settings(
    max_examples=examples(12),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    paths=st.lists(st.sampled_from(("0/*", "1/1*.toy", "2/2.toy", "none")), max_size=2),
    before=st.none() | st.sampled_from(("1970-01-01T00:00:11", "1970-01-01T00:00:02")),
    k=st.sampled_from((1, 5, 40)),
)
def test_filtered_search_returns_full_page_of_passing_pictures(
    layout, photos, mode, fusion, paths, before, k
):
    if not layout.exists():
        run(layout, photos, fusion=fusion)
    filters = Filters(paths=tuple(paths), before=before)
    with toy_engine(layout) as engine:
        everything = engine.search_line("old boat", 40, mode=mode).hits
        chosen = engine.search_line("old boat", k, mode=mode, filters=filters)
        with engine._catalog.snapshot() as snapshot:
            passing = set(snapshot.filter_ids(make_filter_tree(filters)).tolist())
    assert chosen.passed == len(passing)
    assert len(chosen.hits) == min(k, len(passing))
    by_look = [hit.id for hit in everything if hit.id in passing]
    if mode is Mode.VECTOR:
        assert [hit.id for hit in chosen.hits] == by_look[:k]
    else:
        # The blend scales visual scores between the best and the typical passing picture.
        assert {hit.id for hit in chosen.hits} <= passing


def test_search_negative_term_lowers_rank_and_cancelling_terms_are_refused(layout, photos):
    run(layout, photos)
    with toy_engine(layout) as engine:
        alone = engine.search_line("one", 40, mode=Mode.VECTOR).hits
        without = engine.search_line("one - two", 40, mode=Mode.VECTOR).hits
        (two,) = engine.search_line("two", 1, mode=Mode.VECTOR).hits
        place = {hit.id: hit.rank for hit in without}
        assert place[two.id] > {hit.id: hit.rank for hit in alone}[two.id]
        with pytest.raises(InvalidQueryError, match="cancel"):
            engine.search_line("3:one -4:one", 5, mode=Mode.VECTOR)


def test_search_by_image_path_ranks_that_picture_first(layout, photos):
    run(layout, photos)
    with toy_engine(layout) as engine:
        (hit,) = engine.search_line(str(photos / "1/7.toy"), 1).hits
    assert hit.path == photos / "1/7.toy"


def test_search_hit_carries_matched_words_scores_and_confidence(layout, photos):
    run(layout, photos)
    with toy_engine(layout) as engine:
        first, *_, last = engine.search_text("boats at the mill", 40).hits
    assert first.text > 0
    assert {first.matched.text[a:b] for a, b in first.matched.spans} <= {"boat", "mill", "the"}
    assert first.matched.spans
    assert -1 <= first.visual <= 1
    assert 0 <= first.confidence <= 1
    assert last.matched is None
    assert last.text == 0


def test_search_min_confidence_drops_hits_below_threshold(layout, photos):
    run(layout, photos)
    with toy_engine(layout) as engine:
        hits = engine.search_text("boat", 40).hits
        least = float(np.median([hit.confidence for hit in hits]))
        kept = engine.search_text("boat", 40, min_confidence=least).hits
    assert [h.id for h in kept] == [h.id for h in hits if h.confidence >= least]
