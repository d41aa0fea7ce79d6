"""Search servers with more rows than they compare with a query, beside plain numpy.

A server that runs is a service of tests, so those cases run by scripts/test --cluster.
"""

import threading

import numpy as np
import pytest
from hypothesis import given, settings

from mmsearch.core import deadlines
from mmsearch.core.errors import DeadlineError, ServerError
from mmsearch.core.filter_tree import FilterTree
from mmsearch.core.plugins import load
from mmsearch.core.query import Compare, Contains, FieldName, Not, OneOf
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields, make_server_condition
from mmsearch.core.vector_servers import MAX_EXACT_IDS, MIN_CANDIDATES, VectorBlock
from mmsearch.core.vectors import as_unit_vectors
from tests.cluster.conftest import start_service  # noqa: F401 - a fixture
from tests.cluster.services import MARKS
from tests.memory_server import MemoryServer, passes
from tests.property_budget import examples
from tests.unit.catalog.test_filters import conditions

SERVERS = (
    "memory",
    pytest.param("pgvector", marks=MARKS),
    pytest.param("milvus", marks=MARKS),
)
SCORE_ERROR = 2e-3
"""Maximum error of a score: a server may keep vectors in float16."""

DIM = 32
LARGE = MAX_EXACT_IDS + 2_000
POOLS = {
    "format": ("jpeg", "png", None),
    "kind": ("image", "video"),
    "orientation": ("landscape", "portrait", None),
    "taken_at": ("2019-12-31t23:59:59", "2020-01-01t00:00:00", None),
    "taken_from": ("exif", None),
    "camera": ("nikon d700", "éclair 16", "%", "a'b\"c\\d{}$1", None),
    "lens": ("ef 50mm", None),
    "label": ("red", "grün", ""),
    "damage": ("cut", None),
    "rating": (-1, 0, 3, 5, None),
    "month": (1, 12, None),
    "width": (1, 480, 640, 641, 4000),
    "height": (1, 480, 640),
    "megapixels": (0.5, 1.0, 12.25),
    "aspect": (0.5, 1.0, None),
    "latitude": (48.86, -89.9, 0.0, None),
    "longitude": (2.35, 179.99, None),
    "size_bytes": (10, 2**40, None),
}
LIST_POOL = (
    *("beach", "strasse", "été", "anna schmidt", "lisbon", "b"),
    *("a'b", '"', "%", "a,b", "{}"),
)


def make_fields(count, seed=0):
    """Return fields of items with the ids 2, 4, ..., of values that filters of tests compare."""
    random = np.random.default_rng(seed)
    columns = {}
    for name, kind in SEARCH_FIELDS.items():
        if kind == "texts":
            chosen = random.random((count, len(LIST_POOL))) < 0.12
            columns[name] = [
                tuple(sorted(text for text, is_in in zip(LIST_POOL, row, strict=True) if is_in))
                for row in chosen.tolist()
            ]
        else:
            pool = POOLS[name]
            columns[name] = [pool[n] for n in random.integers(len(pool), size=count).tolist()]
    rows = zip(*columns.values(), strict=True)
    return [
        ItemFields(2 * n, dict(zip(columns, row, strict=True))) for n, row in enumerate(rows, 1)
    ]


def make_vectors(count, seed=0):
    """Return vectors in clusters, of which each fiftieth equals the one before."""
    random = np.random.default_rng(seed)
    centers = random.standard_normal((60, DIM))
    rows = centers[random.integers(0, 60, count)] + 0.6 * random.standard_normal((count, DIM))
    rows[1::50] = rows[0::50][: len(rows[1::50])]
    # Exact in float16, so that all servers have the same vectors.
    return as_unit_vectors(rows).astype(np.float16).astype(np.float32)


def make_blocks(fields, vectors, size=700):
    for start in range(0, len(fields), size):
        block = fields[start : start + size]
        ids = np.array([item.id for item in block], np.int64)
        digests = np.array([item.digest for item in block], np.int64)
        yield VectorBlock(ids, vectors[start : start + len(block)], block, digests)


SMALL_FIELDS, SMALL_VECTORS = make_fields(300), make_vectors(300)
LARGE_FIELDS, LARGE_VECTORS = make_fields(LARGE, seed=1), make_vectors(LARGE, seed=1)
LARGE_IDS = np.arange(2, 2 * LARGE + 2, 2)
QUERIES = as_unit_vectors(
    LARGE_VECTORS[:6] * 4 + np.random.default_rng(9).standard_normal((6, DIM))
)


@pytest.fixture(scope="module", params=SERVERS)
def server(request):
    if request.param == "memory":
        yield MemoryServer()
        return
    start = request.getfixturevalue("start_service")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "milvus":
            url = f"{start('milvus')['MILVUS_URL']}/large"
            patch.setenv("MMSEARCH_MILVUS_INDEX", "hnsw")
        else:
            state = start("postgres_vector")
            url = state["POSTGRES_URL"]
            patch.setenv("MMSEARCH_SEARCH_PASSWORD", state["POSTGRES_PASSWORD"])
        server = load("vector_stores", request.param).build(url, "photos-1.x")
        yield server
        server.close()


@pytest.fixture(scope="module")
def small(server):
    return server.create("c0_000001_few", DIM, make_blocks(SMALL_FIELDS, SMALL_VECTORS))


@pytest.fixture(scope="module")
def large(server):
    return server.create("c0_000002_many", DIM, make_blocks(LARGE_FIELDS, LARGE_VECTORS))


def exact(queries, mask, k):
    """Return ids and scores of the nearest rows of the large collection among those of a mask."""
    found = []
    for query in queries:
        scores = np.where(mask, LARGE_VECTORS @ query, -np.inf)
        order = np.lexsort((LARGE_IDS, -scores))[: min(k, int(mask.sum()))]
        found.append((LARGE_IDS[order], scores[order]))
    return found


def check_recall(ranking, mask, k, minimum=0.99):
    shares = []
    for row, (ids, scores) in enumerate(exact(QUERIES, mask, k)):
        found = ranking.ids[row, :k]
        assert np.isin(found[found >= 0], LARGE_IDS[mask]).all()
        # Of equal vectors, any may be at the end.
        shares.append(np.isin(ids, found).mean())
        same = np.isin(found, ids)
        expected = dict(zip(ids.tolist(), scores.tolist(), strict=True))
        np.testing.assert_allclose(
            ranking.scores[row, :k][same],
            [expected[number] for number in found[same].tolist()],
            atol=SCORE_ERROR,
        )
    assert np.mean(shares) >= minimum


@pytest.mark.parametrize("k", [1, 10, 100, 1000, 2500])
def test_search_finds_the_nearest_rows(large, k):
    ranking = large.search(QUERIES, k)
    assert ranking.ids.shape == ranking.scores.shape == (len(QUERIES), k)
    assert (ranking.ids >= 0).all()
    check_recall(ranking, np.ones(LARGE, bool), k)


def test_search_orders_equal_scores_by_id(large):
    ranking = large.search(LARGE_VECTORS[:200:50], 500)
    ties = 0
    for ids, scores in zip(ranking.ids, ranking.scores, strict=True):
        assert (np.diff(scores) <= 0).all()
        tied = np.flatnonzero(np.diff(scores) == 0)
        assert (np.diff(ids)[tied] > 0).all()
        ties += len(tied)
    assert ties > 4


LARGE_CONDITIONS = [
    (Compare(FieldName("width"), "<", 600), lambda values: values["width"] < 600),
    (OneOf("tags", ("beach",)), lambda values: "beach" in values["tags"]),
    (Contains("people", "anna"), lambda values: any("anna" in v for v in values["people"])),
    (Not(Compare(FieldName("camera"), "==", "%")), lambda values: values["camera"] != "%"),
]


@pytest.mark.parametrize("number", [None, *range(4)])
def test_short_result_is_prefix_of_long_result(large, number):
    condition = None if number is None else LARGE_CONDITIONS[number][0]
    if condition is not None and not large.evaluates(condition):
        pytest.skip("the catalog evaluates it")
    for k in (1, 10, 100, 400):
        # A server may merge its segments at any time, and the new graph misses other rows.
        for _ in range(3):
            long = large.search(QUERIES, MIN_CANDIDATES, condition=condition)
            short = large.search(QUERIES, k, condition=condition)
            if np.array_equal(short.ids, long.ids[:, :k]):
                break
        np.testing.assert_array_equal(short.ids, long.ids[:, :k])
        np.testing.assert_array_equal(short.scores, long.scores[:, :k])


@pytest.mark.parametrize("k", [10, 1000])
@pytest.mark.parametrize(("condition", "is_hit"), LARGE_CONDITIONS)
def test_search_by_condition_finds_the_nearest_rows_that_pass(large, condition, is_hit, k):
    mask = np.array([is_hit(item.values) for item in LARGE_FIELDS])
    assert mask.any()
    if not large.evaluates(condition):
        pytest.skip("the catalog evaluates it")
    check_recall(large.search(QUERIES, k, condition=condition), mask, k)


@settings(max_examples=examples(300), deadline=None)
@given(conditions)
def test_condition_passes_the_rows_that_the_catalog_passes(small, condition):
    condition = make_server_condition(FilterTree((condition,)))
    if condition is None or not small.evaluates(condition):
        return
    ranking = small.search(SMALL_VECTORS[:1], 400, condition=condition)
    expected = [item.id for item in SMALL_FIELDS if passes(item.values, condition)]
    assert sorted(ranking.ids[0][ranking.ids[0] >= 0].tolist()) == expected


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.9])
def test_search_among_ids_finds_the_nearest_of_them(large, share):
    mask = np.random.default_rng(3).random(LARGE) < share
    # An id that the collection lacks does no harm.
    only = np.union1d(LARGE_IDS[mask], [1, 10**9])
    ranking = large.search(QUERIES, 500, only=only)
    check_recall(ranking, mask, 500, minimum=0.99 if mask.sum() > MAX_EXACT_IDS else 1.0)
    found = (ranking.ids >= 0).sum(axis=1)
    assert (found == min(500, mask.sum())).all()
    assert (ranking.scores[ranking.ids < 0] == -np.inf).all()


def test_search_without_ids_finds_nothing(large, small):
    for collection in (large, small):
        assert (collection.search(QUERIES, 5, only=np.empty(0, np.int64)).ids == -1).all()


@pytest.mark.parametrize("condition", [None, LARGE_CONDITIONS[0][0]])
def test_search_excludes_ids(large, condition):
    nearest = large.search(QUERIES, 800, condition=condition)
    excluded = np.unique(nearest.ids)
    mask = ~np.isin(LARGE_IDS, excluded)
    if condition is not None:
        mask &= np.array([passes(item.values, condition) for item in LARGE_FIELDS])
    check_recall(large.search(QUERIES, 100, condition=condition, excluded=excluded), mask, 100)


def test_small_collection_returns_all_rows(small):
    ranking = small.search(QUERIES, 1000)
    assert ((ranking.ids >= 0).sum(axis=1) == 300).all()
    assert small.count() == small.rows == 300


def test_scores_are_those_of_search(large):
    ranking = large.search(QUERIES, 50)
    ids = np.concatenate([ranking.ids[0][::-1], [1]])
    scores = large.scores(QUERIES, ids)
    assert scores.shape == (len(QUERIES), 51)
    np.testing.assert_allclose(scores[0, :50], ranking.scores[0][::-1], atol=1e-6)
    assert (scores[:, 50] == -np.inf).all()
    assert large.scores(QUERIES, np.empty(0, np.int64)).shape == (len(QUERIES), 0)


def test_vectors_are_in_the_order_of_their_ids(small):
    vectors = small.vectors(np.array([600, 2, 3, 40]))
    np.testing.assert_allclose(vectors[[0, 1, 3]], SMALL_VECTORS[[299, 0, 19]], atol=1e-6)
    assert np.isnan(vectors[2]).all()


def test_sample_ids_are_spread_over_the_collection(large, small):
    sample = large.sample_ids(500)
    assert 250 <= len(sample) <= 500
    assert (np.diff(sample) > 0).all()
    assert np.isin(sample, LARGE_IDS).all()
    assert sample[0] < LARGE // 5
    assert sample[-1] > 2 * LARGE - LARGE // 5
    np.testing.assert_array_equal(sample, large.sample_ids(500))
    np.testing.assert_array_equal(small.sample_ids(500), [item.id for item in SMALL_FIELDS])


def test_field_digests_are_those_that_were_written(large):
    blocks = list(large.field_digests())
    found = dict(
        zip(
            np.concatenate([ids for ids, _ in blocks]).tolist(),
            np.concatenate([digests for _, digests in blocks]).tolist(),
            strict=True,
        )
    )
    assert found == {item.id: item.digest for item in LARGE_FIELDS}


def test_collections_are_listed_opened_replaced_and_dropped(server, small):
    name = "c0_000003_other"
    server.create(name, DIM, make_blocks(SMALL_FIELDS[:5], SMALL_VECTORS))
    assert server.create(name, DIM, make_blocks(SMALL_FIELDS[:9], SMALL_VECTORS)).rows == 9
    assert name in server.names()
    server.publish(name)
    reopened = server.open(name, DIM, 9)
    assert (reopened.rows, reopened.dim, reopened.count()) == (9, DIM, 9)
    server.publish("c0_000001_few")
    server.drop(name)
    server.drop(name)
    assert name not in server.names()
    assert small.count() == 300
    with pytest.raises(ServerError):
        server.open(name, DIM, 9)


def test_collection_of_other_dimensions_is_published_next(server):
    for dim in (8, 12):
        name = f"c0_000009_{dim}"
        server.create(name, dim, make_blocks(SMALL_FIELDS[:3], as_unit_vectors(np.eye(3, dim))))
        server.publish(name)
        server.drop(name)


def test_error_of_blocks_is_raised_and_leaves_nothing(server):
    def blocks():
        yield from make_blocks(SMALL_FIELDS, SMALL_VECTORS)
        raise KeyError("block")

    with pytest.raises(KeyError, match="block"):
        server.create("c0_000004_broken", DIM, blocks())
    assert "c0_000004_broken" not in server.names()


def test_empty_collection_finds_nothing(server):
    collection = server.create("c0_000005_empty", DIM, iter(()))
    assert collection.rows == collection.count() == 0
    assert (collection.search(QUERIES, 3).ids == -1).all()
    assert len(collection.sample_ids(10)) == 0
    server.drop("c0_000005_empty")


def test_threads_search_at_the_same_time(large):
    expected = large.search(QUERIES, 20)
    results = []

    def search():
        results.append(large.search(QUERIES, 20))

    threads = [threading.Thread(target=search) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    for result in results:
        np.testing.assert_array_equal(result.ids, expected.ids)


def test_search_after_the_deadline_is_refused(request, server, large):
    if isinstance(server, MemoryServer):
        pytest.skip("a server in memory has no deadline")
    with deadlines.deadline(0.0), pytest.raises(DeadlineError):
        large.search(QUERIES, 5)
    assert large.search(QUERIES, 5).ids.shape == (len(QUERIES), 5)


def test_check_warns_of_a_version_with_known_faults(server):
    assert all(line.endswith(".") for line in server.check())
