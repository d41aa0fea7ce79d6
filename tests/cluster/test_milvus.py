"""A Milvus cluster of which a query node is killed, and a server that refuses or is gone."""

import os
import signal
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from mmsearch.core import deadlines
from mmsearch.core.errors import DeadlineError, ServerError, UnauthorizedError, UnreachableError
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields
from mmsearch.core.vector_servers import VectorBlock
from mmsearch.core.vectors import as_unit_vectors
from tests.cluster import services

pytestmark = services.MARKS
milvus = pytest.importorskip("mmsearch.vector_stores.milvus")

ROWS, DIM = 4000, 32
FIELDS = {name: () if kind == "texts" else None for name, kind in SEARCH_FIELDS.items()}


def make_vectors(seed=0):
    rows = np.random.default_rng(seed).standard_normal((ROWS, DIM))
    return as_unit_vectors(rows).astype(np.float16).astype(np.float32)


def make_blocks(vectors):
    for start in range(0, len(vectors), 500):
        ids = np.arange(start, min(start + 500, len(vectors))) + 1
        items = [ItemFields(item_id, FIELDS) for item_id in ids.tolist()]
        yield VectorBlock(ids, vectors[ids - 1], items, np.ones(len(ids), np.int64))


def ask(collection, vectors, rows):
    """Return True if the nearest picture of each of some vectors is that one."""
    found = collection.search(vectors[rows], 10)
    return bool((found.ids[:, 0] == rows + 1).all())


class Client(threading.Thread):
    """Asks again and again, and counts what it gets.

    Attributes:
        good: Number of right answers.
        partial: Number of wrong answers that are said to be incomplete.
        wrong: Number of wrong answers that look complete.
        errors: The errors, each of which is one of ours.
        problems: Other exceptions.
    """

    def __init__(self, collection, vectors):
        super().__init__(daemon=True)
        self.collection, self.vectors = collection, vectors
        self.good = self.partial = self.wrong = 0
        self.errors, self.problems = [], []
        self.ended = threading.Event()

    def run(self):
        rows = np.arange(0, ROWS, ROWS // 20)
        while not self.ended.is_set():
            try:
                with deadlines.deadline(time.monotonic() + 30):
                    is_partial = self.collection.count() < ROWS
                    is_good = ask(self.collection, self.vectors, rows)
                    # Rows may come back meanwhile, so both counts matter.
                    is_partial |= self.collection.count() < ROWS
                self.good += is_good
                self.wrong += not is_good and not is_partial
                self.partial += not is_good and is_partial
            except (ServerError, DeadlineError) as error:
                self.errors.append(error)
            except BaseException as error:
                self.problems.append(error)
                raise
            time.sleep(0.1)

    def __str__(self):
        errors = [str(error.__cause__ or error) for error in self.errors]
        return f"{self.good} good, {self.partial} partial, {self.wrong} wrong, errors {errors}"

    def wait(self, is_done, timeout_s):
        deadline = time.monotonic() + timeout_s
        while not is_done():
            assert time.monotonic() < deadline, str(self)
            assert self.is_alive()
            time.sleep(0.1)


def wait_for_query_nodes(url):
    """Wait until the cluster knows both: collections would be loaded on one of them."""
    server = milvus.build(f"{url}/none", "none")
    deadline = time.monotonic() + 30
    while True:
        group = server._connection.call("describe_resource_group", "__default_resource_group")
        if group.num_available_node == 2:
            break
        assert time.monotonic() < deadline, group
        time.sleep(0.2)
    server.close()


@pytest.fixture
def start(tmp_path):
    """Start a service until the end of the test: all of Milvus use the same ports."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(services.service(name, tmp_path / name))


def test_killed_query_node_is_noticed_or_replaced(start, monkeypatch, record_property):
    cluster = start("milvus_cluster")
    vectors = make_vectors()
    # Each node has a part, so that a node that is lost leaves the other part.
    monkeypatch.setattr(milvus, "_NUM_SHARDS", 2)
    wait_for_query_nodes(cluster["MILVUS_URL"])
    clients = {}
    for replicas in ("1", "2"):
        monkeypatch.setenv("MMSEARCH_MILVUS_REPLICAS", replicas)
        server = milvus.build(f"{cluster['MILVUS_URL']}/replicas_{replicas}", "photos")
        collection = server.create("build_1", DIM, make_blocks(vectors))
        assert ask(collection, vectors, np.arange(ROWS))
        clients[replicas] = Client(server.open("build_1", DIM, ROWS), vectors)
    for client in clients.values():
        client.start()
    one, two = clients["1"], clients["2"]
    one.wait(lambda: one.good > 5 and two.good > 5, 20)
    # One that has a part of the collection with one copy.
    (replica,) = server._connection.call("describe_replica", "replicas_1__build_1")
    node = replica.shards[0].shard_leader
    os.kill(int(cluster[f"NODE_{node}"]), signal.SIGKILL)
    # First errors, then answers without the rows of the node that is gone, then all again.
    one.wait(lambda: one.errors or one.partial or one.wrong, 30)
    before = one.good
    one.wait(lambda: one.good >= before + 20, 90)
    for client in clients.values():
        client.ended.set()
        client.join(40)
        assert not client.problems
    record_property("one replica", [one.good, one.partial, len(one.errors)])
    record_property("two replicas", [two.good, two.partial, len(two.errors)])
    assert one.wrong == 0
    # A request that is on its way to the node may fail, and says so.
    assert (two.wrong, two.partial, len(two.errors) > 2) == (0, 0, False), str(two)
    assert two.good > 30


def test_alias_names_a_whole_collection_while_builds_change(start):
    url = start("milvus")["MILVUS_URL"]
    server = milvus.build(f"{url}/photos", "photos")
    vectors = make_vectors()
    server.create("build_1", DIM, make_blocks(vectors))
    server.publish("build_1")
    # Another program, which knows only the alias.
    other = milvus.MilvusCollection(server._connection, "photos", DIM, ROWS, "FLAT")
    client = Client(other, vectors)
    client.start()
    for number in (1, 2):
        server.create(f"build_{number + 1}", DIM, make_blocks(vectors))
        server.publish(f"build_{number + 1}")
        time.sleep(0.5)
        server.drop(f"build_{number}")
    client.wait(lambda: client.good > 20, 20)
    client.ended.set()
    client.join(20)
    assert (client.wrong, client.partial, client.errors, client.problems) == (0, 0, [], [])
    assert server.names() == ["build_3"]

    # A collection that someone drops.
    collection = server.open("build_3", DIM, ROWS)
    server.drop("build_3")
    for call in (
        collection.count,
        lambda: ask(collection, vectors, np.arange(3)),
        lambda: collection.vectors(np.arange(3)),
        lambda: server.open("build_3", DIM, ROWS),
        lambda: server.publish("build_3"),
    ):
        with pytest.raises(ServerError, match="lacks a collection"):
            call()

    with deadlines.deadline(time.monotonic() - 1), pytest.raises(DeadlineError):
        server.names()


def test_server_that_requires_a_token_refuses_others(start, monkeypatch):
    monkeypatch.setenv("MILVUS_AUTHORIZATION", "true")
    url = start("milvus")["MILVUS_URL"]
    for variables, is_allowed in (
        ({}, False),
        ({"MMSEARCH_SEARCH_TOKEN": "root:wrong"}, False),
        ({"MMSEARCH_SEARCH_TOKEN": "root:Milvus"}, True),
        ({"MMSEARCH_SEARCH_PASSWORD": "Milvus"}, True),
        ({"MMSEARCH_SEARCH_PASSWORD": "wrong"}, False),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            server = milvus.build(url.replace("//", "//root@") + "/photos", "photos")
            if is_allowed:
                assert server.names() == []
                continue
            with pytest.raises(UnauthorizedError) as caught:
                server.check()
            assert "wrong" not in str(caught.value)
            assert "MMSEARCH_SEARCH_TOKEN" in str(caught.value)


def test_unreachable_server_is_an_error_within_seconds():
    server = milvus.build("milvus+http://127.0.0.1:9/photos", "photos")
    started_s = time.monotonic()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 does not answer"):
        server.check()
    assert time.monotonic() - started_s < 8
