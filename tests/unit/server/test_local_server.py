"""Tests of the local server and of the searches that commands send to it."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from mmsearch.core.errors import StateError
from mmsearch.core.settings import Settings
from mmsearch.server import local_server, local_socket
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.local_server import serve_local_socket
from mmsearch.server.local_socket import build_compatibility_key, socket_path

pytestmark = pytest.mark.skipif(not local_socket.is_supported(), reason="no Unix domain sockets")

COMMAND = {"command": "query", "text": ["x"]}


class FakeIndex:
    """Index that only a search function of a test uses."""

    name = "index"

    def release(self):
        pass

    def close(self):
        pass


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
def worker():
    with closing(IndexWorker(FakeIndex())) as worker:
        yield worker


@pytest.fixture
def start_server(index, settings, worker):
    """Start servers that answer with the value of a function, or that of ``search``."""
    with ExitStack() as stack:

        def start(answer=None, search=None, deadline_s=30.0, listen=None):
            search = search or (lambda index, parameters, folder, transcript: answer)
            return stack.enter_context(
                serve_local_socket(index, settings, worker, search, deadline_s, listen)
            )

        yield start


def search(index, settings, command=COMMAND):
    return local_socket.search(index, settings, command)


def answer_nothing(index, parameters, folder, transcript):
    pytest.fail("answered")


def test_local_search_returns_result_of_server_unchanged(start_server, index, settings):
    calls = []
    result = {"hits": [{"path": "caf\udce9 \u65e5", "score": 0.1 + 0.2}] * 20_000, "query": "a"}

    def answer(index, parameters, folder, transcript):
        calls.append((type(index), parameters, folder))
        return result

    start_server(search=answer)
    command = {"command": "similar", "image": Path("caf\udce9"), "k": 5}
    assert search(index, settings, command) == result
    assert calls == [(FakeIndex, command | {"image": "caf\udce9"}, Path.cwd())]


def test_local_search_recognizes_a_spoken_query_before_it_searches(start_server, index, settings):
    def listen(parameters, folder):
        return f"{parameters['speech']} in {folder}"

    start_server(
        search=lambda index, parameters, folder, transcript: {"heard": transcript}, listen=listen
    )
    spoken = {"command": "query", "speech": "question.wav"}
    assert search(index, settings, spoken) == {"heard": f"question.wav in {Path.cwd()}"}
    assert search(index, settings) == {"heard": None}


def test_local_search_that_cannot_be_recognized_returns_none(start_server, index, settings):
    def refuse(parameters, folder):
        raise StateError("nobody speaks")

    start_server(search=answer_nothing, listen=refuse)
    assert search(index, settings, {"command": "query", "speech": "silence.wav"}) is None


def test_local_search_of_server_without_recognizer_returns_none(start_server, index, settings):
    start_server(search=answer_nothing)
    assert search(index, settings, {"command": "query", "speech": "question.wav"}) is None


def test_local_search_without_server_returns_none(index, settings):
    assert search(index, settings) is None


@pytest.mark.parametrize("error", [StateError("gone"), ValueError("odd"), MemoryError()])
def test_local_search_failed_search_returns_none(start_server, index, settings, error):
    def fail(index, parameters, folder, transcript):
        raise error

    start_server(search=fail)
    assert search(index, settings) is None


@pytest.mark.parametrize(
    "other",
    [{"version": "0.0.0"}, {"code": "/elsewhere"}, {"precision": "float32"}, {"python": "2.7"}],
)
def test_local_search_different_compatibility_key_returns_none(
    start_server, index, settings, monkeypatch, other
):
    start_server(search=answer_nothing)
    other_key = build_compatibility_key(index, settings) | other
    monkeypatch.setattr(local_socket, "build_compatibility_key", lambda index, settings: other_key)
    assert search(index, settings) is None


def test_compatibility_key_depends_on_index_and_settings_except_home(index, settings, monkeypatch):
    own_key = build_compatibility_key(index, settings)
    assert build_compatibility_key(index, replace(settings, home=Path("/other"))) == own_key
    for other in ({"device": "cuda"}, {"blend": "x"}, {"cache": Path("/x")}, {"offline": True}):
        assert build_compatibility_key(index, replace(settings, **other)) != own_key
    assert build_compatibility_key(index.parent, settings) != own_key
    for name in ("HF_HUB_OFFLINE", "HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "/other")
            assert build_compatibility_key(index, settings) != own_key
    with monkeypatch.context() as patch:
        patch.setattr(time, "tzname", ("JST", "JST"))
        assert build_compatibility_key(index, settings) != own_key


def test_local_search_stale_socket_returns_none_until_server_replaces_it(
    start_server, index, settings, runtime
):
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale_socket:
        stale_socket.bind(str(socket_path(index)))
    assert search(index, settings) is None
    start_server({"query": "new"})
    assert search(index, settings) == {"query": "new"}


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100"])
def test_local_search_unresponsive_server_returns_none(index, settings, runtime, monkeypatch, said):
    monkeypatch.setattr(local_socket, "ACCEPT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(local_socket, "ANSWER_TIMEOUT_S", 0.05)
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(index)))
        listener.listen()

        def accept():
            connection, _ = listener.accept()
            connection.sendall(said)
            ended.wait(10)
            connection.close()

        ended = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        assert search(index, settings) is None
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 999 \r\n\r\n",
        b"\xff\xfe\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nnull",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n{}",
    ],
)
def test_local_search_malformed_response_returns_none(index, settings, runtime, said):
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path(index)))
        listener.listen()

        def accept():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

        thread = threading.Thread(target=accept)
        thread.start()
        assert search(index, settings) is None
        thread.join()


def post(body):
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", b""),
        (b"\x00\x00\x00\x02hi", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (post(b"[]"), b"400"),
        (post(b"\xff"), b"400"),
        (post(b'{"key": {}, "search": 5, "cwd": "/"}'), b"400"),
        (post(b'{"key": {}, "search": {}, "cwd": 5}'), b"400"),
        (post(b'{"key": {}, "search": {}, "cwd": "/"}'), b"409"),
    ],
)
def test_local_server_malformed_request_keeps_serving(start_server, index, settings, said, status):
    start_server({"query": "well"})
    with socket.socket(socket.AF_UNIX) as rude:
        rude.connect(str(socket_path(index)))
        rude.sendall(said)
        rude.shutdown(socket.SHUT_WR)
        assert rude.recv(1000)[9:12] == status
    assert search(index, settings) == {"query": "well"}


def test_local_server_client_disconnect_keeps_serving(start_server, index, settings):
    result = {"query": "x" * 10_000_000}
    start_server(result)
    key = build_compatibility_key(index, settings)
    message = json.dumps({"key": key, "search": COMMAND, "cwd": "/"}).encode()
    with socket.socket(socket.AF_UNIX) as hasty:
        hasty.connect(str(socket_path(index)))
        hasty.sendall(post(message))
        hasty.recv(1)
    assert search(index, settings) == result


def test_local_server_socket_is_accessible_to_owner_only(start_server, index, runtime):
    start_server()
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_path(index).stat().st_mode) == 0o600


def test_local_server_shared_runtime_folder_raises_state_error(
    start_server, index, settings, runtime
):
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with pytest.raises(StateError, match="is accessible to other users"):
        start_server()
    assert search(index, settings) is None


def test_local_server_request_of_other_user_is_not_answered(
    start_server, index, settings, monkeypatch
):
    start_server(search=answer_nothing)
    monkeypatch.setattr(local_server, "is_same_user", lambda connection: False)
    assert search(index, settings) is None


def test_local_search_server_of_other_user_is_not_asked(start_server, index, settings, monkeypatch):
    start_server(search=answer_nothing)
    monkeypatch.setattr(local_socket, "is_same_user", lambda connection: False)
    assert search(index, settings) is None


def test_is_same_user_own_socket_pair_returns_true():
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert local_socket.is_same_user(one)


def test_local_server_second_instance_raises_state_error(start_server, index, settings):
    start_server()
    with pytest.raises(StateError, match="already serves index 'index'"):
        start_server()


def test_local_server_counts_idle_time_and_removes_socket_at_end(
    index, settings, worker, monkeypatch
):
    began, go_on = threading.Event(), threading.Event()

    def answer(index, parameters, folder, transcript):
        began.set()
        go_on.wait(10)
        return {}

    with serve_local_socket(index, settings, worker, answer, 30.0) as app:
        time.sleep(0.02)
        assert app.idle_s >= 0.02
        client_thread = threading.Thread(target=search, args=(index, settings))
        client_thread.start()
        assert began.wait(10)
        assert app.idle_s == 0
        go_on.set()
        client_thread.join(10)
    assert not socket_path(index).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_local_server_signal_during_search_ends_process_in_time(index, settings, runtime, number):
    program = f"""
import time
from contextlib import closing
from pathlib import Path
from mmsearch.cli import serve
from mmsearch.core.settings import Settings
from mmsearch.server.batcher import IndexWorker
from mmsearch.server.local_server import serve_local_socket
from tests.unit.server.test_local_server import FakeIndex
def answer(index, parameters, folder, transcript):
    print("answering", flush=True)
    time.sleep(60)
def work():
    index, settings = Path({str(index)!r}), Settings(cache=Path({str(settings.cache)!r}))
    with closing(IndexWorker(FakeIndex())) as worker:
        with serve_local_socket(index, settings, worker, answer, 30.0):
            print("ready", flush=True)
            serve._wait()
serve._run_until_signal(work)
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout.readline() == "ready\n"
        client_thread = threading.Thread(target=search, args=(index, settings))
        client_thread.start()
        assert process.stdout.readline() == "answering\n"
        process.send_signal(number)
        assert process.wait(20) == (130 if number == signal.SIGINT else 1)
        client_thread.join(10)
    assert not socket_path(index).exists()


def test_socket_path_long_runtime_folder_uses_short_path(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 90)
    deep.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    path = socket_path(tmp_path)
    assert len(os.fsencode(path)) <= local_socket.MAX_SOCKET_PATH_BYTES
    assert path.parent.name == f"mmsearch-{os.getuid()}"


def test_local_server_without_unix_sockets_raises_and_search_returns_none(
    start_server, index, settings, monkeypatch
):
    for module in (local_socket, local_server):
        monkeypatch.setattr(module, "is_supported", lambda: False)
    with pytest.raises(StateError, match="Unix domain sockets, which this system does not have"):
        start_server()
    assert search(index, settings) is None


def test_local_search_busy_index_returns_none_after_timeout(
    start_server, index, settings, monkeypatch
):
    monkeypatch.setattr(local_server, "START_TIMEOUT_S", 0.05)
    began, go_on = threading.Event(), threading.Event()
    answered = []

    def answer(index, parameters, folder, transcript):
        answered.append(parameters["text"])
        began.set()
        go_on.wait(10)
        return {"query": "late"}

    start_server(search=answer)
    results = []
    first = threading.Thread(target=lambda: results.append(search(index, settings)))
    first.start()
    assert began.wait(10)
    assert search(index, settings, COMMAND | {"text": ["y"]}) is None
    go_on.set()
    first.join(10)
    # The first search may take longer than the second could wait, and the second is dropped.
    assert results == [{"query": "late"}]
    assert answered == [["x"]]


def test_local_search_beyond_deadline_returns_none(start_server, index, settings):
    go_on = threading.Event()
    start_server(search=lambda *_: {"late": go_on.wait(10)}, deadline_s=0.05)
    assert search(index, settings) is None
    go_on.set()
