"""Contract tests that compare every vector store with a plain numpy computation.

The engine gives the same answers whichever store it searches.
"""

import os
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.filter_tree import FilterTree, MatchesPath, make_filter_tree
from mmsearch.core.filters import Filters, GeoCircle
from mmsearch.core.query import AllOf, AnyOf, Compare, FieldName, Mode, Not
from mmsearch.core.results import IndexRequest
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.indexing import build as build_module
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores import _served
from mmsearch.vector_stores._served import CollectionReaderCache
from mmsearch.vector_stores.files import IndexReaderCache
from tests.integration.test_indexer_law import write
from tests.memory_server import MemoryServer, served_by
from tests.memory_store import MemoryVectorStore
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

STORES = ("files", "memory", "server")
TOYS = 60
SERVERS = {}
"""Search server by the folder of an index that has one."""


def open_store_of(kind, layout):
    """Return the function that opens a store of a kind."""
    if kind == "memory":
        return lambda snapshot: MemoryVectorStore.open(layout, snapshot)
    files = IndexReaderCache(
        layout, ToyEncoder(), load_vector_index_plugin, "exact", "cpu", make_fusion
    )
    if kind == "files":
        return files.open_store
    return partial(open_served_store, layout)


def open_served_store(layout, snapshot):
    collections = CollectionReaderCache(
        layout,
        ToyEncoder(),
        lambda plugin_name: SERVERS[layout.folder],
        load_vector_index_plugin,
        "exact",
        make_fusion,
    )
    return collections.open_store(snapshot, snapshot.built)


@pytest.fixture(scope="module", autouse=True, params=[10_000, 0], ids=["ids", "conditions"])
def small_collections(request):
    """Let a search of few toys take the ways of one of many: filters as ids and as conditions."""
    with (
        patch.object(_served, "MAX_EXACT_IDS", request.param),
        patch.object(_served, "MIN_CANDIDATES", 100),
        patch.object(_served, "PREFIX_K", 5),
    ):
        yield


def make_index(folder, vector_index, *, films, is_served=False):
    """Index toys in several segments, with deleted ones, and with others since the last build."""
    toys, layout = folder / "toys", IndexLayout(folder / "home" / "index")
    toys.mkdir(parents=True)
    if is_served:
        server = SERVERS[layout.folder] = MemoryServer()

    def run(*, merge):
        with (
            served_by(server, layout) if is_served else nullcontext(),
            patch.object(build_module, "needs_merge", lambda built_rows, tail_rows: merge),
            toy_indexer(layout, vector_index=vector_index) as indexer,
        ):
            indexer.run(IndexRequest(os.fsencode(toys)))

    for number in range(TOYS):
        write(toys, b"%d.toy" % number, b"toy %d" % number + b"x" * number, 1 + number)
    run(merge=True)
    for number in range(0, TOYS, 7):
        (toys / f"{number}.toy").unlink()
    write(toys, b"0.toy", b"toy 0", 1)
    for number in range(4):
        write(toys, b"new %d.toy" % number, b"new %d" % number, 200 + number)
    if films:
        write(toys, b"twice.film", b"film\n" + b"same|\n" * 40 + b"other|", 500)
        write(toys, b"talk.note", b"note\nsame\ntoy 5", 501)
    run(merge=False)
    return layout


@pytest.fixture(scope="module", params=[False, True], ids=["pictures", "films"])
def layouts(request, tmp_path_factory):
    """The same index by the kind of its store: with files, and with a search server."""
    folder = tmp_path_factory.mktemp("stores")
    files = make_index(folder / "files", "exact", films=request.param)
    served = make_index(folder / "served", "exact", films=request.param, is_served=True)
    return {"files": files, "memory": files, "server": served}


@pytest.fixture(params=STORES)
def kind(request):
    return request.param


@pytest.fixture
def store(kind, layouts):
    layout = layouts[kind]
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        yield open_store_of(kind, layout)(snapshot)


@pytest.fixture
def oracle(kind, layouts):
    layout = layouts[kind]
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        return MemoryVectorStore.open(layout, snapshot)


def make_queries(count, seed=0):
    dim = ToyEncoder.spec.dim
    return as_unit_vectors(np.random.default_rng(seed).standard_normal((count, dim)))


def same(encoder=None):
    encoder = encoder or ToyEncoder()
    return encoder.encode("text", [encoder.prepare("text", "same")])


def assert_equal(ranking, expected):
    np.testing.assert_array_equal(ranking.ids, expected.ids)
    np.testing.assert_allclose(ranking.scores, expected.scores, atol=1e-6)


@pytest.mark.parametrize("k", [1, 10, 200])
def test_vector_store_search_matches_numpy(store, oracle, k):
    queries = make_queries(5)
    ranking = store.search(queries, k)
    assert ranking.ids.shape == ranking.scores.shape == (5, k)
    assert_equal(ranking, oracle.search(queries, k))


def test_vector_store_holds_all_searchable_items(store, oracle):
    assert store.complete
    assert store.size == len(oracle.ids)
    assert set(store.search(make_queries(1), 500).ids[0].tolist()) == {-1, *oracle.ids.tolist()}


sizes = st.builds(
    Compare, st.just(FieldName("size_bytes")), st.just(">"), st.sampled_from((0, 7, 30, 64, 10**6))
)
conditions = st.recursive(
    sizes,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)
parts = conditions | st.builds(
    MatchesPath, st.lists(st.sampled_from(("*1.toy", "*.film", "*.none")), min_size=1).map(tuple)
)
trees = st.builds(FilterTree, st.lists(parts, max_size=3).map(tuple))


@settings(max_examples=examples(60), deadline=None)
@given(trees, st.integers(1, 40), st.integers(0, 3))
@pytest.mark.parametrize("kind", STORES)
def test_vector_store_filters_are_exact_at_any_selectivity(layouts, kind, tree, k, seed):
    queries, layout = make_queries(2, seed), layouts[kind]
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        store = open_store_of(kind, layout)(snapshot)
        expected = MemoryVectorStore.open(layout, snapshot).search(queries, k, tree)
        assert_equal(store.search(queries, k, tree), expected)
        passed = store.search(queries, 200, tree).ids
        expected_ids = np.setdiff1d(snapshot.filter_ids(tree), snapshot.ids_without_pixels)
        assert set(passed[0].tolist()) - {-1} == set(expected_ids.tolist())


def test_vector_store_dates_and_places_pass_nothing_that_lacks_them(store):
    for filters in (Filters(after="2000"), Filters(near=GeoCircle(0.0, 0.0, 21000.0))):
        assert (store.search(make_queries(2), 5, make_filter_tree(filters)).ids == -1).all()


def test_vector_store_excludes_ids_with_and_without_filters(store, oracle):
    queries = make_queries(3)
    excluded = np.unique(oracle.search(queries, 4).ids)
    tree = FilterTree((Compare(FieldName("size_bytes"), ">", 8),))
    for filters in (None, tree):
        found = store.search(queries, 10, filters, excluded)
        assert not np.isin(found.ids, excluded).any()
        assert_equal(found, oracle.search(queries, 10, filters, excluded))


def test_vector_store_small_k_returns_prefix_of_large_k(store):
    queries = np.concatenate([make_queries(4, seed=2), same()])
    tree = FilterTree((Compare(FieldName("size_bytes"), ">", 8),))
    for filters in (None, tree):
        long = store.search(queries, 90, filters)
        for k in (1, 5, 15, 40):
            short = store.search(queries, k, filters)
            np.testing.assert_array_equal(short.ids, long.ids[:, :k])
            np.testing.assert_array_equal(short.scores, long.scores[:, :k])


def test_vector_store_orders_equal_scores_by_id(store):
    ranking = store.search(same(), 50)
    scores, ids = ranking.scores[0], ranking.ids[0]
    assert (np.diff(scores) <= 0).all()
    tied = np.flatnonzero(np.diff(scores) == 0)
    assert (np.diff(ids)[tied] > 0).all()


def test_vector_store_scores_are_those_of_search_in_given_order(store):
    queries = make_queries(3, seed=5)
    ranking = store.search(queries, 30)
    for row in range(3):
        shuffled = np.random.default_rng(row).permutation(30)
        scores = store.scores(queries, ranking.ids[row, shuffled])
        assert scores.shape == (3, 30)
        np.testing.assert_allclose(scores[row], ranking.scores[row, shuffled], atol=1e-6)
    assert store.scores(queries, np.empty(0, np.int64)).shape == (3, 0)


def test_vector_store_sample_holds_one_item_of_each_content(store, oracle):
    sample = store.sample(1000)
    contents = len(np.unique(oracle.content_ids))
    assert len(sample) == contents
    known = {row.tobytes() for row in oracle.vectors}
    assert {row.tobytes() for row in sample} <= known
    few = store.sample(contents // 2)
    assert 1 <= len(few) <= contents
    assert {row.tobytes() for row in few} <= known


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID])
@pytest.mark.parametrize(
    "filters", [Filters(), Filters(paths=("*1.toy", "*.film")), Filters(where="size_bytes > 20")]
)
def test_engine_gives_same_hits_with_any_store(layouts, mode, filters):
    answers = []
    for kind, layout in layouts.items():
        with toy_engine(layout, open_store=open_store_of(kind, layout)) as engine:
            answers.append(
                [
                    engine.search_line(line, 12, mode=mode, filters=filters)
                    for line in ("toy 3", "same", "same -other")
                ]
            )
    (first, *others) = (list(answer) for answer in answers)
    pairs = [(one, other) for answer in others for one, other in zip(first, answer, strict=True)]
    for one, other in pairs:
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        np.testing.assert_allclose(
            [hit.confidence for hit in one.hits], [hit.confidence for hit in other.hits], atol=1e-6
        )
        assert (one.passed, one.match) == (other.passed, other.match)
        assert other.devices["vector_index"] in ("memory", "milvus")
        assert "incomplete" not in {notice.code for notice in one.notices + other.notices}


def test_engine_says_that_a_store_lacks_pictures(layouts):
    layout = layouts["files"]

    def open_store(snapshot):
        return replace(MemoryVectorStore.open(layout, snapshot), complete=False)

    with toy_engine(layout, open_store=open_store) as engine:
        notices = engine.search_text("toy 3", 3).notices
    assert [notice.code for notice in notices] == ["incomplete"]


def test_file_store_without_row_of_picture_is_incomplete(layouts, monkeypatch):
    layout = layouts["files"]
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        store = open_store_of("files", layout)(snapshot)
        leaves = store.reader.leaves
        assert len(leaves) > 1
        monkeypatch.setattr(store.reader, "leaves", leaves[:1])
        monkeypatch.setattr(store.reader, "hidden", store.reader.hidden[:1])
        assert not store.complete
        assert store.size < snapshot.items
