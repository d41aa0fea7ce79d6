"""Tests of HTTP semantics: every path follows RFC 9110.

They cover HEAD, methods, conditional requests, ranges and errors.
"""

import asyncio
import json
import threading

import pytest
from starlette.applications import Starlette
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from mmsearch.server.app import make_app, wrap_with_middleware
from mmsearch.server.assets import accepts_gzip
from mmsearch.server.config import ServerConfig
from mmsearch.server.http_semantics import HttpSemanticsMiddleware, ProblemDetailsMiddleware
from mmsearch.server.routes.page import STATIC_ASSETS
from mmsearch.server.state import get_worker

CHANGED = "Sat, 01 Aug 2020 10:00:00 GMT"
EARLIER = "Sat, 01 Aug 2020 09:59:59 GMT"
LATER = "Sat, 01 Aug 2020 10:00:01 GMT"
CONTENT = bytes(range(100))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Client of a small application behind both middlewares, with a list of its requests."""
    file = tmp_path_factory.mktemp("semantics") / "file"
    file.write_bytes(CONTENT)
    seen = []

    def route(answer):
        async def endpoint(request):
            seen.append((request.method, request.headers.get("range")))
            return answer()

        return endpoint

    def tagged():
        return PlainTextResponse("abc", headers={"ETag": '"a"', "Vary": "X"})

    def dated():
        return PlainTextResponse("abc", headers={"Last-Modified": CHANGED})

    async def forever():
        while True:
            yield b"more"

    app = Starlette(
        routes=[
            Route("/tagged", route(tagged)),
            Route("/weak", route(lambda: PlainTextResponse("abc", headers={"ETag": 'W/"a"'}))),
            Route(
                "/dated",
                route(lambda: PlainTextResponse("abc", headers={"Last-Modified": CHANGED})),
            ),
            Route("/file", route(lambda: FileResponse(file))),
            Route("/endless", route(lambda: StreamingResponse(forever()))),
            Route("/page", route(lambda: HTMLResponse("<p>", 404))),
            Route("/wrong", route(lambda: PlainTextResponse("no", 418, {"X-Kept": "1"}))),
        ]
    )
    client = TestClient(ProblemDetailsMiddleware(HttpSemanticsMiddleware(app)))
    client.seen = seen
    return client


@pytest.mark.parametrize("path", ["/tagged", "/file", "/endless", "/wrong", "/nothing"])
def test_head_returns_status_and_headers_of_get_without_body(small, path):
    head = small.head(path)
    assert head.content == b""
    if path != "/endless":
        get = small.get(path)
        assert (head.status_code, head.headers) == (get.status_code, get.headers)
        assert get.content


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/tagged", {"If-None-Match": '"a"'}, 304),
        ("/tagged", {"If-None-Match": 'W/"a"'}, 304),
        ("/tagged", {"If-None-Match": '"b", "a"'}, 304),
        ("/tagged", {"If-None-Match": "*"}, 304),
        ("/tagged", {"If-None-Match": '"b"'}, 200),
        ("/tagged", {"If-None-Match": '"ba"'}, 200),
        ("/tagged", {"If-None-Match": "a"}, 200),
        ("/tagged", {"If-Match": '"a"'}, 200),
        ("/tagged", {"If-Match": "*"}, 200),
        ("/tagged", {"If-Match": 'W/"a"'}, 412),
        ("/tagged", {"If-Match": '"b"'}, 412),
        ("/tagged", {"If-Match": '"b"', "If-None-Match": '"a"'}, 412),
        ("/weak", {"If-None-Match": '"a"'}, 304),
        ("/weak", {"If-Match": 'W/"a"'}, 412),
        ("/dated", {"If-Modified-Since": CHANGED}, 304),
        ("/dated", {"If-Modified-Since": LATER}, 304),
        ("/dated", {"If-Modified-Since": EARLIER}, 200),
        ("/dated", {"If-Modified-Since": "yesterday"}, 200),
        ("/dated", {"If-Modified-Since": CHANGED, "If-None-Match": '"a"'}, 200),
        ("/dated", {"If-Unmodified-Since": EARLIER}, 412),
        ("/dated", {"If-Unmodified-Since": CHANGED}, 200),
        ("/dated", {"If-Unmodified-Since": "99"}, 200),
        ("/dated", {"If-Match": "*", "If-Unmodified-Since": EARLIER}, 200),
        ("/nothing", {"If-None-Match": "*"}, 404),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditional_request_returns_304_412_or_normal_status(small, method, path, headers, status):
    answer = small.request(method, path, headers=headers)
    assert answer.status_code == status
    if status == 304:
        assert answer.content == b""
        assert "content-type" not in answer.headers
        assert "content-length" not in answer.headers
        if path == "/tagged":
            assert (answer.headers["etag"], answer.headers["vary"]) == ('"a"', "X")
    elif status == 412 and method == "GET":
        assert answer.json()["status"] == 412


def test_conditional_request_with_range_evaluates_condition_first(small):
    tag = small.get("/file").headers["etag"]
    wanted = {"If-None-Match": tag, "Range": "bytes=0-1"}
    assert small.get("/file", headers=wanted).status_code == 304
    assert small.get("/file", headers={**wanted, "If-None-Match": '"x"'}).status_code == 206


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=10-19", 206, CONTENT[10:20]),
        ("Bytes=-5", 206, CONTENT[-5:]),
        ("bytes=" + "9" * 5000 + "-", 416, None),
        ("bytes=0-" + "9" * 5000, 206, CONTENT),
        ("bytes=100-", 416, None),
        ("bytes=-0", 416, None),
        *(
            (wanted, 200, CONTENT)
            for wanted in (
                "bytes=20-10",
                "bytes=a",
                "bytes=0-1,5-6",
                "lines=1-2",
                "bytes=",
                "x",
                "",
            )
        ),
    ],
)
def test_file_range_request_returns_206_416_or_whole_content(small, wanted, status, content):
    answer = small.get("/file", headers={"Range": wanted})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == "bytes */100"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("The content ends before the requested range")
    else:
        assert answer.content == content
        assert small.head("/file", headers={"Range": wanted}).status_code == 200


def test_file_request_with_two_range_headers_returns_whole_content(small):
    twice = [("Range", "bytes=0-1"), ("Range", "bytes=0-1")]
    assert small.get("/file", headers=twice).content == CONTENT


def test_plain_text_error_becomes_problem_document_and_html_error_stays(small):
    wrong = small.get("/wrong")
    assert (wrong.status_code, wrong.headers["x-kept"]) == (418, "1")
    assert wrong.headers["content-type"] == "application/problem+json"
    assert wrong.json()["status"] == 418
    assert int(wrong.headers["content-length"]) == len(wrong.content)
    assert small.post("/tagged").json()["status"] == 405
    assert small.get("/page").text == "<p>"


# --- the real application; these tests need no index ---


class NoService:
    config = ServerConfig(allowed_origins=("https://photos.example",))
    draining = threading.Event()

    class metrics:  # noqa: N801
        observe_request = staticmethod(lambda *of: None)


@pytest.fixture(scope="module")
def app():
    return TestClient(wrap_with_middleware(make_app(NoService())), base_url="http://127.0.0.1:7788")


PATHS = {
    "/": "GET, HEAD",
    "/session": "POST",
    "/static/app.js": "GET, HEAD",
    "/openapi.json": "GET, HEAD",
    "/docs": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/readyz": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/suggest": "GET, HEAD",
    "/v1/indexes": "GET, HEAD",
    "/v1/indexes/a/suggest": "GET, HEAD",
    "/v1/indexes/a": "GET, HEAD",
    "/v1/search": "GET, HEAD, POST",
    "/v1/search/picture": "POST",
    "/v1/search/speech": "POST",
    "/v1/facets": "GET, HEAD, POST",
    "/v1/suggest": "GET, HEAD",
    "/v1/indexes/a/search": "GET, HEAD, POST",
    "/v1/indexes/a/search/batch": "POST",
    "/v1/indexes/a/facets": "GET, HEAD, POST",
    "/v1/indexes/a/duplicates": "GET, HEAD",
    "/v1/indexes/a/search/picture": "POST",
    "/v1/indexes/a/search/speech": "POST",
    "/v1/indexes/a/embeddings/texts": "POST",
    "/v1/indexes/a/embeddings/picture": "POST",
    "/v1/indexes/a/items": "GET, HEAD, POST, PATCH",
    "/v1/indexes/a/deletions": "POST",
    "/v1/indexes/a/items/1": "GET, HEAD, PUT, PATCH, DELETE",
    "/v1/indexes/a/pictures/1": "GET, HEAD",
    "/v1/indexes/a/pictures/1/original": "GET, HEAD",
    "/v1/indexes/a/pictures/1/thumbnail": "GET, HEAD",
    "/v1/indexes/a/sources": "GET, HEAD",
    "/v1/indexes/a/jobs": "GET, HEAD, POST",
    "/v1/indexes/a/jobs/1": "GET, HEAD, DELETE",
    "/v1/indexes/a/jobs/1/events": "GET, HEAD",
}


def test_app_documented_paths_match_path_table(app):
    described = {
        path.format(name="a", image_id=1, job_id=1, key=1)
        for path in make_app(None).openapi()["paths"]
    }
    assert described | {"/", "/session", "/static/app.js", "/openapi.json", "/docs"} == PATHS.keys()


@pytest.mark.parametrize(("path", "methods"), PATHS.items())
def test_path_options_and_405_responses_list_allowed_methods(app, path, methods):
    allowed = f"{methods}, OPTIONS"
    options = app.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, allowed)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - set(methods.split(", ")):
        answer = app.request(method, path, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), method
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == f"{method} is not allowed here. Use {allowed}."


def test_options_asterisk_lists_methods_of_server(app):
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "OPTIONS", "path": "*", "query_string": b"", "root_path": ""}
    asyncio.run(app.app({**scope, "headers": headers}, None, send))
    assert sent[0]["status"] == 204
    allowed = dict(sent[0]["headers"])[b"allow"]
    assert allowed == b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_unknown_path_returns_404_problem_document(app, method):
    answer = app.request(method, "/nothing")
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is nothing at /nothing.")
    assert app.head("/nothing").status_code == 404


def test_cors_preflight_for_disallowed_method_returns_400_problem_document(app):
    asked = {"Origin": "https://photos.example", "Access-Control-Request-Method": "TRACE"}
    answer = app.options("/v1/indexes", headers=asked)
    assert (answer.status_code, answer.json()["status"]) == (400, 400)


@pytest.mark.parametrize(
    ("path", "sent", "expected"),
    [
        ("/v1/indexes/a/search", "text/plain", "application/json"),
        ("/v1/indexes/a/search/batch", "multipart/form-data; boundary=a", "application/json"),
        ("/v1/indexes/a/search/picture", "application/json", "multipart/form-data"),
        ("/v1/indexes/a/search/speech", "audio/webm", "multipart/form-data"),
        ("/v1/indexes/a/embeddings/texts", "image/png", "application/json"),
    ],
)
def test_post_wrong_content_type_returns_415_with_accepted_type(path, sent, expected):
    app_of = make_app(NoService())
    app_of.dependency_overrides[get_worker] = lambda: None
    client = TestClient(wrap_with_middleware(app_of), base_url="http://127.0.0.1:7788")
    answer = client.post(path, content=b"{}", headers={"Content-Type": sent})
    assert (answer.status_code, answer.headers["accept"]) == (415, expected)
    assert answer.json()["detail"] == f"The body is not {expected}. Send it in that format."


@pytest.mark.parametrize("path", [f"/static/{name}" for name in STATIC_ASSETS] + ["/openapi.json"])
def test_static_text_is_gzipped_on_request_with_separate_etag(app, path):
    plain = app.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = app.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    for answer in (plain, packed):
        assert answer.headers["vary"] == "Accept-Encoding, Origin"
        assert answer.headers["content-type"] == plain.headers["content-type"]
    tags = [answer.headers["etag"] for answer in (plain, packed)]
    assert tags[0] != tags[1]
    for accepted, tag, status in [
        ("gzip", tags[1], 304),
        ("gzip", tags[0], 200),
        ("identity", tags[0], 304),
        ("identity", tags[1], 200),
    ]:
        asked = {"Accept-Encoding": accepted, "If-None-Match": tag}
        answer = app.get(path, headers=asked)
        assert answer.status_code == status
        assert "Accept-Encoding" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("*;q=0", False),
        ("", False),
        ("deflate", False),
        ("gzipped", False),
        ("gzip;q=a", False),
        ("gzip;q=1.1.1", False),
        (";;;,,,", False),
    ],
)
def test_accepts_gzip_follows_accept_encoding_names_and_weights(accepted, expected):
    assert accepts_gzip(accepted) is expected


def test_openapi_path_returns_json_of_openapi_3_1(app):
    assert json.loads(app.get("/openapi.json").content)["openapi"].startswith("3.1")
