"""``mmsearch serve`` as a new user starts it, queried over a socket."""

import json
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from tests.serve_process import run_serve
from tests.terminal import COMMAND

pytestmark = [pytest.mark.e2e, pytest.mark.enable_socket]


OPEN = r"Index 'default' is open for queries at (http://\S+); Ctrl-C stops it\.\n"
BESIDE_ANOTHER = (
    "Commands are not forwarded to it: Another process already serves index 'default'. "
    "Queries use it automatically.\n"
)


@contextmanager
def serving(environment, home, *options, ends=signal.SIGTERM, code=0, beside_another=False):
    """Run a server; yield its URL, its generated token and a function that ends it."""
    command = [COMMAND, "serve", "--home", home, "--port", "0", *options]
    with run_serve(command, environment, ends, code) as server:
        token, line = None, server.line()
        if line.startswith("Token: "):
            token, line = line.split()[1], server.line()
        found = re.fullmatch(OPEN, line)
        assert found, line
        if beside_another:
            assert server.line() == BESIDE_ANOTHER
        yield SimpleNamespace(url=found[1], token=token, end=server.end)


@pytest.mark.parametrize(("ends", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_http_search_returns_same_paths_as_command_line(
    mmsearch, environment, photo_index, ends, code
):
    with serving(environment, photo_index, ends=ends, code=code) as server:
        assert server.token is None
        assert server.url.startswith("http://127.0.0.1:")
        at = f"{server.url}/v1/indexes/default/search"
        response = httpx.get(at, params={"q": "a windmill", "limit": 5})
        printed = mmsearch("query", "a windmill", "-k", "5", "--json", "--home", photo_index)
        hits = json.loads(printed.out)["hits"]
        assert [hit["path"] for hit in response.json()["hits"]] == [hit["path"] for hit in hits]


def test_serve_non_loopback_host_requires_generated_token(environment, photo_index):
    with serving(environment, photo_index, "--host", "0.0.0.0") as server:  # noqa: S104
        at = f"{server.url}/v1/indexes".replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        assert httpx.get(at).status_code == 401
        assert httpx.get(at, headers={"Authorization": "Bearer x"}).status_code == 401
        known = {"Authorization": f"Bearer {server.token}"}
        assert httpx.get(at, headers=known).json() == {"indexes": ["default"]}


def test_serve_token_from_environment_is_required(environment, photo_index):
    with serving(environment | {"MMSEARCH_TOKEN": "mine"}, photo_index) as server:
        assert server.token is None
        assert httpx.get(f"{server.url}/v1/indexes").status_code == 401
        known = {"Authorization": "Bearer mine"}
        assert httpx.get(f"{server.url}/v1/indexes", headers=known).status_code == 200


def test_serve_port_in_use_exits_2(mmsearch, photo_index):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = mmsearch("serve", "--home", photo_index, "--port", port, code=2)
    assert done.err.startswith(f"Error: Port {port} of 127.0.0.1 cannot be used: ")
    assert "Choose another one with --port" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "no.such.host.invalid"], "is not an address of this machine"),
        (["--root-path", "photos/"], "Error: Invalid --root-path 'photos/'. Use a path such as "),
        (["--trusted-proxy", "traefik"], "'traefik' is not an IP address or network. Use an "),
        (["--idle", "5"], "--idle does not apply to an HTTP server. Add --no-http."),
    ],
)
def test_serve_invalid_host_or_idle_option_exits_2(mmsearch, photo_index, options, said):
    done = mmsearch("serve", "--home", photo_index, "--port", "0", *options, code=2)
    assert said in done.err


def test_server_request_in_progress_is_answered_before_shutdown(environment, photo_index):
    with serving(environment, photo_index) as server:
        address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        with socket.create_connection(address) as late:
            late.sendall(
                b"POST /v1/indexes/default/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Type: application/json\r\nContent-Length: 18\r\n\r\n"
            )
            time.sleep(0.5)
            server.end()
            time.sleep(0.5)
            late.sendall(b'{"query": "a dog"}')
            late.settimeout(30)
            assert late.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_like_url_private_address_gets_403_by_default_and_400_if_enabled(environment, photo_index):
    inside = "http://127.0.0.1/photo.jpg"
    bare = {k: v for k, v in environment.items() if not k.lower().endswith("_proxy")}
    for options, status, says in (
        ([], 403, "start the server with --allow-url-queries"),
        (["--allow-url-queries"], 400, "Only public web servers are allowed"),
    ):
        with serving(bare, photo_index, *options) as server:
            at = f"{server.url}/v1/indexes/default/search"
            response = httpx.get(at, params={"like_url": inside})
            assert response.status_code == status
            assert says in response.json()["detail"]


def test_serve_with_proxy_environment_warns_that_proxy_is_unused(environment, photo_index):
    command = [COMMAND, "serve", "--home", photo_index, "--port", "0", "--allow-url-queries"]
    process = subprocess.Popen(
        command,
        env=environment | {"https_proxy": "http://127.0.0.1:9"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first, second = process.stderr.readline(), process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert first.startswith("Pictures are fetched without the proxy")
    assert second.startswith("Index 'default' is open for queries")


def test_query_image_url_on_command_line_exits_2(mmsearch, photo_index):
    response = mmsearch("query", "image:https://a.example/b.jpg", "--home", photo_index, code=2)
    assert response.err == (
        "Error: https://a.example/b.jpg cannot be fetched: only a server fetches URLs."
        " Use a local file, or send the query to `mmsearch serve --allow-url-queries`.\n"
    )
