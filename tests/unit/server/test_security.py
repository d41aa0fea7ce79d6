"""Tests of the security middleware and the tokens."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from mmsearch.server.config import ServerConfig, generate_token, is_loopback, resolve_token
from mmsearch.server.security import SECURITY_HEADERS, SecurityMiddleware

TOKEN = "s3cret-ünïcode"  # noqa: S105 - used by the test only


async def echo_body_size(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await PlainTextResponse(str(size))(scope, receive, send)


def client(config, host="http://127.0.0.1:7788", **more):
    return TestClient(SecurityMiddleware(echo_body_size, config, **more), base_url=host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - the test expects that it is not loopback
        ("::", False),
        ("192.168.1.5", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_is_loopback_accepts_only_loopback_hosts(host, expected):
    assert is_loopback(host) is expected


def test_generate_token_returns_long_unique_tokens():
    tokens = {generate_token() for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 32


def test_server_config_repr_hides_token():
    assert TOKEN not in repr(ServerConfig(token=TOKEN))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer  {TOKEN} ", 200),
        (f"Bearer {TOKEN}x", 401),
    ],
)
def test_security_middleware_requires_correct_bearer_token(header, status):
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = client(ServerConfig(token=TOKEN)).get("/v1/indexes", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "This server requires a token."


def test_security_middleware_health_and_readiness_need_no_token():
    asking = client(ServerConfig(token=TOKEN))
    assert asking.get("/healthz").status_code == 200
    assert asking.get("/readyz").status_code == 200
    assert asking.get("/metrics").status_code == 401
    assert asking.get("/healthz/../v1/indexes").status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[bad", ""])
def test_security_middleware_foreign_host_header_returns_421(host):
    answer = client(ServerConfig()).get("/healthz", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost:7788", "127.0.0.1", "[::1]:7788"])
def test_security_middleware_loopback_host_header_is_accepted(host):
    assert client(ServerConfig()).get("/healthz", headers={"Host": host}).status_code == 200


def test_security_middleware_with_token_accepts_any_host_header():
    asking = client(ServerConfig(host="0.0.0.0", token=TOKEN))  # noqa: S104
    assert asking.get("/healthz", headers={"Host": "photos.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "http://127.0.0.1:7788"}, 200),
        ({"Origin": "https://photos.example"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_security_middleware_foreign_origin_or_cross_site_fetch_returns_403(headers, status):
    asking = client(ServerConfig(allowed_origins=("https://photos.example",)))
    assert asking.post("/v1/x", headers=headers).status_code == status


@given(sizes=st.lists(st.integers(0, 700), max_size=6))
def test_security_middleware_body_over_upload_limit_returns_413(sizes):
    parts = [b"x" * size for size in sizes]
    answer = client(ServerConfig(max_upload_mb=0.001)).post("/v1/x", content=iter(parts))
    total = sum(sizes)
    assert answer.status_code == (200 if total <= 1000 else 413)
    if total <= 1000:
        assert answer.text == str(total)


def test_security_middleware_large_content_length_returns_413_unread():
    received = []

    async def receive():
        received.append(1)
        return {"type": "http.request", "body": b"", "more_body": False}

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/x",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"2000")],
        "client": ("127.0.0.1", 5),
    }
    asyncio.run(
        SecurityMiddleware(echo_body_size, ServerConfig(max_upload_mb=0.001))(scope, receive, send)
    )
    assert (sent[0]["status"], received) == (413, [])


def test_security_middleware_adds_security_headers_to_every_response():
    asking = client(ServerConfig(token=TOKEN))
    for answer in (asking.get("/healthz"), asking.get("/v1/indexes")):
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "access-control-allow-origin" not in answer.headers


def test_security_middleware_over_max_concurrent_returns_503():
    config = ServerConfig(max_concurrent=1)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        entered.set()
        await leave.wait()
        await PlainTextResponse("done")(scope, receive, send)

    async def ask(guard):
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/x",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 5),
        }
        sent = []

        async def send(message):
            sent.append(message)

        await guard(scope, None, send)
        return sent[0]["status"], dict(sent[0]["headers"]).get(b"retry-after")

    async def story():
        guard = SecurityMiddleware(slow, config)
        first = asyncio.create_task(ask(guard))
        await entered.wait()
        assert await ask(guard) == (503, b"1")
        leave.set()
        assert await first == (200, None)
        assert await ask(guard) == (200, None)

    asyncio.run(story())


def test_security_middleware_over_rate_returns_429_until_time_passes():
    now = [0.0]
    asking = client(ServerConfig(requests_per_s=2), clock=lambda: now[0])
    assert [asking.get("/v1/x").status_code for _ in range(3)] == [200, 200, 429]
    refused = asking.get("/v1/x")
    assert refused.headers["retry-after"] == "1"
    now[0] += 0.5
    assert [asking.get("/v1/x").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/static/app.js"),
        ("GET", "/v1/indexes/default/pictures/7/thumbnail?size=small"),
        ("HEAD", "/v1/indexes/default/pictures/7/thumbnail"),
        ("GET", "/v1/indexes/default/pictures/7/original"),
        ("GET", "/v1/indexes/default/pictures/7"),
        ("GET", "/v1/indexes"),
        ("GET", "/v1/indexes/default"),
        ("GET", "/v1/indexes/default/sources"),
        ("GET", "/v1/indexes/default/jobs/1/events"),
        ("OPTIONS", "/v1/indexes/default/search"),
    ],
)
def test_security_middleware_display_requests_are_not_rate_limited(method, path):
    asking = client(ServerConfig(requests_per_s=1), clock=lambda: 0.0)
    assert {asking.request(method, path).status_code for _ in range(60)} == {200}
    assert [asking.get("/v1/indexes/default/search").status_code for _ in range(2)] == [200, 429]
    assert asking.request(method, path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/indexes/default/search?q=a"),
        ("GET", "/v1/indexes/default/search/thumbnail"),
        ("GET", "/anything"),
        ("POST", "/v1/indexes/default/search"),
        ("POST", "/v1/indexes/default/search/picture"),
        ("POST", "/v1/indexes/default/embeddings/texts"),
        ("POST", "/v1/indexes/default/jobs"),
        ("DELETE", "/v1/indexes/default/jobs/1"),
        ("POST", "/v1/indexes/default/pictures/7/thumbnail"),
        ("POST", "/session"),
        ("POST", "/mcp"),
    ],
)
def test_security_middleware_search_encode_and_write_requests_are_rate_limited(method, path):
    asking = client(ServerConfig(requests_per_s=1), clock=lambda: 0.0)
    assert [asking.request(method, path).status_code for _ in range(2)] == [200, 429]


def test_security_middleware_wrong_token_is_rate_limited_on_exempt_path():
    asking = client(ServerConfig(token=TOKEN, requests_per_s=2), clock=lambda: 0.0)
    link = "/v1/indexes/default/pictures/7/thumbnail"
    guess = {"Authorization": "Bearer guess"}
    assert [asking.get(link, headers=guess).status_code for _ in range(3)] == [401, 401, 429]
    known = {"Authorization": f"Bearer {TOKEN}".encode()}
    assert asking.get(link, headers=known).status_code == 200


@pytest.mark.parametrize(
    ("host", "given", "made_up"),
    [
        ("127.0.0.1", None, False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "mine", False),
        ("0.0.0.0", "mine", False),  # noqa: S104
        ("0.0.0.0", None, True),  # noqa: S104
        ("0.0.0.0", "", True),  # noqa: S104
    ],
)
def test_resolve_token_public_host_without_token_generates_one(host, given, made_up):
    said = []
    token = resolve_token(host, given, said.append)
    if made_up:
        assert len(token) >= 32
        assert said == [f"Token: {token}"]
    else:
        assert (token, said) == (given or None, [])
