"""Tests of the resident server and of the commands that it runs for clients."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmsearch.core.errors import StateError
from mmsearch.core.settings import Settings
from mmsearch.resident import client, protocol, server
from mmsearch.resident.client import forward_command
from mmsearch.resident.protocol import build_compatibility_key, send, socket_path

pytestmark = pytest.mark.skipif(not protocol.is_supported(), reason="no Unix domain sockets")


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    # The path of a socket in tmp_path can be too long for the system.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder, "mmsearch")


@pytest.fixture
def index(tmp_path):
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


@pytest.fixture
def settings(tmp_path):
    return Settings(cache=tmp_path / "cache")


@pytest.fixture
def start_server(index, settings, monkeypatch):
    """Start servers in threads, without signal handlers; they stop with the test."""
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    threads = []

    def start(answer):
        ready = threading.Event()

        def run():
            server.serve(index, settings, answer, idle_s=1.0, on_ready=ready.set)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        assert ready.wait(10)

    yield start
    for thread in threads:
        thread.join(20)


def test_forward_command_returns_server_output_unchanged(start_server, index, settings):
    requests = []
    chunks = [(2, b"No good matches. Closest results:\n"), (1, bytes(range(256)) * 10_000)]

    def answer(request):
        requests.append(request)
        return chunks

    start_server(answer)
    assert forward_command(index, settings, ["query", "caf\udce9"]) == chunks
    (request,) = requests
    assert request.arguments == ["query", "caf\udce9"]
    assert request.cwd == os.getcwd()
    assert (request.stdout.encoding, request.stdout.is_tty) == (sys.stdout.encoding, False)


def test_forward_command_without_server_returns_none(index, settings):
    assert forward_command(index, settings, ["query", "x"]) is None


def test_forward_command_declined_request_returns_none(start_server, index, settings):
    start_server(lambda request: None)
    assert forward_command(index, settings, ["query", "x"]) is None


@pytest.mark.parametrize(
    "other",
    [{"version": "0.0.0"}, {"code": "/elsewhere"}, {"precision": "float32"}, {"python": "2.7"}],
)
def test_forward_command_different_compatibility_key_returns_none(
    start_server, index, settings, monkeypatch, other
):
    start_server(lambda request: pytest.fail("answered"))
    other_key = build_compatibility_key(index, settings) | other
    monkeypatch.setattr(client, "build_compatibility_key", lambda index, settings: other_key)
    assert forward_command(index, settings, ["query", "x"]) is None


def test_compatibility_key_depends_on_index_and_settings_except_home(index, settings, monkeypatch):
    own_key = build_compatibility_key(index, settings)
    assert build_compatibility_key(index, replace(settings, home=Path("/other"))) == own_key
    for other in ({"device": "cuda"}, {"blend": "x"}, {"cache": Path("/x")}, {"offline": True}):
        assert build_compatibility_key(index, replace(settings, **other)) != own_key
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert build_compatibility_key(index, settings) != own_key
    assert build_compatibility_key(index.parent, settings) != own_key


def test_forward_command_stale_socket_returns_none_until_server_replaces_it(
    start_server, index, settings, runtime
):
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale_socket:
        stale_socket.bind(str(socket_path(index)))
    assert forward_command(index, settings, ["query", "x"]) is None
    start_server(lambda request: [(1, b"new")])
    assert forward_command(index, settings, ["query", "x"]) == [(1, b"new")]


def test_forward_command_unresponsive_server_returns_none(index, settings, runtime, monkeypatch):
    monkeypatch.setattr(client, "ACK_TIMEOUT_S", 0.05)
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(index)))
        listener.listen()
        assert forward_command(index, settings, ["query", "x"]) is None


@pytest.mark.parametrize("said", [b"", b"\x00\x00\x00\x02hi", b"\xff\xff\xff\xff", b"\0\0\0\x02[]"])
def test_resident_server_malformed_request_keeps_serving(start_server, index, settings, said):
    start_server(lambda request: [(1, b"well")])
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(socket_path(index)))
        rude.sendall(said)
    assert forward_command(index, settings, ["query", "x"]) == [(1, b"well")]


def test_resident_server_client_disconnect_keeps_serving(start_server, index, settings):
    start_server(lambda request: [(1, b"x" * 10_000_000)])
    with socket.socket(socket.AF_UNIX) as hasty:
        hasty.connect(str(socket_path(index)))
        send(hasty, client._make_request(index, settings, ["query", "x"]))
        hasty.recv(1)
    assert forward_command(index, settings, ["query", "y"]) == [(1, b"x" * 10_000_000)]


def test_resident_server_socket_is_accessible_to_owner_only(start_server, index, runtime):
    start_server(lambda request: [])
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_path(index).stat().st_mode) == 0o600


def test_resident_server_shared_runtime_folder_raises_state_error(index, settings, runtime):
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with pytest.raises(StateError, match="is accessible to other users"):
        server.serve(index, settings, lambda request: None)
    assert forward_command(index, settings, ["query", "x"]) is None


def test_resident_server_request_of_other_user_is_not_answered(
    start_server, index, settings, monkeypatch
):
    start_server(lambda request: pytest.fail("answered"))
    monkeypatch.setattr(server, "is_same_user", lambda connection: False)
    assert forward_command(index, settings, ["query", "x"]) is None


def test_is_same_user_own_socket_pair_returns_true():
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert protocol.is_same_user(one)


def test_resident_server_second_instance_raises_state_error(start_server, index, settings):
    start_server(lambda request: None)
    with pytest.raises(StateError, match="already serves index 'index'"):
        server.serve(index, settings, lambda request: None)


def test_resident_server_idle_timeout_stops_it_and_removes_socket(index, settings):
    assert server.serve(index, settings, lambda request: None, idle_s=0.01) is None
    assert not socket_path(index).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_resident_server_signal_during_answer_stops_it(index, settings, runtime, number):
    program = f"""
import os, time
from pathlib import Path
from mmsearch.core.settings import Settings
from mmsearch.resident.server import serve
from mmsearch.cli.errors import run_command
def answer(call):
    run_command(lambda: (print("answering", flush=True), time.sleep(60)))
index, settings = Path({str(index)!r}), Settings(cache=Path({str(settings.cache)!r}))
print(serve(index, settings, answer, on_ready=lambda: print("ready", flush=True)))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        client_thread = threading.Thread(
            target=forward_command, args=(index, settings, ["query", "x"])
        )
        client_thread.start()
        assert process.stdout.readline() == "answering\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{int(number)}\n"
        assert process.wait(10) == 0
        client_thread.join(10)
    assert not socket_path(index).exists()


def test_socket_path_long_runtime_folder_uses_short_path(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 90)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    path = socket_path(tmp_path)
    assert len(os.fsencode(path)) <= protocol.MAX_SOCKET_PATH_BYTES
    assert path.parent.name == f"mmsearch-{os.getuid()}"


def test_resident_without_unix_sockets_server_raises_and_client_returns_none(
    index, settings, monkeypatch
):
    for module in (client, server):
        monkeypatch.setattr(module, "is_supported", lambda: False)
    with pytest.raises(StateError, match="Unix domain sockets, which this system does not have"):
        server.serve(index, settings, lambda request: None)
    assert forward_command(index, settings, ["query", "x"]) is None


def test_forward_command_busy_server_returns_none_after_timeout(
    start_server, index, settings, monkeypatch
):
    monkeypatch.setattr(client, "ACK_TIMEOUT_S", 0.05)
    started = threading.Event()

    def answer(request):
        started.set()
        time.sleep(0.5)
        return [(1, b"late")]

    start_server(answer)
    first = threading.Thread(target=forward_command, args=(index, settings, ["query", "x"]))
    first.start()
    assert started.wait(10)
    assert forward_command(index, settings, ["query", "y"]) is None
    first.join(10)
