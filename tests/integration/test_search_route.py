"""The search route gives the same answers with and without FastAPI, for any request."""

import json

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from mmsearch.core.cursors import encode_cursor
from mmsearch.server.app import make_app
from mmsearch.server.config import ServerConfig
from mmsearch.server.route_classes import SearchRoute
from tests.http_client import open_server_state

AT = "/v1/indexes/default/search"
ASKED = [
    {"query": "a windmill"},
    {"query": "a windmill", "limit": 200, "explain": False},
    {"query": "2:boat + sea -people", "mode": "vector", "limit": 3},
    {"query": "windmill", "mode": "text"},
    {"query": "a boat", "filters": {"orientation": "portrait", "min_width": 100}},
    {"query": "a boat", "filters": {}},
    {"like": [3], "not": ["snow"]},
    {"query": "a boat", "prompts": ["a photo of {}", "a drawing of {}"]},
    {"query": "naïve café 🚤", "min_score": 0.05, "min_confidence": 0.1},
    # Well-formed requests that fail.
    {},
    {"query": "-people"},
    {"query": "/etc/passwd"},
    {"like": [10**6]},
    {"query": "a", "cursor": "no"},
    {"query": "a boat", "cursor": encode_cursor(20, "another query")},
    {"query": "a", "mode": "hybrid", "blend": "none such"},
    {"query": "a", "filters": {"where": "width >"}},
    {"query": "a", "like_url": ["https://example.org/a.jpg"]},
    # Malformed requests.
    {"query": 1},
    {"query": "a", "limit": 0},
    {"query": "a", "unknown": 1},
    {"query": "a" * 2001},
    [],
    None,
]
CONTENTS = [json.dumps(body).encode() for body in ASKED]
CONTENTS += [b"", b"{", b'{"query": "\\ud800"}', b"\xff", b'{"query": "a", "min_score": NaN}']


def recording_handler(passed):
    """Return `APIRoute.get_route_handler` that records the paths that FastAPI handles."""
    get_route_handler = APIRoute.get_route_handler

    def get_recording_handler(route):
        handler = get_route_handler(route)

        async def handle(request):
            passed.append(request.url.path)
            return await handler(request)

        return handle

    return get_recording_handler


@pytest.fixture(scope="module")
def ways(photo_index, environment):
    """Client of a route of FastAPI, client of ours, and the paths that the latter passes on."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with open_server_state(photo_index, ServerConfig()) as service:
            passed = []

            def client():
                return TestClient(make_app(service), raise_server_exceptions=False)

            with pytest.MonkeyPatch.context() as without:
                without.setattr(SearchRoute, "get_route_handler", APIRoute.get_route_handler)
                by_fastapi = client()
                # FastAPI makes the handlers at the first request.
                by_fastapi.post(AT)
            patch.setattr(APIRoute, "get_route_handler", recording_handler(passed))
            yield by_fastapi, client(), passed


def said(answer):
    document = answer.json()
    document.pop("timings_s", None)
    return answer.status_code, answer.headers["content-type"], document


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_search_route_answers_like_fastapi(ways, content, media_type):
    route, quick, _ = ways
    headers = {"Content-Type": media_type}
    assert said(quick.post(AT, content=content, headers=headers)) == said(
        route.post(AT, content=content, headers=headers)
    )


def test_search_route_handles_json_searches_without_fastapi(ways):
    _, quick, passed = ways
    passed.clear()
    assert [quick.post(AT, json=body).status_code for body in ASKED[:9]] == [200] * 9
    assert quick.post("/v1/indexes/none/search", json={"query": "a"}).status_code == 404
    assert passed == []


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", f"{AT}?q=boat", {}),
        ("PUT", AT, {"Content-Type": "application/json"}),
        ("POST", AT, {"Content-Type": "text/plain"}),
        ("POST", AT, {}),
        ("POST", f"{AT}/", {"Content-Type": "application/json"}),
        ("POST", "/v1/indexes/a/b/search", {"Content-Type": "application/json"}),
        ("POST", f"{AT}/batch", {"Content-Type": "application/json"}),
    ],
)
def test_search_route_leaves_other_requests_to_fastapi(ways, method, path, headers):
    route, quick, passed = ways
    passed.clear()
    body = b'{"query": "boat"}' if method != "GET" else None
    mine = quick.request(method, path, content=body, headers=headers, follow_redirects=False)
    theirs = route.request(method, path, content=body, headers=headers, follow_redirects=False)
    assert mine.status_code == theirs.status_code
    # FastAPI calls no handler for an unknown path or method.
    assert len(passed) == (mine.status_code not in (307, 404, 405))


def test_search_route_internal_error_returns_500_and_is_reraised(ways, monkeypatch):
    from mmsearch.server.routes import search as module

    async def faulty(*given):
        raise ZeroDivisionError("secret")

    _, quick, _ = ways
    monkeypatch.setattr(module, "run_search", faulty)
    answer = quick.post(AT, json={"query": "a"})
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "ZeroDivisionError" in answer.json()["detail"]
    assert "secret" not in answer.text
    with pytest.raises(ZeroDivisionError):
        TestClient(quick.app).post(AT, json={"query": "a"})
