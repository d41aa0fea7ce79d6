"""URLs that must not be fetched, and servers that must not be trusted."""

import asyncio
import gzip
import io
import time

import pytest

from mmsearch.core.errors import BusyError, SourceError
from mmsearch.server.config import ServerConfig
from mmsearch.sources._web.addresses import AddressPolicy
from mmsearch.sources._web.fetch import MAX_REDIRECTS, Fetcher
from tests.fake_web import (
    PRIVATE_HOST,
    PUBLIC_HOST,
    FakeResolver,
    address_policy,
    redirect,
    run_web_server,
    send,
    write_certificate,
)
from tests.http_client import http_client
from tests.security.test_attacks import png_bomb

pytestmark = pytest.mark.enable_socket

AT = "/v1/indexes/default"
OUT_OF_REACH = "cannot be fetched. Only public web servers are allowed"


@pytest.fixture
def photo(photos):
    return min((photos / "photos").glob("*.jpg")).read_bytes()


@pytest.fixture
def outside(photo):
    with run_web_server() as server:
        server.answers["/photo.jpg"] = photo
        yield server


@pytest.fixture
def inside(photo):
    """Web server at a private address, as in the server's own network."""
    with run_web_server(PRIVATE_HOST) as server:
        server.answers["/photo.jpg"] = photo
        yield server


def fetch(url, address_policy, limit_mb=1.0, **options):
    async def once():
        file = io.BytesIO()
        await Fetcher(limit_mb, address_policy, **options).fetch(url, file)
        return file.getvalue()

    return asyncio.run(once())


def refused(url, address_policy, **options):
    with pytest.raises(SourceError) as message:
        fetch(url, address_policy, **options)
    return str(message.value)


# --- addresses ---

NOTATIONS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "00000177.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "0",
]


@pytest.mark.parametrize("host", NOTATIONS)
def test_fetch_private_address_in_any_notation_is_refused(outside, photo, host):
    url = f"http://{host}:{outside.port}/photo.jpg"
    assert OUT_OF_REACH in refused(url, AddressPolicy(ports=frozenset({outside.port})))
    assert outside.connections == 0
    # Each notation means this machine, as a policy that allows all addresses shows.
    everywhere = AddressPolicy(ports=frozenset({outside.port}), is_allowed=lambda address: True)
    assert fetch(url, everywhere) == photo


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://100.100.100.200/",
        "http://10.0.0.1/",
        "http://172.31.255.255/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[64:ff9b:1::a00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fc00::1]/",
        "http://[ff02::1]/",
        "https://localhost/",
    ],
)
def test_fetch_private_address_opens_no_connection(url, monkeypatch):
    def connect(*arguments, **options):
        raise AssertionError(arguments)

    monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", connect)
    assert OUT_OF_REACH in refused(url, AddressPolicy())


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://photos.example/a.jpg",
        "gopher://127.0.0.1:25/_HELO",
        "data:image/png;base64,iVBORw0KGgo=",
        "//photos.example/a.jpg",
        "/etc/passwd",
        "",
        "http:",
        "http://",
        "http:///etc/passwd",
        "http://:80/",
        "http://user@photos.example/",
        "http://user:word@photos.example/",
        "http://@photos.example/",
        "http://photos.example:x/",
        "http://photos.example:0/",
        "http://photos.example:99999/",
        "http://photos.example\\@inside.example/",
        "http://photos.example\r\nHost: inside.example/",
        "http://photos.example/a\r\nX-Injected: 1",
        "http://photos.example/\0",
        "http://pho tos.example/",
        "http://[::1/",
        "http://[v1.x]/",
        "http://" + "a" * 300 + "/",
        "http://\ud800/",
    ],
)
def test_fetch_invalid_url_is_refused_without_lookup(url):
    names = FakeResolver()
    assert "is not a URL of a picture. Use an http or https URL" in refused(
        url, AddressPolicy(resolve=names)
    )
    assert names.requests == []


@pytest.mark.parametrize("port", [22, 25, 6379, 8080])
def test_fetch_unusual_port_is_refused_without_lookup(port):
    names = FakeResolver()
    assert OUT_OF_REACH in refused(f"http://{PUBLIC_HOST}:{port}/", AddressPolicy(resolve=names))
    assert names.requests == []


def test_fetch_host_name_with_private_address_is_refused(outside, inside):
    names = FakeResolver(inside_example=[[PRIVATE_HOST]])
    url = inside.url("/photo.jpg", "inside.example")
    assert OUT_OF_REACH in refused(url, address_policy(outside, inside, names=names))
    assert inside.connections == 0


@pytest.mark.parametrize(
    "addresses", [[PUBLIC_HOST, PRIVATE_HOST], [PRIVATE_HOST, PUBLIC_HOST], []]
)
def test_fetch_host_name_with_any_private_or_no_address_is_refused(outside, inside, addresses):
    names = FakeResolver(mixed_example=[addresses])
    url = outside.url("/photo.jpg", "mixed.example")
    assert OUT_OF_REACH in refused(url, address_policy(outside, inside, names=names))
    assert outside.connections == inside.connections == 0


def test_fetch_rebound_host_name_connects_only_to_checked_address(outside, inside, photo):
    """Simulate DNS rebinding."""
    inside.answers["/photo.jpg"] = b"the secret of the house"
    names = FakeResolver(rebound_example=[[PUBLIC_HOST], [PRIVATE_HOST]])
    rule = address_policy(outside, inside, names=names)
    assert fetch(outside.url("/photo.jpg", "rebound.example"), rule) == photo
    assert names.requests == ["rebound.example"]
    (_, headers), *others = outside.requests
    assert headers["Host"] == f"rebound.example:{outside.port}"
    assert others == []
    assert OUT_OF_REACH in refused(inside.url("/photo.jpg", "rebound.example"), rule)
    assert inside.connections == 0


def test_fetch_redirect_to_rebound_host_name_is_refused(outside, inside):
    """Redirect to the same name, which has a private address by now."""
    outside.answers["/again"] = redirect(outside.url("/photo.jpg", "rebound.example"))
    names = FakeResolver(rebound_example=[[PUBLIC_HOST], [PRIVATE_HOST]])
    rule = address_policy(outside, inside, names=names)
    assert OUT_OF_REACH in refused(outside.url("/again", "rebound.example"), rule)
    assert names.requests == ["rebound.example"] * 2
    assert [path for path, _ in outside.requests] == ["/again"]
    assert inside.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fetch_redirects_between_public_urls_are_followed(outside, photo, status):
    outside.answers["/first"] = redirect("/a%20b/../second?x=1", status)
    outside.answers["/second"] = redirect(outside.url("/photo.jpg", "photos.example"), status)
    outside.answers["/a%20b/../second"] = outside.answers["/second"]
    rule = address_policy(outside, names=FakeResolver(photos_example=[[PUBLIC_HOST]]))
    assert fetch(outside.url("/first"), rule) == photo
    assert len(outside.requests) == 3
    assert not any("cookie" in map(str.lower, headers) for _, headers in outside.requests)


@pytest.mark.parametrize(
    "location",
    [
        f"http://{PRIVATE_HOST}:%d/photo.jpg",
        f"//{PRIVATE_HOST}:%d/photo.jpg",
        "http://[::ffff:127.0.0.2]:%d/photo.jpg",
        "http://2130706434:%d/photo.jpg",
        "http://inside.example:%d/photo.jpg",
        "http://user:word@127.0.0.2:%d/photo.jpg",
        "file:///etc/passwd#%d",
        "gopher://127.0.0.2:%d/_",
        "http://[:%d",
        "http://\u20ac\ufffd.example:%d/",
    ],
)
def test_fetch_redirect_to_private_or_invalid_url_is_refused(outside, inside, location):
    encoded = (location % inside.port).encode().decode("latin-1")
    outside.answers["/away"] = redirect(encoded)
    names = FakeResolver(inside_example=[[PRIVATE_HOST]])
    message = refused(outside.url("/away"), address_policy(outside, inside, names=names))
    # The error does not reveal the target.
    assert OUT_OF_REACH in message
    assert PRIVATE_HOST not in message
    assert inside.connections == 0


def test_fetch_redirect_loop_stops_at_limit(outside):
    outside.answers["/loop"] = redirect("/loop")
    assert "did not return a picture" in refused(outside.url("/loop"), address_policy(outside))
    assert len(outside.requests) == MAX_REDIRECTS + 1


def test_fetch_error_is_same_for_closed_port_and_private_address(outside, inside):
    with run_web_server() as gone:
        pass
    names = FakeResolver(inside_example=[[PRIVATE_HOST]])
    rule = address_policy(outside, inside, gone, names=names)
    urls = [
        gone.url("/x"),
        inside.url("/x"),
        inside.url("/x", "inside.example"),
        inside.url("/x", "nowhere.example"),
    ]
    message = {refused(url, rule).replace(url, "URL") for url in urls}
    assert len(message) == 1


def test_fetch_ignores_proxy_environment(outside, inside, photo, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, inside.url())
    assert fetch(outside.url("/photo.jpg"), address_policy(outside, inside)) == photo
    assert inside.connections == 0


# --- requests and responses ---


def test_fetch_sends_only_necessary_headers(outside, photo):
    assert fetch(outside.url("/photo.jpg?a=b&c#d"), address_policy(outside)) == photo
    ((path, headers),) = outside.requests
    assert path == "/photo.jpg?a=b&c"
    assert headers.keys() == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert headers["Accept-Encoding"] == "identity"


def test_fetch_endless_body_stops_at_size_limit(outside):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while not handler.server.stop_event.is_set():
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    outside.answers["/endless"] = answer
    url = outside.url("/endless")
    assert refused(url, address_policy(outside)) == f"The picture at {url!r} is larger than 1 MB."


def test_fetch_declared_length_over_limit_is_refused_unread(outside):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        handler.server.stop_event.wait(20)

    outside.answers["/huge"] = answer
    began = time.monotonic()
    assert "larger than 1 MB" in refused(
        outside.url("/huge"), address_policy(outside), deadline_s=15
    )
    # Reading the body would last until the deadline.
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("9" * 5000, OUT_OF_REACH),
        ("-1", OUT_OF_REACH),
        ("a", OUT_OF_REACH),
        ("100", OUT_OF_REACH),
        ("1, 2", OUT_OF_REACH),
    ],
)
def test_fetch_invalid_or_wrong_content_length_is_refused(outside, declared, says):
    outside.answers["/odd"] = lambda handler: send(handler, 200, b"1234", Content_Length=declared)
    assert says in refused(outside.url("/odd"), address_policy(outside), deadline_s=5)


def drip(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.stop_event.wait(0.05):
        handler.wfile.write(b"x")


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.stop_event.wait(0.05):
        handler.wfile.write(b"X-More: x\r\n")


def drip_redirects(handler):
    handler.server.stop_event.wait(0.3)
    redirect(f"{handler.path}0")(handler)


@pytest.mark.parametrize("answer", [drip, drip_headers, drip_redirects])
def test_fetch_slow_server_is_refused_after_deadline(outside, answer):
    for path in ("/slow", "/slow0", "/slow00", "/slow000"):
        outside.answers[path] = answer
    message = refused(outside.url("/slow"), address_policy(outside), deadline_s=0.5)
    assert message.endswith("they must answer within 0.5 seconds.")


def test_fetch_endless_name_lookup_is_refused_after_deadline(outside):
    async def resolve(host, port):
        await asyncio.sleep(60)

    rule = AddressPolicy(resolve=resolve, ports=frozenset({outside.port}))
    assert OUT_OF_REACH in refused(outside.url("/"), rule, deadline_s=0.2)


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity", "deflate"])
def test_fetch_compressed_body_is_refused(outside, encoding):
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < 100_000
    outside.answers["/bomb"] = lambda handler: send(handler, 200, bomb, Content_Encoding=encoding)
    assert "did not return a picture" in refused(outside.url("/bomb"), address_policy(outside))


def test_fetch_compressed_transfer_encoding_is_refused(outside):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "gzip, chunked")
        handler.end_headers()
        handler.wfile.write(b"0\r\n\r\n")

    outside.answers["/folded"] = answer
    assert OUT_OF_REACH in refused(outside.url("/folded"), address_policy(outside))


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 404, 500, 503])
def test_fetch_status_other_than_200_does_not_reveal_body(outside, status):
    body = b"" if status in (204, 304) else b"the secret of the house"
    outside.answers["/gone"] = lambda handler: send(handler, status, body)
    url = outside.url("/gone")
    assert (
        refused(url, address_policy(outside)) == f"The server at {url!r} did not return a picture."
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 200_000],
)
def test_fetch_non_http_answer_is_refused(outside, content):
    outside.answers["/other"] = lambda handler: handler.wfile.write(content)
    assert OUT_OF_REACH in refused(outside.url("/other"), address_policy(outside))


def test_fetch_over_concurrency_limit_raises_busy_error(outside):
    outside.answers["/slow"] = drip

    async def many():
        fetcher = Fetcher(
            1, address_policy(outside), max_concurrent=2, queue_timeout_s=0.2, deadline_s=1
        )
        urls = [outside.url("/slow")] * 5
        return await asyncio.gather(
            *(fetcher.fetch(url, io.BytesIO()) for url in urls), return_exceptions=True
        )

    outcomes = asyncio.run(many())
    assert [type(outcome) for outcome in outcomes].count(BusyError) == 3
    assert [type(outcome) for outcome in outcomes].count(SourceError) == 2
    assert outside.connections == 2
    assert str(outcomes[-1]).startswith("2 pictures are already being fetched.")


# --- with TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Self-signed certificate of photos.example."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "photos.pem", PRIVATE_HOST)


@pytest.fixture
def secured(certificate, photo):
    """TLS server, the names that clients requested, and a context that trusts it."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    named = []
    context.sni_callback = lambda connection, name, _: named.append(name)
    with run_web_server(tls=context) as server:
        server.answers["/photo.jpg"] = photo
        yield server, named, ssl.create_default_context(cafile=certificate)


def test_fetch_https_verifies_certificate_against_host_name(secured, photo):
    server, named, trusting = secured
    names = FakeResolver(photos_example=[[PUBLIC_HOST]], other_example=[[PUBLIC_HOST]])
    rule = address_policy(server, names=names, tls=trusting)
    at = f"https://photos.example:{server.port}/photo.jpg"
    assert fetch(at, rule) == photo
    assert named == ["photos.example"]
    assert OUT_OF_REACH in refused(at.replace("photos.", "other."), rule)
    assert OUT_OF_REACH in refused(at, address_policy(server, names=names))
    assert len(server.requests) == 1


# --- the whole server ---


@pytest.fixture
def asked_with(photo_index, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])

    def start(address_policy=None, **rules):
        return http_client(photo_index, ServerConfig(**rules), address_policy=address_policy)

    return start


def ways(url):
    """Yield every request that may name a URL."""
    named = [{"like_url": [url]}, {"query": f"image:{url}"}, {"query": f"a dog -2:image:{url}"}]
    yield from (("POST", f"{AT}/search", {"json": body}) for body in named)
    yield "GET", f"{AT}/search", {"params": {"like_url": url}}
    yield "GET", f"{AT}/search", {"params": {"q": f"image:{url}"}}
    yield "POST", f"{AT}/embeddings/picture", {"data": {"url": url}}


def test_url_query_without_option_gets_403(asked_with, outside, photo):
    url = outside.url("/photo.jpg")
    with asked_with(address_policy(outside)) as server:
        answers = [server.request(method, at, **sent) for method, at, sent in ways(url)]
        batch = server.post(f"{AT}/search/batch", json={"searches": [{"like_url": [url]}]})
        sent = server.post(
            f"{AT}/search/picture", files={"picture": photo}, data={"query": f"image:{url}"}
        )
        page = server.get("/", params={"like_url": url})
    for answer in (*answers, sent):
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        message = answer.json()
        assert message["kind"] == "ForbiddenError"
        assert message["detail"] == (
            "This server does not fetch pictures from URLs."
            " Send the picture itself, or start the server with --allow-url-queries."
        )
    (message,) = batch.json()["answers"]
    assert message["status"] == 403
    assert page.status_code == 403
    assert "start the server with --allow-url-queries" in page.text
    assert outside.connections == 0


def test_url_query_to_private_address_with_option_gets_400(asked_with, inside):
    with asked_with(
        AddressPolicy(ports=frozenset({inside.port})), allow_url_queries=True
    ) as server:
        for method, at, sent in ways(inside.url("/photo.jpg")):
            answer = server.request(method, at, **sent)
            assert answer.status_code == 400
            assert OUT_OF_REACH in answer.json()["detail"]
    assert inside.connections == 0


@pytest.mark.parametrize(
    "line",
    ["image:/etc/passwd", "image:file:///etc/passwd", "image:https:/etc/passwd", "/etc/http"],
)
def test_query_naming_file_with_url_option_gets_400(asked_with, line):
    with asked_with(AddressPolicy(resolve=FakeResolver()), allow_url_queries=True) as server:
        answer = server.post(f"{AT}/search", json={"query": line})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("A query over HTTP cannot name files.")


def test_fetched_picture_obeys_upload_limits(asked_with, outside, photo):
    outside.answers["/bomb.png"] = png_bomb(20_000)
    outside.answers["/words.jpg"] = b"<html>the secret of the house</html>"
    large = len(photo) / 1e6 - 0.001
    with asked_with(address_policy(outside), allow_url_queries=True, max_upload_mb=large) as server:
        for path, status, says in (
            ("/bomb.png", 422, "cannot be read"),
            ("/words.jpg", 422, "cannot be read"),
            ("/photo.jpg", 400, "larger than"),
        ):
            url = outside.url(path)
            answer = server.post(f"{AT}/search", json={"like_url": [url]})
            assert answer.status_code == status
            assert says in answer.json()["detail"]
            assert repr(url) in answer.json()["detail"]
            assert "secret" not in answer.text


def test_query_with_too_many_urls_is_refused_unfetched(asked_with, outside):
    url = outside.url("/photo.jpg")
    with asked_with(address_policy(outside), allow_url_queries=True) as server:
        at = f"{AT}/search"
        assert server.post(at, json={"like_url": [url] * 5}).status_code == 422
        answer = server.post(at, json={"query": " + ".join(f"image:{url}?{n}" for n in range(5))})
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("The query names 5 pictures by URL")
    assert outside.connections == 0


def test_fetched_picture_leaves_no_temporary_file(asked_with, outside, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outside.answers["/words.jpg"] = b"no picture"
    good, bad = outside.url("/photo.jpg"), outside.url("/words.jpg")
    with asked_with(address_policy(outside), allow_url_queries=True) as server:
        for urls, status in (([good], 200), ([bad], 422), ([good, outside.url("/none")], 400)):
            answer = server.post(f"{AT}/search", json={"like_url": urls})
            assert answer.status_code == status
    assert list(tmp_path.iterdir()) == []
