"""An index whose vectors are on a search server answers as one with files, whatever has changed."""

import shutil
import time
from unittest.mock import patch

import numpy as np
import pytest

import mmsearch
from mmsearch.core.errors import ServerError, UnreachableError
from mmsearch.core.filters import Filters
from mmsearch.core.query import SearchRequest
from mmsearch.factories import catalogs, search_servers
from mmsearch.indexing import collections
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores import _served
from tests.integration.test_facets import PICTURES, write_picture
from tests.memory_server import MemoryServer, served_by

FILTERS = (
    Filters(),
    Filters(tags=("sea",)),
    Filters(people=("anna",)),
    Filters(after="2019-07-02", before="2020-06"),
    Filters(places=("Lissabon",)),
    Filters(places=("port",), where="rating > 3"),
    Filters(where="not ('snow' in tags)"),
    Filters(cameras=("mark",)),
    Filters(paths=("/2019/",)),
    Filters(where="width > 2*height"),
)


@pytest.fixture(autouse=True)
def small_collections():
    """Let a search of few pictures take the ways of one of many."""
    with patch.object(_served, "MAX_EXACT_IDS", 0), patch.object(_served, "PREFIX_K", 1):
        yield


class Pair:
    """Two indexes of one folder: one searches in files, the other on a server."""

    def __init__(self, folder, sources):
        self.folder, self.sources = folder / "pictures", sources
        self.server = MemoryServer()
        self.files = mmsearch.open_index("files", home=folder / "home")
        self.served = mmsearch.open_index("served", home=folder / "home")
        self.layout = IndexLayout(folder / "home" / "served")

    def write(self, number, name=None, **changes):
        fields = ("place", "taken", "camera", "city", "country", "people", "tags", "rating")
        facts = dict(zip(fields, PICTURES[number % len(PICTURES)], strict=True)) | changes
        place = facts.pop("place")
        path = self.folder / place / (name or f"{number}.jpg")
        write_picture(self.sources[number], path, *facts.values())
        return path

    def run(self, work=lambda index: None):
        for index in (self.files, self.served):
            index.add_folder(self.folder)
            work(index)

    def built(self):
        with catalogs.open_read(self.layout) as catalog, catalog.snapshot() as snapshot:
            return snapshot.built

    def changed(self):
        with catalogs.open_read(self.layout) as catalog, catalog.snapshot() as snapshot:
            ids = snapshot.changed_fields
            return None if ids is None else np.setdiff1d(ids, snapshot.deleted_ids).tolist()

    def check(self):
        """Compare the answers of both for all filters."""
        for filters in FILTERS:
            for mode in ("vector", "hybrid"):
                answers = []
                for index in (self.files, self.served):
                    query = mmsearch.parse_query("a boat on the sea", filters=filters, mode=mode)
                    answers.append(index.query(SearchRequest(query, 20)))
                one, other = answers
                assert [hit.path for hit in one.hits] == [hit.path for hit in other.hits]
                np.testing.assert_allclose(
                    [hit.score for hit in one.hits], [hit.score for hit in other.hits], atol=1e-3
                )
                assert (one.passed, one.pictures) == (other.passed, other.pictures)
                assert not other.notices or "incomplete" not in {n.code for n in other.notices}

    def compare_on(self, plugin_name):
        """Compare the answers of a real server, which the index names, after several changes."""
        for number in range(len(PICTURES)):
            self.write(number)
        with patch.object(_served, "MAX_EXACT_IDS", 0), patch.object(_served, "PREFIX_K", 1):
            self.run()
            assert (self.built().plugin_name, self.changed()) == (plugin_name, [])
            self.check()
            self.write(0, tags=("hill",), people=("Zoe",))
            (self.folder / PICTURES[1][0] / "1.jpg").unlink()
            self.write(6, tags=("sea",))
            self.run()
            assert len(self.changed()) == 1
            self.check()
            self.run(lambda index: index.optimize())
            assert self.changed() == []
            self.check()
        assert self.served.check().verdict.value == "sound"
        self.files.close()
        self.served.close()

    def conditions(self):
        """Return the number of searches that were filtered by the server."""
        return sum(
            condition is not None
            for collection in self.server.collections.values()
            for _, condition, _, _ in collection.searches
        )


@pytest.fixture
def pair(photos, tmp_path):
    pair = Pair(tmp_path, sorted((photos / "photos").glob("*.jpg")))
    for number in range(len(PICTURES)):
        pair.write(number)
    with served_by(pair.server, pair.layout):
        pair.run()
        yield pair
        pair.files.close()
        pair.served.close()


def test_server_answers_as_files_after_any_change(pair):
    assert pair.built().plugin_name == "milvus"
    assert pair.changed() == []
    pair.check()
    assert pair.conditions() > 5
    first = pair.built().settings["collection"]

    # Other keywords and people, another date: the server has the former ones.
    pair.write(0, tags=("hill",), people=("Zoe",), rating=1)
    pair.write(4, tags=("sea", "snow"), taken="2019:07:03")
    pair.run()
    assert pair.built().settings["collection"] == first
    pair.check()

    # A removed picture, a new one, a copy in another folder.
    (pair.folder / PICTURES[1][0] / "1.jpg").unlink()
    pair.write(6, tags=("sea",))
    shutil.copy(pair.folder / PICTURES[2][0] / "2.jpg", pair.folder / "copy.jpg")
    pair.run()
    pair.check()

    pair.run(lambda index: index.optimize())
    pair.check()
    pair.run(lambda index: index.reindex(fusion="weighted"))
    assert pair.built().settings["collection"] != first
    assert pair.changed() == []
    pair.check()

    # The removed picture comes back with other keywords.
    pair.write(1, tags=("sea",), people=())
    pair.run()
    pair.check()


def test_writes_read_nothing_of_the_collection(pair):
    before = pair.conditions()
    (collection,) = pair.server.collections.values()
    with patch.object(type(collection), "field_digests", side_effect=AssertionError):
        pair.write(0, tags=("hill",))
        pair.write(len(PICTURES))
        pair.run()
    assert len(pair.changed()) == 1
    pair.check()
    assert pair.conditions() > before


def test_check_finds_fields_that_changed_unnoticed(pair):
    assert pair.served.check().verdict.value == "sound"
    (collection,) = pair.server.collections.values()
    collection.digests[0] += 1
    report = pair.served.check()
    assert "former facts of 1 pictures" in str(report)
    assert pair.served.repair().mended
    assert pair.served.check().verdict.value == "sound"
    pair.check()


def test_many_changes_build_the_collection_anew(pair):
    first = pair.built().settings["collection"]
    pair.write(0, tags=("hill",))
    pair.run()
    with patch("mmsearch.indexing.build.MAX_WAITING_ROWS", 0):
        pair.run()
    assert pair.built().settings["collection"] != first
    assert pair.changed() == []
    pair.check()


def test_unused_collections_are_dropped_after_a_grace_time(pair):
    first = pair.built().settings["collection"]
    pair.server.create("foreign", 4, iter(()))
    with patch.object(collections, "GRACE_S", 3600):
        pair.run(lambda index: index.reindex(fusion="weighted"))
    second = pair.built().settings["collection"]
    # A time in the future would end the grace time at once.
    assert pair.built().settings["built_at_s"] <= time.time()
    assert set(pair.server.names()) == {first, second, "foreign"}
    assert pair.server.published == second
    with patch.object(collections, "GRACE_S", 0):
        pair.run()
    assert set(pair.server.names()) == {second, "foreign"}


def test_collection_of_an_interrupted_build_is_dropped_and_the_build_repeated(pair):
    first = pair.built().settings["collection"]
    with (
        patch.object(collections, "write_pointer", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        pair.served.reindex(fusion="weighted")
    assert pair.built().settings["collection"] == first
    assert len(pair.server.names()) == 2
    pair.check()
    pair.run(lambda index: index.reindex(fusion="weighted"))
    with patch.object(collections, "GRACE_S", 0):
        pair.run()
    assert pair.server.names() == [pair.built().settings["collection"]]
    pair.check()


def test_answer_of_an_incomplete_server_says_so(pair):
    collection = pair.server.collections[pair.built().settings["collection"]]
    collection.lost_rows = 2
    result = pair.served.search("a boat")
    assert "incomplete" in {notice.code for notice in result.notices}


def test_index_moves_to_a_server_and_back_to_files(pair):
    pair.layout.places.unlink()
    pair.run()
    assert pair.built().plugin_name == "faiss_flat"
    pair.check()
    with served_by(pair.server, pair.layout):
        pair.run()
        assert pair.built().plugin_name == "milvus"
        pair.check()


def test_run_finishes_while_the_server_is_away(pair):
    def fail(layout, plugin_name):
        raise UnreachableError("The search server does not answer.")

    pair.write(0, tags=("hill",))
    with patch.object(search_servers, "open_search_server", fail):
        pair.run()
    assert len(pair.changed()) == 1
    pair.check()


def test_search_without_its_collection_says_so(pair):
    pair.server.collections.clear()
    with pytest.raises(ServerError, match="no collection"):
        pair.served.search("a boat")
