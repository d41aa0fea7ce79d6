"""A server answers in time and ends in time, whatever it is doing."""

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from mmsearch.cli.shutdown import UNFINISHED_MESSAGE
from tests.terminal import COMMAND

pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.enable_socket]

SHUTDOWN_TIMEOUT_S = 8.0
"""The promised limit is four seconds; a busy machine may need twice as long."""

UNFINISHED_LINE = UNFINISHED_MESSAGE.decode()
CLOSED_LINE = "Index 'default' is closed.\n"
TIMEOUT_DETAIL = (
    "The request took longer than the server allows. Request less, or retry when the server is less"
    " busy."
)


@contextmanager
def blocked(what, environment, home, *options, verb="serve", **pipes):
    """Run a server in which the operation ``what`` never ends; it has `wait_until_blocked`."""
    marker = Path(tempfile.mkdtemp()) / "hanging"
    command = [
        sys.executable,
        "-m",
        "tests.hanging_command",
        what,
        verb,
        "--home",
        str(home),
        *options,
    ]
    process = subprocess.Popen(
        command,
        env=environment | {"HANGING": str(marker)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).parents[2],
        text=True,
        **pipes,
    )

    def wait_until_blocked():
        until = time.monotonic() + 60
        while not marker.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)

    process.wait_until_blocked = wait_until_blocked
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(marker.parent)


@contextmanager
def blocked_server(what, environment, home, deadline_s="2"):
    options = ("--port", "0", "--deadline", deadline_s)
    # A thumbnail that another test has cached would not be decoded.
    environment = environment | {"MMSEARCH_THUMBNAILS_MB": "0"}
    with blocked(what, environment, home, *options) as process:
        line = process.stderr.readline()
        assert "is open for queries at" in line, line + process.stderr.read()
        url = line.split(" at ")[1].split(";")[0]
        with httpx.Client(base_url=f"{url}", timeout=30) as client:
            yield process, client


def end(process, number=signal.SIGTERM):
    """Signal a process; return its exit code and stderr, and assert that its session is gone."""
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < SHUTDOWN_TIMEOUT_S
    assert list_session_pids(process.pid) == []
    return process.returncode, said


def list_session_pids(session):
    """List the processes of a session, after some seconds for those that end by themselves."""
    for _ in range(50):
        found = subprocess.run(
            ["ps", "-o", "pid=,args=", "-s", str(session)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.splitlines()
        if not found:
            break
        time.sleep(0.1)
    return found


ASKED = {
    "search": "/search?q=block",
    "encoder": "/search?q=block",
    "sql": "/search?q=boat&min_width=3",
    "decoder": "/pictures/3/thumbnail",
}


@pytest.mark.parametrize("what", ASKED)
def test_server_blocked_request_gets_503_and_sigterm_ends_server(environment, photo_index, what):
    with blocked_server(what, environment, photo_index) as (process, client):
        answers = []

        def ask():
            answers.append(client.get(f"/v1/indexes/default{ASKED[what]}"))

        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.5)
        assert client.get("/healthz", timeout=5).json() == {"ok": True}
        for thread in asking:
            thread.join()
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"] == TIMEOUT_DETAIL
        code, said = end(process)
        # SQLite and the workers can be cancelled; a sleeping thread cannot.
        ends_well = what in ("sql", "decoder")
        assert (code, said) == ((0, CLOSED_LINE) if ends_well else (1, UNFINISHED_LINE))


def test_server_after_cancelled_search_answers_next_search(environment, photo_index):
    with blocked_server("sql", environment, photo_index) as (process, client):
        at = "/v1/indexes/default/search"
        assert client.get(at, params={"q": "boat", "min_width": 3}).status_code == 503
        assert client.get(at, params={"q": "boat"}).status_code == 200
        assert end(process) == (0, CLOSED_LINE)


def test_server_endless_job_and_slow_clients_do_not_block_shutdown(environment, photo_index):
    with blocked_server("job", environment, photo_index, "8") as (process, client):
        started = client.post("/v1/indexes/default/jobs", json={"source": "photos"})
        assert started.status_code == 202, started.text
        address = (client.base_url.host, client.base_url.port)
        slow = [socket.create_connection(address) for _ in range(64)]
        for number, one in enumerate(slow):
            events = f"/v1/indexes/default/jobs/{started.json()['id']}/events"
            path = events if number % 2 else "/v1/indexes/default/search?q=boat"
            head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            one.sendall(head.encode() + (b"\r\n" if number % 2 else b""))
        time.sleep(0.5)
        assert client.get("/healthz", timeout=5).json() == {"ok": True}
        # The deadline does not apply to events: they continue while the job runs.
        time.sleep(8)
        assert slow[1].recv(4096).startswith(b"HTTP/1.1 200 OK")
        assert end(process) == (1, UNFINISHED_LINE)
        for one in slow:
            one.close()


@pytest.mark.parametrize("options", [("--port", "0"), ("--no-http",)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_serve_signaled_during_model_load_at_start_ends_in_time(
    environment, photo_index, options, number, code
):
    with blocked("start", environment, photo_index, *options) as process:
        process.wait_until_blocked()
        assert end(process, number)[0] in (code, 0 if number == signal.SIGTERM else 130)


def test_query_with_stuck_server_prints_hits_without_it(mmsearch, environment, photo_index):
    with blocked_server("search", environment, photo_index) as (process, client):
        # This request makes sure that the server is stuck before the command asks.
        assert client.get(f"/v1/indexes/default{ASKED['search']}").status_code == 503
        printed = mmsearch("query", "block", "-k", "1", "--home", photo_index)
        assert printed.out.count("\n") >= 1
        assert end(process) == (1, UNFINISHED_LINE)


def test_server_idle_interrupted_closes_index_and_exits_130(environment, photo_index):
    with blocked_server("nothing", environment, photo_index, "30") as (process, client):
        assert client.get("/v1/indexes/default/search?q=boat").status_code == 200
        assert end(process, signal.SIGINT) == (130, CLOSED_LINE)


CALL = (
    '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    '"capabilities":{},"clientInfo":{"name":"test","version":"1"}}}\n'
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
    '{"name":"search_images","arguments":{"query":"block"}}}\n'
)


@pytest.mark.parametrize("how", ["end of input", "SIGTERM", "SIGINT"])
def test_mcp_endless_call_ends_on_signal_or_end_of_input(environment, photo_index, how):
    with blocked("search", environment, photo_index, verb="mcp", stdin=subprocess.PIPE) as process:
        process.stdin.write(CALL)
        process.stdin.flush()
        assert '"id":0' in process.stdout.readline()
        process.wait_until_blocked()
        began = time.monotonic()
        if how == "end of input":
            process.stdin.close()
            process.stdin = None
            process.wait(timeout=60)
            assert time.monotonic() - began < 20
            assert process.returncode == 1
        else:
            code, _ = end(process, getattr(signal, how))
            assert code == 128 + getattr(signal, how)


def crafted(folder, photo_index):
    """Copy an index, with an endless view in place of its settings table."""
    shutil.copytree(photo_index, folder)
    with closing(sqlite3.connect(folder / "default" / "catalog.sqlite")) as connection:
        connection.executescript(
            "DROP TABLE settings; CREATE VIEW settings (key, value) AS"
            " WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
            " SELECT 'encoder', sum(x) FROM n"
        )
    # Writers compare a catalog with its seal before they read it.
    (folder / "default" / "catalog.seal").unlink()
    return folder


@pytest.mark.parametrize(
    "verb", [("query", "a boat"), ("status",), ("query", "--like", "1"), ("index",)]
)
def test_command_catalog_with_foreign_view_exits_1_naming_it(mmsearch, photo_index, tmp_path, verb):
    home = crafted(tmp_path / "home", photo_index)
    more = [tmp_path] if verb == ("index",) else []
    completed = mmsearch(*verb, *more, "--home", home, code=1)
    assert completed.out == ""
    assert completed.err.splitlines()[-1] == (
        f"Error: {home}/default/catalog.sqlite holds an object that mmsearch did not create:"
        " CREATE VIEW settings. Run 'mmsearch repair' to rebuild the catalog without it."
    )


def test_serve_help_lists_deadline_option():
    shown = subprocess.run([COMMAND, "serve", "--help"], capture_output=True, check=True).stdout
    assert b"--deadline" in shown
