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
        ({"query": "a", "like": ["none:1"]}, 400, "Write the name of its index before it, such as"),
        ({"query": "a", "like": ["a:0"]}, 400, "An id of a picture does not say which of"),
        ({"query": "a", "like": ["a:9999"]}, 404, "no picture 9999"),
        ({"query": "a", "unlike": ["a:x"], "indexes": ["a"]}, 400, "An id of a picture does not"),
        ({"query": "a", "indexes": "a"}, 422, "indexes must be a list"),
        ({"query": "a", "index": ["a"]}, 422, "index is unknown (did you mean 'indexes'?)"),
        ({"query": "a", "indexes": ["../a"]}, 404, "There is no index '../a' here."),
    ],
)
def test_wrong_requests_are_refused(server, body, status, detail):
    answer = server.post(AT, json=body)
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_hits_are_feedback_over_http(home, server):
    with library.open_indexes(["a", "b"], home=home) as indexes:
        first = indexes.search("a castle", k=4)
        right, wrong = first[2], first[0]
        hits = indexes.search("a castle", k=9, like=right, unlike=[wrong])
        counted = indexes.facets("a castle", like=right, unlike=[wrong]).to_dict()
    expected = [(hit.index, hit.id, hit.score) for hit in hits]
    clicks = {"like": [f"{right.index}:{right.id}"], "unlike": [f"{wrong.index}:{wrong.id}"]}
    body = {"query": "a castle", "indexes": ["a", "b"], "limit": 9, **clicks}
    answer = server.post(AT, json=body).json()
    assert places(answer["hits"]) == expected
    assert answer["query"].startswith(f"picture {right.index}:{right.id} + a castle")
    params = {"q": "a castle", "indexes": ["a", "b"], "limit": 9, **clicks}
    assert server.get(AT, params=params).json()["hits"] == answer["hits"]
    del body["limit"]
    assert server.post("/v1/facets", json=body).json() == counted
    alone = {"query": "a castle", "indexes": ["b"], "unlike": ["b:2"]}
    own = server.post("/v1/indexes/b/search", json={"query": "a castle", "unlike": [2]}).json()
    assert server.post(AT, json=alone).json()["hits"] == own["hits"]
    assert server.post(AT, json=alone | {"unlike": [2]}).json()["hits"] == own["hits"]


def test_uploaded_picture_finds_those_of_all_indexes(home, server, photos):
    picture = sorted((photos / "photos").glob("*.jpg"))[11]
    with library.open_indexes(["a", "b"], home=home) as indexes:
        liked = indexes.search("a dog", k=1)[0]
        hits = indexes.similar(picture, k=9)
    expected = [(hit.index, hit.id) for hit in hits]
    assert expected[0][0] == "a"

    def send(**fields):
        fields = {"indexes": ["a", "b"], "limit": "9", **fields}
        content = picture.read_bytes()
        return server.post(f"{AT}/picture", data=fields, files={"picture": content}).json()

    answer = send()
    assert answer["query"] == "(picture)"
    # An upload is decoded at another size: its copy is the first, and the others are about as near.
    assert (answer["hits"][0]["index"], answer["hits"][0]["id"]) == expected[0]
    assert {(hit["index"], hit["id"]) for hit in answer["hits"][:3]} <= set(expected)
    page = send(cursor=send(limit="4")["next_cursor"], limit="5")
    assert page["hits"] == answer["hits"][4:]
    both = send(query="snow", like=[f"{liked.index}:{liked.id}"])
    assert both["query"] == f"(picture) + picture {liked.index}:{liked.id} + snow"
    assert "does not say which of the indexes" in send(like=["1"])["detail"]
    assert send(indexes=["a", "none"])["detail"].startswith("There is no index 'none' here.")


def test_counts_and_suggestions_of_several_indexes(home, server):
    with library.open_indexes(["a", "b", "c"], home=home) as indexes:
        facets = indexes.facets(fields=["format", "kind"], filters={"min_width": 100}).to_dict()
        suggested = [each.to_dict() for each in indexes.suggest("a ho")]
    body = {"fields": ["format", "kind"], "filters": {"min_width": 100}}
    assert server.post("/v1/facets", json=body).json() == facets
    assert facets["counted"] == 26
    params = {"fields": "format,kind", "min_width": 100, "indexes": ["a", "b", "c"]}
    assert server.get("/v1/facets", params=params).json() == facets
    answer = server.get("/v1/suggest", params={"q": "a ho", "indexes": ["a", "b", "c"]}).json()
    assert answer["suggestions"] == suggested
    for path in ("/v1/facets", "/v1/suggest"):
        assert server.get(path, params={"indexes": "none"}).status_code == 404


def test_one_index_answers_as_its_own_route(server):
    body = {"query": "a castle", "limit": 5}
    alone = server.post(AT, json=body | {"indexes": ["b"]}).json()["hits"]
    assert alone == server.post("/v1/indexes/b/search", json=body).json()["hits"]


def test_other_sets_of_indexes_replace_the_ones_that_are_open(server):
    for names in (["a", "b"], ["b", "c"], ["a", "c"], ["c", "b", "a"], ["a", "b"]):
        answer = server.post(AT, json={"query": "a castle", "indexes": names, "limit": 50})
        assert {hit["index"] for hit in answer.json()["hits"]} == set(names)


def compare_with_library(client, home, photos):
    """Compare the other requests to several indexes with the library."""
    names = ["a", "b"]
    with library.open_indexes(names, home=home) as indexes:
        hits = indexes.search("a castle", k=9)
        pair = (hits[3].index, hits[3].id)
        found = [each.to_dict() for each in indexes.suggest("a ho", 5)]
        counted = indexes.facets("a castle", like=hits[3]).to_dict()
        near = [(hit.index, hit.id) for hit in indexes.similar(hits[3], k=5)]
        clicked = [
            (hit.index, hit.id) for hit in indexes.search("a castle", like=hits[3], unlike=hits[0])
        ]
    assert [each.to_dict() for each in client.suggest("a ho", 5, indexes=names)] == found
    served = client.search("a castle", k=9, indexes=names)
    for picture in (served[3], pair, f"{pair[0]}:{pair[1]}"):
        assert client.facets("a castle", like=picture, indexes=names).to_dict() == counted
        similar = client.similar(picture, k=5, indexes=names)
        assert [(hit.index, hit.id) for hit in similar] == near
        again = client.search("a castle", like=[picture], unlike=served[0], indexes=names)
        assert [(hit.index, hit.id) for hit in again] == clicked
    file = min((photos / "photos").glob("*.jpg"))
    assert client.similar(file, k=1, indexes=names)[0].path.name == file.name


def test_clients_search_several_indexes(home, server, photos, socket_enabled):
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
            compare_with_library(client, home, photos)
        assert found(asyncio.run(search_async(url))) == expected
