"""Clients that stall lose their connection; clients that are only slow are served."""

import asyncio
import json
import socket
import time
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from mmsearch.server import http_protocol, serve
from mmsearch.server.serve import serve_app

pytestmark = pytest.mark.enable_socket

POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
WITHIN_S, STALL_TIMEOUT_S = 1.2, 0.8
MUCH = 30_000_000


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    monkeypatch.setattr(http_protocol, "HEADERS_TIMEOUT_S", WITHIN_S)
    monkeypatch.setattr(http_protocol, "STALL_TIMEOUT_S", STALL_TIMEOUT_S)
    monkeypatch.setattr(serve, "CHECK_EVERY_TICKS", 1)


async def counts(scope, receive, send):
    """Answer with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await PlainTextResponse(str(size))(scope, receive, send)


@contextmanager
def served(app):
    """Run a server; yield a function that connects to it."""
    with serve_app(app, "127.0.0.1", 0) as url, ExitStack() as stack:
        at = ("127.0.0.1", urlsplit(url).port)
        yield lambda: stack.enter_context(socket.create_connection(at, timeout=10))


@contextmanager
def asked(app):
    with served(app) as connect:
        yield connect()


def all_of(connection):
    """Read until the other side ends the connection."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def is_too_slow(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 "), answer
    assert b"application/problem+json" in head
    assert json.loads(body)["detail"] == "The request did not arrive in time."


def drip(connection, content):
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
        except ConnectionError:
            return
        time.sleep(STALL_TIMEOUT_S / 4)
    pytest.fail("All of it was taken.")


def test_connection_without_request_is_closed():
    with asked(counts) as connection:
        assert all_of(connection) == b""


def test_headers_that_stop_get_408():
    with asked(counts) as connection:
        connection.sendall(POST)
        is_too_slow(all_of(connection))


def test_headers_sent_slowly_close_connection():
    with asked(counts) as connection:
        drip(connection, POST + b"X: " + b"a" * 1000)


def test_headers_sent_slowly_after_earlier_request_close_connection():
    with asked(counts) as connection:
        connection.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert b" 200 OK" in connection.recv(1000)
        drip(connection, POST + b"X: " + b"a" * 1000)


@pytest.mark.parametrize(
    "begin", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_body_that_stops_gets_408(begin):
    with asked(counts) as connection:
        connection.sendall(POST + begin)
        is_too_slow(all_of(connection))


def test_body_sent_slowly_is_accepted():
    with asked(counts) as connection:
        connection.sendall(POST + b"Content-Length: 10\r\n\r\n")
        for _ in range(10):
            time.sleep(STALL_TIMEOUT_S / 5)
            connection.sendall(b"a")
        assert connection.recv(1000).endswith(b"\r\n\r\n10")


def test_server_keep_alive_is_over_twice_client_keep_alive():
    assert 2 * httpx.Limits().keepalive_expiry < serve.KEEP_ALIVE_S


def test_idle_connection_is_closed_after_keep_alive_time(monkeypatch):
    monkeypatch.setattr(serve, "KEEP_ALIVE_S", STALL_TIMEOUT_S)
    with asked(counts) as connection:
        connection.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert b" 200 OK" in connection.recv(1000)
        assert connection.recv(1000) == b""


def test_idle_connection_is_kept_between_requests():
    with asked(counts) as connection:
        for _ in range(2):
            connection.sendall(POST + b"Content-Length: 0\r\n\r\n")
            assert b" 200 OK" in connection.recv(1000)
            time.sleep(1.5 * WITHIN_S)


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_client_waiting_for_slow_application_is_not_timed_out(expects):
    """Time the client out only for data that the application has requested."""

    async def later(scope, receive, send):
        await asyncio.sleep(1.5 * WITHIN_S)
        await counts(scope, receive, send)

    with asked(later) as connection:
        connection.sendall(POST + expects + b"Content-Length: %d\r\n\r\n" % MUCH)
        if expects:
            assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(bytes(MUCH))
        assert connection.recv(1000).endswith(b"\r\n\r\n%d" % MUCH)


def test_slow_streaming_response_is_sent_completely():
    async def slowly(scope, receive, send):
        async def parts():
            for _ in range(3):
                await asyncio.sleep(1.5 * STALL_TIMEOUT_S)
                yield b"a"

        await StreamingResponse(parts())(scope, receive, send)

    with asked(slowly) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        assert all_of(connection).endswith(b"1\r\na\r\n" * 3 + b"0\r\n\r\n")


@pytest.fixture
def streams():
    """Application that sends a large response and records when each response ended."""
    ended = []

    async def stream(scope, receive, send):
        async def parts():
            for _ in range(MUCH // 50_000):
                yield bytes(50_000)

        try:
            await StreamingResponse(parts())(scope, receive, send)
        finally:
            ended.append(time.monotonic())

    stream.ended = ended
    return stream


def test_response_not_read_by_client_is_aborted(streams):
    with asked(streams) as connection:
        connection.sendall(GET + b"\r\n")
        began = time.monotonic()
        while not streams.ended:
            assert time.monotonic() < began + 10
            time.sleep(0.05)
        assert streams.ended[0] - began >= STALL_TIMEOUT_S
        taken = all_of(connection)
        assert len(taken) < MUCH
        assert not taken.endswith(b"0\r\n\r\n")


def test_response_read_slowly_is_sent_completely(streams):
    with asked(streams) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        size, began = 0, time.monotonic()
        while part := connection.recv(1 << 20):
            size += len(part)
            time.sleep(STALL_TIMEOUT_S / 20)
        assert size > MUCH
        assert time.monotonic() - began > STALL_TIMEOUT_S


@pytest.fixture
def long_timeouts(monkeypatch):
    monkeypatch.setattr(http_protocol, "HEADERS_TIMEOUT_S", 30)
    monkeypatch.setattr(http_protocol, "STALL_TIMEOUT_S", 30)


def test_connections_over_limit_get_503(long_timeouts, monkeypatch):
    monkeypatch.setattr(http_protocol, "connection_limit", lambda: 3)
    with served(counts) as connect:
        *kept, fourth, fifth = [connect() for _ in range(5)]
        for connection in (fourth, fifth):
            head, _, body = all_of(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in head.lower()
            assert json.loads(body)["detail"].startswith("3 connections are already open.")
        for connection in kept:
            connection.sendall(POST + b"Content-Length: 0\r\n\r\n")
            assert b" 200 OK" in connection.recv(1000)


def test_new_connections_at_limit_close_idle_ones(long_timeouts, monkeypatch):
    monkeypatch.setattr(http_protocol, "connection_limit", lambda: 3)
    with served(counts) as connect:
        *resting, busy = [connect() for _ in range(3)]
        for connection in resting:
            connection.sendall(POST + b"Content-Length: 0\r\n\r\n")
            assert b" 200 OK" in connection.recv(1000)
        busy.sendall(POST + b"Content-Length: 1\r\n\r\n")
        for _ in range(2):
            another = connect()
            another.sendall(POST + b"Content-Length: 1\r\n\r\n")
        assert connect().recv(1000).startswith(b"HTTP/1.1 503 ")
        assert [connection.recv(1000) for connection in resting] == [b"", b""]
        for connection in (busy, another):
            connection.sendall(b"a")
            assert b" 200 OK" in connection.recv(1000)


def test_timed_out_connections_free_their_places(monkeypatch):
    monkeypatch.setattr(http_protocol, "connection_limit", lambda: 3)
    with served(counts) as connect:
        assert [all_of(connection) for connection in [connect() for _ in range(3)]] == [b""] * 3
        another = connect()
        another.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert b" 200 OK" in another.recv(1000)


def test_connection_limit_is_at_most_half_of_file_limit():
    resource = pytest.importorskip("resource")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    http_protocol.connection_limit.cache_clear()
    assert 0 < http_protocol.connection_limit() <= min(http_protocol.MAX_CONNECTIONS, soft // 2)


def test_websocket_upgrade_request_is_answered_as_plain_http():
    with asked(counts) as connection:
        connection.sendall(
            GET + b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert all_of(connection).startswith(b"HTTP/1.1 200 ")
