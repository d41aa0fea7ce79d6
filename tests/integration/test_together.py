"""Batch search gives each query the same answer as a single search."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsearch
from mmsearch.core.errors import (
    EncoderMismatchError,
    InvalidQueryError,
    MMSearchError,
    UsageError,
)
from mmsearch.core.filters import Filters
from mmsearch.core.query import Mode, Query, SearchRequest, Term
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_fused_search import run
from tests.integration.test_indexer_law import write
from tests.property_budget import examples
from tests.toy_index import toy_engine

WORDS = ("boat", "old mill", "a dog", "nothing like it", "")
TERMS = st.one_of(
    st.builds(Term, text=st.sampled_from(WORDS), weight=st.sampled_from([1.0, 2.0, -1.0, 0.0])),
    st.builds(Term, picture=st.integers(0, 12)),
    st.just(Term(url="https://example.org/a.jpg")),
)
REQUESTS = st.builds(
    SearchRequest,
    st.builds(
        Query,
        st.lists(TERMS, min_size=0, max_size=3).map(tuple),
        filters=st.sampled_from([Filters(), Filters(paths=("*1*",)), Filters(min_width=999)]),
        mode=st.sampled_from([None, *Mode]),
        blend=st.sampled_from([None, "reciprocal_rank"]),
        prompts=st.sampled_from([None, ("a photo of {}",), ("no place",)]),
    ),
    k=st.sampled_from([0, 1, 3, 20]),
    min_score=st.sampled_from([None, 0.1]),
    explain=st.booleans(),
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    base = tmp_path_factory.mktemp("together")
    photos = base / "photos"
    photos.mkdir()
    for number in range(10):
        write(photos, f"{number}.toy".encode(), bytes([number]), 1)
        if number % 2:
            write(photos, f"{number}.toy.txt".encode(), WORDS[number % 3].encode(), 1)
    layout = IndexLayout(base / "index")
    run(layout, photos)
    # New pictures that are not in the built vector index yet, and one removed picture.
    for number in range(10, 13):
        write(photos, f"{number}.toy".encode(), bytes([number]), 2)
    (photos / "3.toy").unlink()
    run(layout, photos)
    return layout


def comparable(answer):
    """Return an answer without its timings, or the type and text of an error."""
    if isinstance(answer, MMSearchError):
        return type(answer), str(answer)
    return replace(answer, timings_s={})


def search_alone(engine, request):
    try:
        return engine.search(request)
    except MMSearchError as error:
        return error


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(REQUESTS, max_size=8))
def test_batch_search_answers_equal_single_searches(layout, requests):
    with toy_engine(layout) as engine:
        batch_results = engine.answer(engine.encode(requests))
        assert [comparable(answer) for answer in batch_results] == [
            comparable(search_alone(engine, request)) for request in requests
        ]


def test_batch_search_for_known_words_finds_pictures(layout):
    with toy_engine(layout) as engine:
        requests = [SearchRequest(Query((Term(text),)), 5) for text in WORDS[:3]]
        assert [len(one.hits) for one in engine.answer(engine.encode(requests))] == [5, 5, 5]


def test_batch_search_reads_vectors_once_for_all_queries(layout, monkeypatch):
    from mmsearch.vector_stores.files import IndexReader

    scans = []
    search = IndexReader.search

    def counting_search(self, queries, *more):
        scans.append(len(queries))
        return search(self, queries, *more)

    monkeypatch.setattr(IndexReader, "search", counting_search)
    with toy_engine(layout) as engine:
        requests = [SearchRequest(Query((Term(text),)), 5) for text in WORDS[:4]]
        engine.answer(engine.encode(requests))
    assert scans == [4]


def test_batch_search_query_from_other_encoder_raises_mismatch_error(layout):
    with toy_engine(layout) as engine:
        (encoded,) = engine.encode([SearchRequest(Query((Term("boat"),)))])
        with pytest.raises(EncoderMismatchError):
            engine.answer([replace(encoded, encoder="another")])


@pytest.fixture(scope="module")
def index(tmp_path_factory, photos):
    with mmsearch.open_index(home=tmp_path_factory.mktemp("home"), model="starter") as index:
        index.add_folder(photos)
        yield index


def test_batch_search_with_real_encoder_matches_single_searches(index):
    lines = [
        "a windmill",
        "a dog",
        "2:boat + sea -people",
        "a red car in front of a house at night",
    ]
    requests = [SearchRequest(Query((Term(line),)), 10) for line in lines * 20]
    batch_results = list(index.iter_search(requests))
    # Closing the index drops the cached vectors of the queries.
    index.close()
    for line, one in zip(lines, batch_results, strict=False):
        single_result = index.search(Query((Term(line),)), 10)
        assert [hit.path for hit in one.hits] == [hit.path for hit in single_result]
        np.testing.assert_allclose(
            [hit.score for hit in one.hits], [hit.score for hit in single_result], atol=1e-5
        )


def test_batch_search_invalid_query_does_not_stop_others(index):
    good, bad = SearchRequest(Query((Term("a dog"),))), SearchRequest(Query(()))
    answers = index.iter_search([good, bad, good])
    assert next(answers).hits
    with pytest.raises(InvalidQueryError):
        next(answers)
    assert next(answers).hits
    assert [isinstance(one, MMSearchError) for one in index.search_many([good, bad])] == [
        False,
        True,
    ]


def test_batch_search_of_texts_gives_hits_of_single_searches(index):
    texts = ["a dog", "-people", "a windmill", ""]
    *results, error = index.search_many(texts, k=4, filters={"min_width": 100}, mode="vector")
    for text, result in zip(texts, results, strict=False):
        expected = index.search(text, 4, filters={"min_width": 100}, mode="vector")
        assert [hit.path for hit in result.hits] == [hit.path for hit in expected]
    assert isinstance(error, InvalidQueryError)
    (parsed,) = index.search_many([mmsearch.parse_query("a dog -people")], k=2)
    assert len(parsed.hits) == 2
    (single,) = index.search_many("a dog", k=2)
    assert len(single.hits) == 2
    with pytest.raises(UsageError):
        index.search_many([3])


def test_batch_search_on_empty_index_answers_each_query(tmp_path):
    with mmsearch.open_index(home=tmp_path, model="starter") as index:
        (tmp_path / "none").mkdir()
        index.add_folder(tmp_path / "none", allow_empty=True)
        found, error = index.search_many(
            [SearchRequest(Query((Term("a"),))), SearchRequest(Query(()))]
        )
    assert list(found.hits) == []
    assert isinstance(error, InvalidQueryError)
