"""An index whose vectors are on a Milvus server: commands, filters, a lost collection."""

import numpy as np
import pytest

import mmsearch
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.query import Compare, FieldName
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields
from mmsearch.core.vector_servers import VectorBlock
from mmsearch.factories import search_servers
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import KNOWN_SERVERS_VARIABLE
from tests.cluster import services
from tests.cluster.test_pgvector import pictures, run, use_server  # noqa: F401 - a fixture
from tests.integration.test_search_servers import Pair

pytestmark = services.MARKS
milvus = pytest.importorskip("mmsearch.vector_stores.milvus")

NO_FIELDS = {name: () if kind == "texts" else None for name, kind in SEARCH_FIELDS.items()}


@pytest.fixture(scope="module")
def url(start_service):
    return start_service("milvus")["MILVUS_URL"]


@pytest.fixture
def known(url, monkeypatch):
    """Let the environment know the server, and return its URL without a path."""
    monkeypatch.setenv(KNOWN_SERVERS_VARIABLE, url)
    yield url
    search_servers.close_search_servers()


def test_index_on_milvus_answers_as_files_after_any_change(known, photos, tmp_path):
    pair = Pair(tmp_path, sorted((photos / "photos").glob("*.jpg")))
    use_server(pair.layout, f"{known}/compared")
    pair.compare_on("milvus")


def test_commands_index_search_and_repair(known, pictures, tmp_path):  # noqa: F811 - the fixture
    place = f"{known}/commands"
    use_server(IndexLayout(tmp_path / "default"), place)
    done = run(tmp_path, "index", str(pictures))
    assert done.returncode == 0, done.stderr
    for arguments, expected in (
        (("query", "a boat", "--tag", "sea"), ".jpg"),
        (("query", "a boat", "--person", 'x" or id >= 0 or label == "'), ""),
        (("status",), "milvus"),
        (("init", "old", "--search", f"{known}/old"), "before 2.6.10"),
    ):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
        assert "Traceback" not in done.stderr
    # To another place on the server, and from there to files.
    for source, target, search in (
        ("default", "moved", f"{known}/moved"),
        ("moved", "files", None),
    ):
        mmsearch.init_index(target, home=tmp_path, search=search)
        mmsearch.migrate_index(source, target, home=tmp_path)
    hits = []
    for name in ("default", "moved", "files"):
        with mmsearch.open_index(name, home=tmp_path) as index:
            hits.append([hit.path for hit in index.search("a boat")])
    assert hits[0]
    assert hits == [hits[0]] * 3
    # A collection that someone dropped is damage, which a repair mends.
    server = milvus.build(place, "default")
    for name in server.names():
        server.drop(name)
    done = run(tmp_path, "query", "a boat")
    assert done.returncode == 1
    assert "lacks a collection" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(tmp_path, "check").returncode != 0
    assert run(tmp_path, "repair").returncode == 0
    assert ".jpg" in run(tmp_path, "query", "a boat").stdout
    done = run(tmp_path, "query", "a boat", MMSEARCH_MILVUS_INDEX="none")
    assert (done.returncode, "MMSEARCH_MILVUS_INDEX" in done.stderr) == (2, True)
    server.close()


def test_inverted_file_has_the_recall_and_the_prefixes_of_others(known, monkeypatch):
    monkeypatch.setenv("MMSEARCH_MILVUS_INDEX", "ivf_sq8")
    rows, widths = Collection("gap", 6_000), np.random.default_rng(1).integers(0, 100, 6_000)
    items = [ItemFields(n, NO_FIELDS | {"width": int(width)}) for n, width in enumerate(widths)]
    ((ids, vectors),) = rows.blocks()
    server = milvus.build(f"{known}/inverted", "photos")
    digests = np.ones(len(ids), np.int64)
    collection = server.create("c1", DIM, [VectorBlock(ids, vectors, items, digests)])
    assert server.open("c1", DIM, len(ids)).index_type == "IVF_SQ8"
    queries = np.concatenate([rows.text_queries(5), rows.image_queries(5)])
    scores = queries @ vectors.T
    for share in (100, 50, 4):
        passing = widths < share
        condition = None if share == 100 else Compare(FieldName("width"), "<", share)
        found = collection.search(queries, 1000, condition=condition)
        order = np.argsort(np.where(passing, -scores, np.inf), axis=1)
        for k in (10, 100, min(1000, passing.sum())):
            hits = [np.isin(order[q, :k], found.ids[q, :k]).mean() for q in range(len(queries))]
            assert np.mean(hits) >= 0.99, (share, k)
        short = collection.search(queries, 10, condition=condition)
        np.testing.assert_array_equal(short.ids, found.ids[:, :10])
        assert passing[found.ids[found.ids >= 0]].all()
        for q in range(len(queries)):
            known_ids = found.ids[q][found.ids[q] >= 0]
            np.testing.assert_allclose(
                found.scores[q, : len(known_ids)], scores[q, known_ids], atol=2e-3
            )
    server.drop("c1")
    server.close()
