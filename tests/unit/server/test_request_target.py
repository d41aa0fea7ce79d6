"""Tests of the request target: the server rejects hosts and paths that violate RFC 9112."""

import json
import socket
from urllib.parse import urlsplit

import pytest
from starlette.responses import PlainTextResponse

from mmsearch.server.http_protocol import to_origin_form
from mmsearch.server.serve import serve_app

HOST = [(b"host", b"photos.example:7788")]


@pytest.mark.parametrize(
    ("target", "headers", "version", "path"),
    [
        (b"/a?b", HOST, "1.1", b"/a?b"),
        (b"/a?b", [], "1.0", b"/a?b"),
        (b"*", HOST, "1.1", b"*"),
        (b"//evil.example/a", HOST, "1.1", b"//evil.example/a"),
        (b"/a?u=http://b/c", HOST, "1.1", b"/a?u=http://b/c"),
        (b"http://photos.example:7788/a?b", HOST, "1.1", b"/a?b"),
        (b"HTTP://Photos.Example:7788", HOST, "1.1", b"/"),
        (b"http://photos.example:7788?b", HOST, "1.1", b"/?b"),
        (b"http://a.example:80/b", [(b"host", b"A.example")], "1.1", b"/b"),
        (b"http://[::1]:7788/b", [(b"host", b"[::1]:7788")], "1.1", b"/b"),
        (b"/", [(b"host", b"")], "1.1", b"/"),
        (b"/", [(b"host", b"127.0.0.1")], "1.1", b"/"),
    ],
)
def test_to_origin_form_valid_target_returns_path_and_query(target, headers, version, path):
    assert to_origin_form(target, headers, version) == path


@pytest.mark.parametrize(
    ("target", "headers", "version", "said"),
    [
        (b"/", [], "1.1", "no Host header"),
        (b"/", HOST * 2, "1.1", "several Host headers"),
        (b"/", HOST * 2, "1.0", "several Host headers"),
        (b"/", [*HOST, (b"host", b"")], "1.1", "several Host headers"),
        (b"/", [(b"host", b"a b")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"a/b")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"a@b")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"a:b")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"a:1:2")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"a, b:1")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"[::1")], "1.1", "is not a name or address"),
        (b"/", [(b"host", b"\xe9.example")], "1.1", "is not a name or address"),
        (b"http://evil.example/", HOST, "1.1", "different hosts"),
        (b"http://photos.example/", HOST, "1.1", "different hosts"),
        (b"http://user@photos.example:7788/", HOST, "1.1", "different hosts"),
        (b"http:///a", HOST, "1.1", "different hosts"),
        (b"http://evil.example/", [], "1.0", "different hosts"),
        (b"https://photos.example:7788/", HOST, "1.1", "not an http URL"),
        (b"ftp://photos.example:7788/", HOST, "1.1", "not an http URL"),
    ],
)
def test_to_origin_form_invalid_host_or_url_raises_value_error(target, headers, version, said):
    with pytest.raises(ValueError, match=said):
        to_origin_form(target, headers, version)


async def path(scope, receive, send):
    await PlainTextResponse(f"{scope['method']} {scope['path']}")(scope, receive, send)


def answer(request):
    """Send a request and return the status, head and body of the response."""
    with serve_app(path, "127.0.0.1", 0) as url:
        at = ("127.0.0.1", urlsplit(url).port)
        with socket.create_connection(at, timeout=10) as connection:
            connection.sendall(request)
            received = b""
            while part := connection.recv(10_000):
                received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, body


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("request_line", "status", "said"),
    [
        (b"GET / HTTP/1.1\r\n", 400, "no Host header"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, "several Host headers"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n", 400, "several Host headers"),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: a\r\n", 400, "different hosts"),
        (b"POST http://b/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n", 400, "different hosts"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n", 400, "is not a name or address"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n", 400, "not valid HTTP/1.1"),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n", 400, "not valid HTTP/1.1"),
        (b"GET / HTTP/9\r\nHost: a\r\n", 400, "not valid HTTP/1.1"),
        (b"GET /" + b"a" * 70_000, 414, "longer than 32,768 bytes"),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 70_000, 431, "larger than 65,536 bytes"),
    ],
)
def test_server_malformed_request_returns_problem_document_with_reason(request_line, status, said):
    # The server rejects an overlong request before its end.
    end = b"Connection: close\r\n\r\n" if status == 400 else b""
    found, head, body = answer(request_line + end)
    assert found == status
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == status
    assert said in json.loads(body)["detail"]


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("request_line", "body"),
    [
        (b"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n", b"GET /b"),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n", b"GET /"),
        (b"GET /b HTTP/1.0\r\n", b"GET /b"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", b"OPTIONS *"),
    ],
)
def test_server_accepts_every_target_form(request_line, body):
    assert answer(request_line + b"Connection: close\r\n\r\n")[::2] == (200, body)
