"""Contract tests of search servers, which compare them with plain numpy and one loop.

A server that runs is a service of tests, so those cases run by scripts/test --cluster.
"""

import os
import random
from functools import lru_cache, partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import MMSearchError, ServerError
from mmsearch.core.query import AllOf, AnyOf, Compare, Contains, FieldName, IsMissing, Not, OneOf
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields
from mmsearch.core.vector_servers import MIN_CANDIDATES, VectorBlock
from mmsearch.core.vectors import as_unit_vectors
from tests.cluster import services
from tests.cluster.conftest import start_service  # noqa: F401 - a fixture
from tests.memory_server import MemoryServer
from tests.property_budget import examples

ROWS, DIM, EQUAL = 2000, 24, 40
HOSTILE = (
    "",
    "plain",
    'a"b',
    "it's",
    "back\\slash",
    "\\",
    '\\"',
    '" or id >= 0 or label == "',
    "') OR 1=1 --",
    "new\nline\tand tab",
    "%_*?[a-z]",
    "{x} $1 :y ?",
    "\\u0041",
    "\U0001f600",
    "\u65e5\u672c",
    "stra\u00dfe",
)


def open_milvus(start, index_type="auto"):
    pytest.importorskip("pymilvus")
    from mmsearch.vector_stores import milvus

    url = start("milvus")["MILVUS_URL"]
    with patch.dict(os.environ, MMSEARCH_MILVUS_INDEX=index_type):
        return milvus.build(f"{url}/contract_{index_type}", "contract")


def open_pgvector(start):
    from mmsearch.vector_stores import pgvector

    state = start("postgres_vector")
    with patch.dict(os.environ, MMSEARCH_SEARCH_PASSWORD=state["POSTGRES_PASSWORD"]):
        return pgvector.build(state["POSTGRES_URL"], "contract")


SERVERS = {
    "memory": lambda start: MemoryServer(),
    "milvus": open_milvus,
    "pgvector": open_pgvector,
    "milvus_hnsw": partial(open_milvus, index_type="hnsw"),
}


SERVICES = [pytest.param(name, marks=services.MARKS) for name in ("milvus", "pgvector")]


@pytest.fixture(scope="module")
def start_once(start_service):  # noqa: F811 - the fixture
    """Start a service for all cases of this module that use it."""
    return lru_cache(start_service)


@pytest.fixture(scope="module", params=["memory", *SERVICES])
def server(request, start_once):
    server = SERVERS[request.param](start_once)
    yield server
    server.close()


def make_value(kind, draw):
    if kind == "texts":
        return tuple(sorted(set(draw.choices(HOSTILE, k=draw.randint(0, 3)))))
    if draw.random() < 0.2:
        return None
    return draw.choice((0, 1, -2.5, 3, 4000) if kind == "number" else HOSTILE)


def make_blocks(rows=ROWS, *, block_rows=700):
    """Return blocks of clustered vectors, of which some are equal, and fields."""
    generator, draw = np.random.default_rng(1), random.Random(1)
    centers = generator.standard_normal((20, DIM))
    vectors = centers[generator.integers(0, 20, rows)] + generator.standard_normal((rows, DIM))
    vectors = as_unit_vectors(vectors).astype(np.float16).astype(np.float32)
    vectors[generator.permutation(rows)[:EQUAL]] = vectors[0]
    ids = np.sort(generator.permutation(5 * rows)[:rows]) + 1
    items = [
        ItemFields(item_id, {name: make_value(kind, draw) for name, kind in SEARCH_FIELDS.items()})
        for item_id in ids.tolist()
    ]
    digests = np.array([item.digest for item in items])
    # Rows arrive in any order.
    order = generator.permutation(rows)
    for start in range(0, rows, block_rows):
        part = order[start : start + block_rows]
        yield VectorBlock(ids[part], vectors[part], [items[row] for row in part], digests[part])


@pytest.fixture(scope="module")
def oracle():
    return MemoryServer().create("oracle", DIM, make_blocks())


@pytest.fixture(
    scope="module",
    params=["memory", *SERVICES, pytest.param("milvus_hnsw", marks=services.MARKS)],
)
def collection(request, start_once):
    server = SERVERS[request.param](start_once)
    made = server.create("photos_1", DIM, make_blocks())
    assert (made.rows, made.dim, made.count()) == (ROWS, DIM, ROWS)
    yield server.open("photos_1", DIM, ROWS)
    server.close()


def make_queries(oracle, count=6, seed=0):
    near = oracle.data[np.random.default_rng(seed).permutation(ROWS)[:count]]
    queries = as_unit_vectors(near + 0.1 * np.random.default_rng(seed).standard_normal(near.shape))
    # The last one is among equal vectors.
    queries[-1] = oracle.data[np.flatnonzero(_is_equal(oracle))[0]]
    return queries


def _is_equal(oracle):
    rows, counts = np.unique(oracle.data, axis=0, return_counts=True)
    return (oracle.data == rows[counts.argmax()]).all(axis=1)


def check(found, expected):
    """Assert order, padding and a recall of 0.99, where equal scores count as found."""
    assert found.ids.shape == found.scores.shape == expected.ids.shape
    for ids, scores, best in zip(found.ids, found.scores, expected.scores, strict=True):
        wanted = int(np.isfinite(best).sum())
        assert int((ids >= 0).sum()) == wanted
        assert (ids[wanted:] == -1).all()
        assert np.isneginf(scores[wanted:]).all()
        assert len(set(ids[:wanted].tolist())) == wanted
        assert (np.lexsort((ids[:wanted], -scores[:wanted])) == np.arange(wanted)).all()
        if wanted:
            assert (scores[:wanted] >= best[wanted - 1] - 1e-5).mean() >= 0.99


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 1500, ROWS + 5])
def test_search_matches_numpy(collection, oracle, count):
    queries = make_queries(oracle)
    found, expected = collection.search(queries, count), oracle.search(queries, count)
    check(found, expected)
    known = np.searchsorted(oracle.ids, np.maximum(found.ids, 1))
    scores = np.vecdot(oracle.data[np.minimum(known, ROWS - 1)], queries[:, None, :])
    np.testing.assert_allclose(found.scores[found.ids >= 0], scores[found.ids >= 0], atol=1e-5)


def test_short_results_are_prefixes_of_long_ones(collection, oracle):
    queries = make_queries(oracle)
    condition = Compare(FieldName("width"), ">=", 0)
    for passing in (None, condition):
        long = collection.search(queries, MIN_CANDIDATES, condition=passing)
        for count in (1, 7, EQUAL // 2, 100, 500):
            short = collection.search(queries, count, condition=passing)
            np.testing.assert_array_equal(short.ids, long.ids[:, :count])
            np.testing.assert_array_equal(short.scores, long.scores[:, :count])


def test_equal_vectors_are_found_in_the_order_of_their_ids(collection, oracle):
    found = collection.search(make_queries(oracle)[-1:], EQUAL // 2)
    equal_ids = oracle.ids[_is_equal(oracle)]
    assert found.ids[0].tolist() == equal_ids[: EQUAL // 2].tolist()
    assert len(np.unique(found.scores)) == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.95, 1.0])
def test_only_given_ids_are_found_and_excluded_ones_are_not(collection, oracle, share):
    queries = make_queries(oracle)
    drawn = np.sort(np.random.default_rng(3).permutation(oracle.ids)[: int(share * ROWS)])
    with_others = np.concatenate([drawn, np.arange(10**9, 10**9 + 9)])
    for count in (5, 1200):
        check(
            collection.search(queries, count, only=with_others),
            oracle.search(queries, count, only=drawn),
        )
        check(
            collection.search(queries, count, excluded=with_others),
            oracle.search(queries, count, excluded=drawn),
        )
    condition = Not(IsMissing("tags"))
    check(
        collection.search(queries, 50, condition=condition, excluded=with_others),
        oracle.search(queries, 50, condition=condition, excluded=drawn),
    )


def _leaves(name, kind):
    values = {
        "number": st.sampled_from((0, 1, -2.5, 3, 4000, 7, True)),
        "text": st.sampled_from((*HOSTILE, "m")),
        "texts": st.sampled_from((*HOSTILE, "m")),
    }[kind]
    one_of = st.builds(OneOf, st.just(name), st.lists(values, max_size=3).map(tuple))
    leaves = [one_of, st.just(IsMissing(name))]
    if kind != "texts":
        symbols = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
        leaves.append(st.builds(Compare, st.just(FieldName(name)), symbols, values))
    if kind == "text" or name in ("people", "place"):
        leaves.append(st.builds(Contains, st.just(name), values))
    return st.one_of(leaves)


conditions = st.recursive(
    st.one_of([_leaves(name, kind) for name, kind in SEARCH_FIELDS.items()]),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(conditions)
def test_conditions_pass_the_same_rows(collection, oracle, condition):
    queries = make_queries(oracle, 2)
    if collection.evaluates(condition):
        found = collection.search(queries, 300, condition=condition)
        check(found, oracle.search(queries, 300, condition=condition))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_values_and_nothing_else(collection, oracle, text):
    queries = make_queries(oracle, 1)
    for condition in (
        Compare(FieldName("label"), "==", text),
        OneOf("camera", (text,)),
        OneOf("tags", (text,)),
        Not(OneOf("people", (text,))),
    ):
        assert collection.evaluates(condition)
        found = collection.search(queries, ROWS, condition=condition).ids
        expected = oracle.search(queries, ROWS, condition=condition).ids
        assert set(found[0].tolist()) == set(expected[0].tolist())


def test_scores_and_vectors_are_those_of_the_rows(collection, oracle):
    queries = make_queries(oracle)
    ids = np.random.default_rng(5).permutation(oracle.ids)[:1100]
    ids = np.concatenate([ids[:500], [10**9], ids[500:], ids[:3]])
    np.testing.assert_array_equal(collection.vectors(ids), oracle.vectors(ids))
    scores = collection.scores(queries, ids)
    np.testing.assert_allclose(scores, oracle.scores(queries, ids), atol=1e-5)
    assert np.isneginf(scores[:, 500]).all()
    found = collection.search(queries, 50)
    for row, query in enumerate(queries):
        again = collection.scores(query[None, :], found.ids[row])
        np.testing.assert_allclose(again[0], found.scores[row], atol=1e-6)
    none = np.empty(0, np.int64)
    assert collection.scores(queries, none).shape == (len(queries), 0)
    assert collection.vectors(none).shape == (0, DIM)


def test_sample_is_spread_and_always_the_same(collection, oracle):
    for count in (1, 100, ROWS, 3 * ROWS):
        ids = collection.sample_ids(count)
        assert len(ids) <= count
        assert len(ids) >= min(count, ROWS) // 2
        assert np.isin(ids, oracle.ids).all()
        assert (np.diff(ids) > 0).all()
        np.testing.assert_array_equal(ids, collection.sample_ids(count))
    below, above = np.histogram(collection.sample_ids(200), 2, (0, 5 * ROWS))[0]
    assert min(below, above) > 50


def test_digests_of_all_rows_are_kept(collection, oracle):
    found = {}
    for ids, digests in collection.field_digests():
        found.update(zip(ids.tolist(), digests.tolist(), strict=True))
    assert found == dict(zip(oracle.ids.tolist(), oracle.digests.tolist(), strict=True))


def test_collections_are_replaced_listed_and_dropped(server):
    server.create("small", DIM, make_blocks(30))
    again = server.create("small", DIM, make_blocks(20))
    assert (again.rows, again.count()) == (20, 20)
    assert "small" in server.names()
    server.publish("small")
    other = server.create("other", DIM, make_blocks(10, block_rows=3))
    server.publish("other")
    server.publish("other")
    server.drop("small")
    server.drop("small")
    assert "small" not in server.names()
    assert other.count() == 10
    server.drop("other")
    with pytest.raises(ServerError):
        server.open("other", DIM, 10)
    assert server.check() is not None


def test_build_that_fails_leaves_nothing(server):
    def blocks():
        yield next(make_blocks(20))
        raise MMSearchError("The blocks end here.")

    with pytest.raises(MMSearchError, match="The blocks end here"):
        server.create("broken", DIM, blocks())
    assert "broken" not in server.names()
