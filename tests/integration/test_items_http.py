"""Pictures that clients of a server keep by ids of their own."""

import asyncio
import base64
import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from PIL import Image
from starlette.testclient import TestClient

import mmsearch
from mmsearch.core.errors import GoneError, UnknownNameError, UsageError
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock
from tests.fake_web import (
    PRIVATE_HOST,
    PUBLIC_HOST,
    FakeResolver,
    address_policy,
    run_web_server,
)
from tests.http_client import http_client, open_server_state
from tests.property_budget import examples

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
def state(home, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with open_server_state(home, ServerConfig(max_upload_mb=1, max_bulk_mb=20)) as state:
            yield state


@pytest.fixture(scope="module")
def app(state):
    with TestClient(
        wrap_with_middleware(make_app(state)),
        base_url="http://127.0.0.1:7788",
        raise_server_exceptions=False,
    ) as client:
        yield client


@pytest.fixture
def server(app):
    """The server, without any picture at the start of a test."""
    keys = [item["key"] for item in iterate(app)]
    # Contents with several keys are one item.
    while keys:
        assert app.post(f"{AT}/deletions", json={"keys": keys}).status_code == 200
        keys = [item["key"] for item in iterate(app)]
    return app


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
    answer = server.post(f"{AT}/search", json={"query": query, "limit": 100, "fold": False, **body})
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


def test_lines_are_added_in_order_and_reported(server, pictures):
    lines = [to_line(f"bulk/{n}", pictures[n], metadata={"n": n}) for n in range(6)]
    wrong = [
        "{no json\n",
        to_line("bulk/bad", b"no picture"),
        json.dumps({"key": "bulk/none"}) + "\n",
        json.dumps({"key": "bulk/at", "data": "@"}) + "\n",
        json.dumps({"key": "bulk/url", "url": "http://127.0.0.1/a.jpg"}) + "\n",
        to_line("x" * 1001, pictures[0]),
        "\n",
        to_line("bulk/0", pictures[0], metadata={"n": 100}),
    ]
    answer = post_lines(server, [*lines, *wrong])
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["added"], report["updated"], report["unchanged"]) == (6, 1, 0)
    assert [(f["record"], f["key"]) for f in report["failed"]] == [
        (7, None),
        (8, "bulk/bad"),
        (9, "bulk/none"),
        (10, "bulk/at"),
        (11, "bulk/url"),
        (12, "x" * 1001),
    ]
    reasons = [failure["reason"] for failure in report["failed"]]
    for reason, part in zip(
        reasons,
        [
            "not JSON",
            "cannot be read",
            "either data or a url",
            "not base64",
            "does not fetch",
            "id",
        ],
        strict=True,
    ):
        assert part in reason
    again = post_lines(server, lines[1:]).json()
    assert again == {"added": 0, "updated": 0, "unchanged": 5, "failed": []}
    assert server.get(at("bulk/0")).json()["metadata"] == {"n": 100}
    assert len(search(server, filters={"where": "metadata.n >= 0"})) == 6
    keys = [f"bulk/{n}" for n in range(6)]
    patched = server.patch(
        ITEMS, json={"items": [{"key": key, "metadata": {"n": 7}} for key in keys]}
    )
    assert patched.json() == {"updated": 6}
    unknown = [{"key": "bulk/0", "texts": "a"}, {"key": "none", "texts": "a"}]
    assert server.patch(ITEMS, json={"items": unknown}).status_code == 404
    assert server.patch(ITEMS, json={"items": [{"key": "bulk/0"}]}).status_code == 400
    assert server.get(at("bulk/0")).json()["texts"] == []
    deleted = server.post(f"{AT}/deletions", json={"keys": [*keys, "none", "none"]}).json()
    assert deleted == {"deleted": 6, "missing": ["none"]}
    metrics = server.get("/metrics").text
    assert 'mmsearch_records_total{index="default",outcome="added"}' in metrics


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"metadata.n": {"lt": 2}}, {0, 1}),
        ({"metadata": {"n": [1, 3]}}, {1, 3}),
        ({"metadata": {"n": {"gte": 1, "lt": 3}}}, {1, 2}),
        ({"metadata": {"shop": "Rome"}, "where": "metadata.n > 1"}, {2, 3}),
        ({"metadata": {"none": 1}}, set()),
    ],
)
def test_filters_on_metadata_are_exact(server, pictures, filters, numbers):
    post_lines(
        server,
        [to_line(f"f/{n}", pictures[n], metadata={"n": n, "shop": "Rome"}) for n in range(4)],
    )
    assert {hit["metadata"]["n"] for hit in search(server, filters=filters)} == numbers


@pytest.mark.parametrize(
    ("filters", "status", "detail"),
    [
        ({"metadata.n": {"near": 2}}, 400, "near"),
        ({"metadata": [1]}, 422, "metadata must be an object"),
        ({"metadata.n": 1, "metadata": 5}, 422, "metadata"),
    ],
)
def test_wrong_filters_on_metadata_get_problem_document(server, filters, status, detail):
    answer = server.post(f"{AT}/search", json={"query": "a", "filters": filters})
    assert (answer.status_code, detail in answer.json()["detail"]) == (status, True), answer.text


def test_form_of_records_and_pictures_is_added(server, pictures):
    records = [
        {"key": "form/0", "texts": "a zebrafish"},
        {"key": "form/1", "data": base64.b64encode(pictures[1]).decode()},
        {"metadata": {"n": 2}},
        {"key": "form/3"},
    ]
    files = [
        ("records", (None, json.dumps(records))),
        ("picture", pictures[0]),
        ("picture", pictures[2]),
    ]
    report = server.post(ITEMS, files=files).json()
    assert (report["added"], [f["record"] for f in report["failed"]]) == (3, [4])
    digest = hashlib.sha256(pictures[2]).hexdigest()
    assert server.get(at(digest)).json()["metadata"] == {"n": 2}
    assert search(server, "zebrafish", mode="text")[0]["key"] == "form/0"
    keys = ["form/0", "form/1", digest]
    assert server.post(f"{AT}/deletions", json={"keys": keys}).json()["deleted"] == 3


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        ({"content": b"a"}, 415, "application/x-ndjson or multipart/form-data"),
        ({"json": {}}, 415, "application/x-ndjson"),
        ({"files": {"picture": b"a"}}, 400, "must have a field 'records'"),
        ({"files": {"records": (None, "{}")}}, 422, "must be a list"),
        ({"files": {"records": (None, "[]"), "picture": b"a"}}, 400, "It has 'picture' too"),
        (
            {
                "content": b"x" * 1_500_000,
                "headers": {"Content-Type": "application/x-ndjson"},
            },
            413,
            "A line is larger than",
        ),
        (
            {
                "content": b"{}\n" * 7_000_000,
                "headers": {"Content-Type": "application/x-ndjson"},
            },
            413,
            "larger than 20 MB",
        ),
        (
            {"content": b"{}\n" * 101_000, "headers": {"Content-Type": "application/x-ndjson"}},
            413,
            "more than 100,000 records",
        ),
    ],
)
def test_bulk_invalid_body_gets_problem_document(server, sent, status, detail):
    answer = server.post(ITEMS, **sent)
    assert (answer.status_code, answer.json()["status"]) == (status, status), answer.text
    assert detail in answer.json()["detail"]


def test_pages_of_items_joined_are_all_pictures(server, pictures):
    post_lines(server, [to_line(f"page/{n}", pictures[n]) for n in range(7)])
    items, cursor = [], None
    while True:
        params = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = server.get(ITEMS, params=params).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [item["key"] for item in items] == [f"page/{n}" for n in range(7)]
    assert [item["id"] for item in items] == sorted({item["id"] for item in items})
    assert server.get(ITEMS, params={"cursor": "x"}).status_code == 400
    server.post(f"{AT}/deletions", json={"keys": [item["key"] for item in items]})


@pytest.mark.enable_socket
def test_pictures_at_urls_are_added_from_allowed_addresses_only(
    tmp_path, pictures, environment, monkeypatch
):
    with run_web_server() as web:
        web.answers["/a.jpg"], web.answers["/words.jpg"] = pictures[0], b"no picture"
        policy = address_policy(web, names=FakeResolver(photos_example=[[PUBLIC_HOST]]))
        config = ServerConfig(allow_url_queries=True)
        with http_client(tmp_path, config, address_policy=policy) as server:
            url = web.url("/a.jpg", "photos.example")
            made = server.put(at("web"), json={"url": url, "metadata": {"n": 1}})
            assert (made.status_code, made.json()["key"]) == (201, "web")
            assert put(server, "web", pictures[0], metadata={"n": 1}).json() == made.json()
            private = web.url("/a.jpg", PRIVATE_HOST)
            for wrong in (private, "file:///etc/passwd", web.url("/none", "photos.example")):
                answer = server.put(at("other"), json={"url": wrong})
                assert (answer.status_code, answer.json()["kind"]) == (400, "SourceError"), wrong
            lines = [
                json.dumps({"key": f"web/{n}", "url": link}) + "\n"
                for n, link in enumerate(
                    [url, private, web.url("/words.jpg", "photos.example"), url, "file:///a"]
                )
            ]
            report = post_lines(server, lines).json()
            assert report["added"] == 2
            assert [failure["key"] for failure in report["failed"]] == ["web/1", "web/2", "web/4"]


@pytest.fixture
def client(server, state):
    with serve_in_thread(state, 0) as url, mmsearch.Client(url) as client:
        yield client


@pytest.mark.enable_socket
def test_client_keeps_pictures_by_ids(client, pictures, photos, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures[1])
    images = [
        pictures[0],
        path,
        str(path),
        io.BytesIO(pictures[2]),
        Image.new("RGB", (64, 48), (200, 10, 10)),
        np.zeros((40, 50, 3), np.uint8),
        tmp_path / "none.jpg",
        b"no picture",
        "http://127.0.0.1/a.jpg",
    ]
    ids = ["c/0", "c/1", "c/2", "..", ".", "c 5", "c/6", "c/7", "c/8"]
    report = client.add(
        images,
        ids,
        texts=(f"number {n}" for n in range(9)),
        metadata=[{"n": n} for n in range(9)],
    )
    assert (report.added, report.updated, report.unchanged) == (6, 0, 0)
    assert [(f.record, f.key) for f in report.failed] == [(7, "c/6"), (8, "c/7"), (9, "c/8")]
    assert len(client) == 5  # the same content twice
    assert "c/0" in client
    assert "c/7" not in client
    assert client.get("..").metadata == {"n": 3}
    assert client.get(".").texts[0].text == "number 4"
    assert {item.id for item in client} == {client.get(key).id for key in ids[:6]}
    (hit,) = client.search("a picture", filters={"metadata.n": {"gte": 5}})
    assert (hit.key, hit.metadata) == ("c 5", {"n": 5})
    first, second = client.search_many(["number 4", "number 0"], k=1, mode="text")
    assert (first[0].key, second[0].key) == (".", "c/0")
    client.update("c/0", texts={"title": "A zebrafish"})
    client.update(["c/1", "c 5"], metadata=[{"n": 10}, None])
    assert client.get("c/0").metadata == {"n": 0}
    assert client.get("c/0").texts[0].kind == "title"
    assert client.get("c 5").metadata == {}
    with pytest.raises(UnknownNameError):
        client.update(["c/1", "none"], metadata=[{"n": 11}, {"n": 11}])
    assert client.get("c/1").metadata == {"n": 10}
    again = client.add([pictures[0], pictures[3]], ["c/0", "c/1"], texts=["a", "b"])
    assert (again.added, again.updated) == (0, 2)
    with pytest.raises(GoneError):
        client.original(client.get("c/0"))
    assert client.thumbnail(client.get("c/0")).startswith(b"RIFF")
    assert client.delete(["c/0", "none"]) == 1
    assert client.delete(ids) == 5
    assert list(client) == []
    assert bool(client)


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.add(b"a", ["a"]), "images must be a list"),
        (lambda c: c.add([b"a", b"b"], ["a"]), "fewer ids"),
        (lambda c: c.add([b"a"], ["a", "b"]), "fewer images"),
        (lambda c: c.add([b"a"], [5]), "An id must be a string, got 5"),
        (lambda c: c.add([5]), "image must be"),
        (lambda c: c.add([b"a"], ["a"], metadata=[{"n": float("nan")}]), "JSON does not have"),
        (lambda c: c.add([io.StringIO("a")]), "open as text"),
        (lambda c: c.update(["a"]), "nothing to change"),
        (lambda c: c.update(["a", "b"], texts=["a"]), "1 texts for 2 ids"),
        (lambda c: c.delete(5), "ids must be a list"),
        (lambda c: c.get(5), "key must be"),
        (lambda c: c.get("x" * 1001), "1 to 1,000 bytes"),
        (lambda c: c.get("a\ud800"), "UTF-8"),
        (lambda c: c.search_many("a dog"), "must be a list of queries"),
        (lambda c: c.search_many(["a dog"], k=201), "cannot return 201 hits"),
        (lambda c: c.search_many([""]), "empty"),
    ],
)
def test_client_wrong_input_raises_usage_error(client, call, message):
    with pytest.raises(UsageError, match=message):
        call(client)


def test_async_client_keeps_pictures_by_ids(server, pictures):
    async def main():
        transport = httpx.ASGITransport(server.app)
        async with mmsearch.AsyncClient("http://127.0.0.1:7788", transport=transport) as client:
            ids = [f"async/{n}" for n in range(4)]
            reports = await asyncio.gather(
                *(client.add([pictures[n]], [ids[n]], metadata=[{"n": n}]) for n in range(4))
            )
            assert [report.added for report in reports] == [1] * 4
            await client.update("async/1", metadata={"n": 50})
            assert {item.key async for item in client} == set(ids)
            assert (await client.get("async/1")).metadata == {"n": 50}
            (hits,) = await client.search_many(["a picture"], filters={"metadata.n": {"lt": 3}})
            assert {hit.key for hit in hits} == {"async/0", "async/2"}
            assert await client.delete(ids) == 4
            assert await client.get("async/1") is None

    asyncio.run(main())


def test_many_clients_write_at_once_while_eight_threads_search(server, pictures):
    """Each write is found by its client at once, and none fails because of another."""
    stop = threading.Event()

    def keep_searching(number):
        while not stop.is_set():
            found = {
                h["metadata"]["n"] for h in search(server, filters={"where": "metadata.n > 0"})
            }
            assert found <= set(range(1, 521))

    contents = [pictures[number % 10] + number.to_bytes(2, "big") for number in range(600)]

    def find(number):
        return [h["key"] for h in search(server, filters={"where": f"metadata.n == {number}"})]

    def write_one(number):
        key = f"many/{number}"
        made = put(server, key, contents[number], metadata={"n": number})
        assert made.status_code == 201, made.text
        assert find(number) == [key]
        if number % 4 == 0:
            answer = server.patch(at(key), json={"metadata": {"n": -number}})
            assert answer.status_code == 200
            assert find(number) == []
        if number % 8 == 0:
            assert server.delete(at(key)).status_code == 204
            assert server.get(at(key)).status_code == 404

    def write_many(first):
        numbers = range(first, first + 110)
        lines = [to_line(f"many/{n}", contents[n], metadata={"n": n}) for n in numbers]
        report = post_lines(server, lines).json()
        assert report == {"added": 110, "updated": 0, "unchanged": 0, "failed": []}
        assert find(first + 109) == [f"many/{first + 109}"]

    with ThreadPoolExecutor(16) as pool:
        searches = [pool.submit(keep_searching, number) for number in range(8)]
        bulks = [pool.submit(write_many, first) for first in range(81, 521, 110)]
        ones = [pool.submit(write_one, number) for number in range(1, 81)]
        try:
            for done in (*ones, *bulks):
                done.result()
        finally:
            stop.set()
        for done in searches:
            done.result()
    expected = {f"many/{n}" for n in range(1, 521) if n > 80 or n % 8}
    assert {item["key"] for item in iterate(server)} == expected
    report = server.post(f"{AT}/deletions", json={"keys": sorted(expected)}).json()
    assert report == {"deleted": 510, "missing": []}


def test_writers_of_one_key_leave_the_whole_record_of_one_of_them(server, pictures):
    def write(number):
        record = {"texts": f"text {number}", "metadata": {"n": number}}
        return put(server, "one", pictures[number], **record)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(write, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    for number, answer in enumerate(answers):
        assert answer.json()["metadata"] == {"n": number}
    (item,) = iterate(server)
    number = item["metadata"]["n"]
    assert (item["key"], item["size_bytes"]) == ("one", len(pictures[number]))
    assert [text["text"] for text in item["texts"]] == [f"text {number}"]
    assert [hit["id"] for hit in search(server)] == [item["id"]]


def iterate(server):
    cursor = None
    while True:
        params = {"limit": 200} | ({} if cursor is None else {"cursor": cursor})
        page = server.get(ITEMS, params=params).json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


KEYS = ["a", "b/c", "ü d"]
VALUES = st.none() | st.integers(0, 3)


class ItemMachine(RuleBasedStateMachine):
    """PUT, PATCH and DELETE do what assignments to a dict do, and answer with its statuses."""

    server = pictures = None

    def __init__(self):
        super().__init__()
        self.expected = {}
        self.server.post(f"{AT}/deletions", json={"keys": KEYS})

    @rule(key=st.sampled_from(KEYS), number=st.integers(0, 2), value=VALUES)
    def put(self, key, number, value):
        members = {} if value is None else {"metadata": {"v": value}, "texts": f"text {value}"}
        answer = put(self.server, key, self.pictures[KEYS.index(key) * 3 + number], **members)
        assert answer.status_code == (200 if key in self.expected else 201)
        self.expected[key] = (value, value, number)

    @rule(key=st.sampled_from(KEYS), value=VALUES)
    def patch_metadata(self, key, value):
        sent = {"metadata": None if value is None else {"v": value}}
        answer = self.server.patch(at(key), json=sent)
        assert answer.status_code == (200 if key in self.expected else 404)
        if key in self.expected:
            self.expected[key] = (value, *self.expected[key][1:])

    @rule(key=st.sampled_from(KEYS), value=VALUES)
    def patch_texts(self, key, value):
        sent = {"texts": None if value is None else [f"text {value}"]}
        answer = self.server.patch(at(key), json=sent)
        assert answer.status_code == (200 if key in self.expected else 404)
        if key in self.expected:
            was = self.expected[key]
            self.expected[key] = (was[0], value, was[2])

    @rule(key=st.sampled_from(KEYS))
    def put_unreadable(self, key):
        assert put(self.server, key, b"nothing").status_code == 422

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key):
        answer = self.server.delete(at(key))
        assert answer.status_code == (204 if self.expected.pop(key, None) else 404)

    @invariant()
    def items_are_as_expected(self):
        found = {}
        for item in iterate(self.server):
            (text,) = [t["text"] for t in item["texts"]] or [None]
            value = item["metadata"].get("v")
            found[item["key"]] = (
                value,
                None if text is None else int(text[5:]),
                item["size_bytes"],
            )
        assert found == {
            key: (value, text, len(self.pictures[KEYS.index(key) * 3 + number]))
            for key, (value, text, number) in self.expected.items()
        }
        hits = search(self.server, filters={"where": "metadata.v == 1"})
        assert {h["key"] for h in hits} == {k for k, v in self.expected.items() if v[0] == 1}


def test_random_writes_match_a_dict(server, pictures):
    ItemMachine.server, ItemMachine.pictures = server, pictures
    run_state_machine_as_test(
        ItemMachine,
        settings=settings(
            max_examples=examples(8),
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
