"""Pictures that clients of a server keep by ids of their own."""

import base64
import json
from urllib.parse import quote

import pytest

from mmsearch.server.config import ServerConfig
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock
from tests.http_client import http_client

AT = "/v1/indexes/default"
ITEMS = f"{AT}/items"


@pytest.fixture(scope="module")
def pictures(photos):
    """Contents of photographs, sorted by size."""
    return sorted((p.read_bytes() for p in (photos / "photos").glob("*.jpg")), key=len)[:40]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("items") / "home"


@pytest.fixture(scope="module")
def server(home, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with http_client(home, ServerConfig(max_upload_mb=1, max_bulk_mb=20)) as client:
            yield client


def at(key):
    return f"{ITEMS}/{quote(key, safe='')}"


def put(server, key, content, **record):
    form = {"record": (None, json.dumps(record))} if record else {}
    return server.put(at(key), files={"picture": content, **form})


def to_line(key, content, **members):
    data = base64.b64encode(content).decode()
    return json.dumps({"key": key, "data": data, **members}) + "\n"


def post_lines(server, lines, **options):
    return server.post(
        ITEMS, content="".join(lines), headers={"Content-Type": "application/x-ndjson"}, **options
    )


def search(server, query="a picture", **body):
    answer = server.post(f"{AT}/search", json={"query": query, "limit": 100, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


@pytest.mark.parametrize("key", ["sku-1", "a/b c/ü.jpg", "/", "a//b/", "100%?#&+", "日本"])
def test_item_is_found_changed_and_deleted_by_its_key(server, pictures, key):
    made = put(server, key, pictures[0], texts="a zebrafish", metadata={"price": 5})
    assert (made.status_code, made.json()["key"]) == (201, key)
    assert made.json()["metadata"] == {"price": 5}
    assert server.get(made.headers["location"]).json() == made.json()
    again = put(server, key, pictures[0], texts="a zebrafish", metadata={"price": 5})
    assert (again.status_code, again.json()) == (200, made.json())
    (hit,) = search(server, "zebrafish", filters={"where": "metadata.price == 5"})
    assert (hit["id"], hit["key"]) == (made.json()["id"], key)
    changed = server.patch(at(key), json={"metadata": {"price": 7}})
    assert (changed.status_code, changed.json()["id"]) == (200, made.json()["id"])
    assert changed.json()["texts"] == made.json()["texts"]
    assert search(server, filters={"where": "metadata.price == 5"}) == []
    assert len(search(server, filters={"where": "metadata.price == 7"})) == 1
    cleared = server.patch(at(key), json={"texts": None, "metadata": None}).json()
    assert (cleared["texts"], cleared["metadata"]) == ([], {})
    replaced = put(server, key, pictures[1])
    assert (replaced.status_code, replaced.json()["id"] != made.json()["id"]) == (200, True)
    assert server.get(AT).json()["pictures"] == 1
    assert server.delete(at(key)).status_code == 204
    for answer in (
        server.delete(at(key)),
        server.get(at(key)),
        server.patch(at(key), json={"texts": "a"}),
    ):
        assert (answer.status_code, answer.json()["kind"]) == (404, "UnknownNameError")
    assert server.get(AT).json()["pictures"] == 0


def test_put_json_picture_equals_form(server, pictures):
    data = base64.b64encode(pictures[2]).decode()
    made = server.put(at("json"), json={"data": data, "texts": {"title": "A boat"}})
    assert made.status_code == 201
    again = put(server, "json", pictures[2], texts={"title": "A boat"})
    assert (again.status_code, again.json()) == (200, made.json())
    assert server.delete(at("json")).status_code == 204


def test_put_unreadable_picture_keeps_the_former_one(server, pictures):
    made = put(server, "kept", pictures[3], metadata={"a": 1}).json()
    refused = put(server, "kept", b"no picture")
    assert (refused.status_code, refused.json()["kind"]) == (422, "DecodeError")
    assert server.get(at("kept")).json() == made
    assert server.delete(at("kept")).status_code == 204


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        ({"json": {}}, 400, "needs exactly one picture"),
        ({"json": {"url": "http://a.example/", "data": "AAAA"}}, 400, "needs exactly one picture"),
        ({"json": {"data": "@"}}, 400, "not base64"),
        ({"json": {"url": "http://a.example/a.jpg"}}, 403, "does not fetch pictures"),
        ({"json": {"data": "AAAA", "text": "a"}}, 422, "text is unknown"),
        ({"json": {"data": "AAAA", "texts": 5}}, 422, "texts"),
        ({"json": {"data": "AAAA", "metadata": [1]}}, 422, "metadata must be an object"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "not JSON"),
        (
            {
                "content": rb'{"data": "AAAA", "texts": "\ud800"}',
                "headers": {"Content-Type": "application/json"},
            },
            422,
            "not JSON",
        ),
        ({"content": b"a"}, 415, "application/json or multipart/form-data"),
        ({"files": {"image": b"a"}}, 400, "It has 'image' too"),
        ({"files": {"record": (None, "{}")}}, 400, "The form has no picture"),
        ({"files": {"picture": b"a", "record": (None, "{")}}, 422, "not JSON"),
        ({"files": {"picture": bytes(1_100_000)}}, 413, "larger than 1 MB"),
        (
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}},
            400,
            "The form cannot be read",
        ),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "The form"),
    ],
)
def test_put_invalid_body_gets_problem_document(server, sent, status, detail):
    answer = server.put(at("bad"), **sent)
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert detail in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert server.get(at("bad")).status_code == 404


@pytest.mark.parametrize(
    "path", [f"{ITEMS}/%FF", f"{ITEMS}/", f"{ITEMS}/{'a' * 1001}", f"{ITEMS}/%00"]
)
def test_invalid_key_gets_400(server, pictures, path):
    answer = server.put(path, files={"picture": pictures[0]})
    assert answer.status_code == 400, answer.text


def test_read_only_server_refuses_every_write(home, pictures, server):
    put(server, "there", pictures[0])
    with http_client(home, ServerConfig(allow_indexing=False)) as reader:
        for method, path, sent in (
            ("PUT", at("a"), {"files": {"picture": pictures[0]}}),
            ("PATCH", at("there"), {"json": {"texts": "a"}}),
            ("DELETE", at("there"), {}),
            ("POST", ITEMS, {"content": b"", "headers": {"Content-Type": "application/x-ndjson"}}),
            ("PATCH", ITEMS, {"json": {"items": [{"key": "there", "texts": "a"}]}}),
            ("POST", f"{AT}/deletions", {"json": {"keys": ["there"]}}),
        ):
            answer = reader.request(method, path, **sent)
            assert (answer.status_code, answer.json()["kind"]) == (403, "ForbiddenError"), method
        assert reader.get(at("there")).status_code == 200
    assert server.delete(at("there")).status_code == 204


def test_writes_while_another_process_writes_get_409(server, home, pictures, monkeypatch):
    monkeypatch.setattr("mmsearch.server.writes.LOCK_WAIT_S", 0.01)
    put(server, "locked", pictures[0])
    with writer_lock(IndexLayout(home / "default")):
        answer = put(server, "other", pictures[1])
        assert (answer.status_code, answer.json()["kind"]) == (409, "IndexLockedError")
        assert server.get(at("locked")).status_code == 200
        assert len(search(server)) == 1
    assert put(server, "other", pictures[1]).status_code == 201
    assert server.post(f"{AT}/deletions", json={"keys": ["locked", "other"]}).json() == {
        "deleted": 2,
        "missing": [],
    }
