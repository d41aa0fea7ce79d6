"""Stacks of duplicates in searches: one hit each, with the number of the other pictures."""

import os
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.filters import Filters
from mmsearch.core.query import Mode, Query, SearchRequest, Term
from mmsearch.core.results import IndexRequest, SearchResult
from mmsearch.core.types import FusionSpec
from mmsearch.search import grouping, retrieval
from mmsearch.search.hits import MAX_DUPLICATES
from mmsearch.search.retrieval import FOLD_DEPTH
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_indexer_law import write
from tests.property_budget import examples
from tests.stacked_index import write_stacks
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

PICTURES, MOMENTS = 70, 4
TOYS = Filters(paths=("*.toy",))
TEXTS = ("picture 3", "picture 41", "red boat", "an old mill")


def write_pictures(folder, *, film):
    """Write pictures, every third of them with a caption, and a film or one more picture."""
    folder.mkdir()
    for number in range(PICTURES):
        write(folder, b"%02d.toy" % number, b"picture %d" % number, 1 + number)
        if number % 3 == 0:
            caption = (b"a red boat", b"an old mill")[number % 2]
            write(folder, b"%02d.toy.txt" % number, caption, 1)
    if not film:
        write(folder, b"one_more.toy", b"one more", 1)
        return
    lines = [f"film-{part}|a red boat {part}" for part in range(MOMENTS)]
    write(folder, b"tour.film", "\n".join(["film", *lines]).encode(), 1)


def make_layout(path, *, film=True):
    write_pictures(path / "files", film=film)
    layout = IndexLayout(path / "home" / "index")
    with toy_indexer(layout, ToyEncoder(), fusion=FusionSpec("weighted", 0.4)) as indexer:
        indexer.run(IndexRequest(os.fsencode(path / "files")))
    return layout


@pytest.fixture
def layout(tmp_path):
    return make_layout(tmp_path)


@pytest.fixture(scope="module", params=[True, False], ids=["with film", "pictures"])
def shared_layout(request, tmp_path_factory):
    return make_layout(tmp_path_factory.mktemp("stacks"), film=request.param)


def search(layout, text, k=10, mode=Mode.VECTOR, filters=Filters(), **options):  # noqa: B008
    with toy_engine(layout) as engine:
        query = Query((Term(text),), filters, mode)
        return engine.search(SearchRequest(query, k, **options))


def names(result):
    return [hit.path.name for hit in result.hits]


def ranking(layout, text, mode=Mode.VECTOR, **options):
    """Return all hits without folding, best first."""
    return search(layout, text, PICTURES + MOMENTS, mode, fold=False, **options).hits


def facts(hits):
    return [(hit.id, hit.score, hit.rank, hit.folded, hit.duplicates) for hit in hits]


# --- hits ---


def test_burst_is_one_hit_with_number_and_list_of_others(layout):
    best = ranking(layout, "picture 3", filters=TOYS)
    near = [best[0].id, best[5].id]
    burst = [best[3].id, best[2].id]
    write_stacks(layout, [[near, burst]])
    result = search(layout, "picture 3", 3, filters=TOYS)
    assert names(result) == [best[row].path.name for row in (0, 1, 4)]
    first = result.hits[0]
    assert first.folded == 3
    found = [(other.id, other.kind, other.path) for other in first.duplicates]
    assert found == [
        (best[5].id, "near", best[5].path),
        *(
            (i, "burst", path)
            for i, path in sorted((best[row].id, best[row].path) for row in (2, 3))
        ),
    ]
    assert [hit.folded for hit in result.hits[1:]] == [0, 0]
    assert (result.passed, result.pictures) == (PICTURES, PICTURES + 1)
    assert SearchResult.from_dict(result.to_dict()) == replace(result, hits=tuple(result.hits))


def test_without_folding_each_picture_is_a_hit(layout):
    before = ranking(layout, "picture 3")
    write_stacks(layout, [[[hit.id for hit in before[:9]]]])
    assert facts(ranking(layout, "picture 3")) == facts(before)
    assert not any(hit.duplicates for hit in before)


def test_kind_says_how_others_relate_to_best_picture(layout):
    best = ranking(layout, "picture 3")
    write_stacks(layout, [[[best[1].id, best[4].id], [best[0].id]]])
    (hit,) = search(layout, "picture 3", 1).hits
    assert (hit.id, [other.kind for other in hit.duplicates]) == (best[0].id, ["burst", "burst"])


def test_at_most_20_duplicates_are_listed_and_all_are_counted(layout):
    stack = [hit.id for hit in ranking(layout, "picture 3")[:40]]
    write_stacks(layout, [[stack]])
    (hit,) = search(layout, "picture 3", 1).hits
    assert hit.folded == 39
    others = [other.id for other in hit.duplicates]
    assert others == sorted(set(stack) - {hit.id})[:MAX_DUPLICATES]


@pytest.mark.parametrize("first_depth", [20, FOLD_DEPTH])
@pytest.mark.parametrize("mode", list(Mode))
def test_k_hits_are_found_although_nearest_50_are_one_burst(layout, mode, first_depth, monkeypatch):
    monkeypatch.setattr(retrieval, "FOLD_DEPTH", first_depth)
    text = "red boat" if mode is Mode.TEXT else "picture 3"
    best = ranking(layout, text, mode)
    half = len(best) * 5 // 7
    write_stacks(layout, [[[hit.id for hit in best[:half]]]])
    k = min(15, len(best) - half + 1)
    result = search(layout, text, k, mode)
    assert [hit.id for hit in result.hits] == [best[0].id, *(h.id for h in best[half:])][:k]


def test_only_pictures_that_pass_filters_count_and_show(layout):
    best = ranking(layout, "picture 3")
    stack = [hit.id for hit in best[:8]]
    write_stacks(layout, [[stack]])
    kept = sorted(best[row].id for row in (2, 4, 7))
    filters = Filters(paths=tuple(best[row].path.name for row in (2, 4, 7, 20)))
    result = search(layout, "picture 3", 10, filters=filters)
    assert [hit.id for hit in result.hits] == [best[2].id, best[20].id]
    assert (result.hits[0].folded, result.passed) == (2, 4)
    assert [other.id for other in result.hits[0].duplicates] == [i for i in kept if i != best[2].id]


def test_film_in_stack_keeps_its_own_moments(layout):
    best = ranking(layout, "film-2")
    assert best[0].path.name == "tour.film"
    write_stacks(layout, [[[best[0].id, best[1].id, best[6].id]]])
    result = search(layout, "film-2", 4)
    assert result.hits[0].moments == best[0].moments
    assert result.hits[0].folded == 2
    # A picture of the stack stands for the film, which counts once.
    text = f"picture {int(best[1].path.stem)}"
    (hit,) = [hit for hit in search(layout, text, 40).hits if hit.folded]
    assert (hit.id, hit.folded, hit.moments) == (best[1].id, 2, ())
    assert [other.path.name for other in hit.duplicates] == sorted(
        [best[0].path.name, best[6].path.name], key=lambda name: name == "tour.film"
    )


def test_removed_pictures_are_no_duplicates(layout, tmp_path):
    best = ranking(layout, "picture 3")
    write_stacks(layout, [[[hit.id for hit in best[:3]]]])
    best[1].path.unlink()
    with toy_indexer(layout, ToyEncoder(), fusion=FusionSpec("weighted", 0.4)) as indexer:
        indexer.run(IndexRequest(os.fsencode(tmp_path / "files")))
    result = search(layout, "picture 3", 3)
    assert result.hits[0].folded <= 1
    assert best[1].id not in {other.id for hit in result.hits for other in hit.duplicates}


def test_search_by_picture_stands_for_its_duplicates(layout):
    picture = ranking(layout, "picture 3")[0].id
    with toy_engine(layout) as engine:
        request = SearchRequest(Query((Term(picture=picture),), TOYS), 5)
        before = engine.search(request).hits
    write_stacks(layout, [[[picture, before[1].id, before[3].id]]])
    with toy_engine(layout) as engine:
        folded = engine.search(request).hits
        every = engine.search(replace(request, fold=False)).hits
    assert [hit.id for hit in folded[:3]] == [before[row].id for row in (0, 2, 4)]
    assert [other.id for other in folded[0].duplicates] == sorted(before[row].id for row in (1, 3))
    assert facts(every) == facts(before)


# --- laws ---

IDS = st.integers(1, PICTURES + 1)
STACKS = st.lists(
    st.lists(st.lists(IDS, min_size=1, max_size=12, unique=True), min_size=1, max_size=3),
    max_size=5,
)


def make_disjoint(stacks):
    """Return stacks in which no picture comes twice, and none alone."""
    seen = set()
    result = []
    for stack in stacks:
        groups = []
        for group in stack:
            groups.append([item for item in group if item not in seen])
            seen.update(group)
        groups = [group for group in groups if group]
        if sum(map(len, groups)) > 1:
            result.append(groups)
    return result


def fold(hits, stacks):
    """Return the best hit of each stack with the number of its other pictures."""
    stack_of = {item: number for number, stack in enumerate(stacks) for g in stack for item in g}
    best = {}
    members = {}
    for hit in hits:
        # The moments of the film follow the pictures.
        group = stack_of.get(min(hit.id, PICTURES + 1), -hit.id)
        best.setdefault(group, hit)
        members.setdefault(group, []).append(hit.id)
    return [(hit.id, hit.score, len(members[group]) - 1) for group, hit in best.items()]


@settings(max_examples=examples(40 * 2))
@given(
    stacks=STACKS.map(make_disjoint),
    text=st.sampled_from(TEXTS),
    mode=st.sampled_from([Mode.VECTOR, Mode.HYBRID]),
    pattern=st.sampled_from([(), ("?[02468].toy",), ("[0-3]?.toy",), ("*1.toy", "tour.film")]),
    depth=st.sampled_from([1000, 25]),
)
def test_folded_ranking_is_that_of_all_pictures_and_each_page_its_prefix(
    shared_layout, stacks, text, mode, pattern, depth
):
    write_stacks(shared_layout, stacks)
    filters = Filters(paths=pattern)
    expected = fold(ranking(shared_layout, text, mode, filters=filters), stacks)
    with (
        patch.object(retrieval, "FUSION_DEPTH", depth),
        patch.object(retrieval, "FOLD_DEPTH", min(depth, 20)),
        patch.object(grouping, "MAX_WIDENED", depth),
        toy_engine(shared_layout) as engine,
    ):
        query = Query((Term(text),), filters, mode)
        pages = {k: engine.search(SearchRequest(query, k)).hits for k in (1, 5, 15, 21, 80)}
    found = [(hit.id, hit.score, hit.folded) for hit in pages[80]]
    if mode is Mode.VECTOR or depth == 1000:
        assert found == expected
    for k, hits in pages.items():
        assert facts(hits) == facts(pages[80][:k])
    for hit in pages[80]:
        assert len(hit.duplicates) == min(hit.folded, MAX_DUPLICATES)
        assert hit.id not in {other.id for other in hit.duplicates}


@settings(max_examples=examples(25 * 2))
@given(stacks=STACKS.map(make_disjoint), depth=st.sampled_from([1000, 3]))
def test_folded_texts_keep_their_order(shared_layout, stacks, depth):
    write_stacks(shared_layout, stacks)
    expected = fold(ranking(shared_layout, "red boat", Mode.TEXT), stacks)
    with patch.object(retrieval, "FUSION_DEPTH", depth), toy_engine(shared_layout) as engine:
        pages = {
            k: engine.search_text("red boat", k, Mode.TEXT, explain=True).hits for k in (1, 5, 80)
        }
    assert [hit.id for hit in pages[80]][: len(expected)] == [item for item, *_ in expected][:80]
    assert {(hit.id, hit.score) for hit in pages[80]} == {(i, score) for i, score, _ in expected}
    for k, hits in pages.items():
        assert facts(hits) == facts(pages[80][:k])
