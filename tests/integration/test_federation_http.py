"""Searches in several indexes over HTTP: the same hits as from the library, with pages."""

import asyncio
import shutil

import pytest

import mmsearch as library
from mmsearch.core.errors import InvalidQueryError, UnknownIndexError
from mmsearch.server.app import serve_in_thread
from tests.http_client import http_client, open_server_state

AT = "/v1/search"


@pytest.fixture(scope="module")
def home(photos, environment, tmp_path_factory):
    folder, home = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("home")
    sources = sorted((photos / "photos").glob("*.jpg"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", environment["MMSEARCH_CACHE"])
        for name, chosen in (("a", sources[:12]), ("b", sources[10:24]), ("c", sources[30:32])):
            (folder / name).mkdir()
            for source in chosen:
                shutil.copy(source, folder / name)
            with library.open_index(name, home=home, model="starter") as index:
                index.add_folder(folder / name)
    return home


@pytest.fixture(scope="module")
def server(home, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with http_client(home, names=("a", "b", "c")) as client:
            yield client


def places(hits):
    return [(hit["index"], hit["id"], hit["score"]) for hit in hits]


def test_search_over_http_has_the_hits_of_the_library(home, server):
    with library.open_indexes(["b", "a"], home=home) as indexes:
        hits = indexes.search("a castle", k=9)
    expected = [(hit.index, hit.id, hit.score) for hit in hits]
    body = {"query": "a castle", "indexes": ["b", "a"], "limit": 9}
    answer = server.post(AT, json=body).json()
    assert places(answer["hits"]) == expected
    params = {"q": "a castle", "indexes": ["b", "a"], "limit": 9}
    assert server.get(AT, params=params).json()["hits"] == answer["hits"]
    with library.open_indexes(["a", "b", "c"], home=home) as indexes:
        every = indexes.search("a castle", k=3)
    found = server.get(AT, params={"q": "a castle", "limit": 3}).json()["hits"]
    assert places(found) == [(hit.index, hit.id, hit.score) for hit in every]


def test_links_of_hits_lead_to_their_index(server):
    for hit in server.post(AT, json={"query": "a castle", "limit": 20}).json()["hits"]:
        assert hit["links"]["self"] == f"/v1/indexes/{hit['index']}/pictures/{hit['id']}"
        assert server.get(hit["links"]["self"]).json()["path"] == hit["path"]
        assert server.get(hit["links"]["thumbnail"]).status_code == 200


def test_pages_of_several_indexes_join(server):
    body = {"query": "a castle", "indexes": ["a", "b"]}
    whole = server.post(AT, json=body | {"limit": 100}).json()["hits"]
    pages, cursor = [], None
    while True:
        page = server.post(AT, json=body | {"limit": 5, "cursor": cursor}).json()
        pages += page["hits"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert pages == whole
    assert len({(hit["index"], hit["id"]) for hit in whole}) == len(whole)
    cursor = server.post(AT, json=body | {"limit": 5}).json()["next_cursor"]
    for other in ({"indexes": ["b", "a"]}, {"query": "a dog"}):
        assert server.post(AT, json=body | other | {"cursor": cursor}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"query": "a", "indexes": ["a", "none"]}, 404, "There is no index 'none' here."),
        ({"query": "a", "indexes": ["a", "a"]}, 400, "Index 'a' is named twice."),
        ({"query": "a", "like": [1]}, 400, "An id of a picture does not say which of the indexes"),
        ({"query": "a", "indexes": "a"}, 422, "indexes must be a list"),
        ({"query": "a", "index": ["a"]}, 422, "index is unknown (did you mean 'indexes'?)"),
        ({"query": "a", "indexes": ["../a"]}, 404, "There is no index '../a' here."),
    ],
)
def test_wrong_requests_are_refused(server, body, status, detail):
    answer = server.post(AT, json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_one_index_answers_as_its_own_route(server):
    body = {"query": "a castle", "limit": 5}
    alone = server.post(AT, json=body | {"indexes": ["b"]}).json()["hits"]
    assert alone == server.post("/v1/indexes/b/search", json=body).json()["hits"]


def test_other_sets_of_indexes_replace_the_ones_that_are_open(server):
    for names in (["a", "b"], ["b", "c"], ["a", "c"], ["c", "b", "a"], ["a", "b"]):
        answer = server.post(AT, json={"query": "a castle", "indexes": names, "limit": 50})
        assert {hit["index"] for hit in answer.json()["hits"]} == set(names)


def test_clients_search_several_indexes(home, server, socket_enabled):
    with library.open_indexes(["a", "b"], home=home) as indexes:
        expected = [(hit.index, hit.id, hit.path) for hit in indexes.search("a castle", k=9)]

    def found(hits):
        return [(hit.index, hit.id, hit.path) for hit in hits]

    async def search_async(url):
        async with library.AsyncClient(url, index="a") as client:
            return await client.search("a castle", k=9, indexes=["a", "b"])

    with open_server_state(home, names=("a", "b")) as state, serve_in_thread(state, 0) as url:
        with library.Client(url, index="a") as client:
            assert found(client.search("a castle", k=9, indexes=["a", "b"])) == expected
            assert all(hit.index is None for hit in client.search("a castle", k=9))
            with pytest.raises(UnknownIndexError):
                client.search("a castle", indexes=["a", "none"])
            with pytest.raises(InvalidQueryError, match="does not say which"):
                client.search("a castle", like=[1], indexes=["a", "b"])
        assert found(asyncio.run(search_async(url))) == expected
