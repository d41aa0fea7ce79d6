"""Servers of one index behind a balancer: any of them answers, sees changes, and may die."""

import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.balancer import run_balancer
from tests.e2e.test_proxy import free_port, nginx_settings, replaced, running_nginx
from tests.faults.conftest import COMMAND
from tests.serve_process import ServerProcess

pytestmark = pytest.mark.enable_socket

GUIDE = Path(__file__).parents[2] / "docs/how-to/many-readers.md"
TOKEN = "a token of both servers"  # noqa: S105


@contextmanager
def run_servers(home, environment, *options, count=2):
    """Run servers of the index of a home; yield them and their URLs."""
    command = [COMMAND, "serve", "--home", str(home), "--port", "0", "--token", TOKEN, *options]
    with ExitStack() as stack:
        servers = []
        for _ in range(count):
            server = ServerProcess(command, environment, signal.SIGTERM)
            stack.callback(server.process.communicate)
            stack.callback(server.process.kill)
            servers.append(server)
        urls = []
        for server in servers:
            line = server.line()
            while " open for queries at " not in line:
                assert line, server.process.poll()
                line = server.line()
            urls.append(re.search(r"http://[\d.:]+", line)[0])
        # The second one cannot have the socket of the index for commands, and says so.
        yield servers, urls


@pytest.fixture
def home(few_photos, mmsearch, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(few_photos, folder)
    mmsearch("index", folder, "--home", tmp_path / "home", "--model", "starter", code=3)
    return tmp_path / "home"


def headers():
    return {"Authorization": f"Bearer {TOKEN}"}


def test_every_server_answers_and_finds_new_pictures_soon(
    home, environment, photos, mmsearch, tmp_path
):
    with run_servers(home, environment) as (_, urls), run_balancer(urls) as (url, counts):
        statuses, stop = [], threading.Event()

        def search():
            with httpx.Client(headers=headers(), timeout=60) as client:
                while not stop.is_set():
                    answer = client.get(f"{url}/v1/indexes/default/search", params={"q": "a dog"})
                    hits = answer.json().get("hits", [])
                    ids = [hit["id"] for hit in hits]
                    statuses.append((answer.status_code, len(ids) == len(set(ids)) > 0))

        thread = threading.Thread(target=search)
        thread.start()
        try:
            new = sorted(photos.rglob("*.jpg"))[100]
            shutil.copy(new, tmp_path / "photos" / "brand-new.jpg")
            (tmp_path / "photos" / "brand-new.txt").write_text("an unheard-of gryphon")
            mmsearch("index", tmp_path / "photos", "--home", home)
            for server in urls:
                body = {"query": "gryphon", "limit": 1}
                path = f"{server}/v1/indexes/default/search"
                found = httpx.post(path, json=body, headers=headers(), timeout=60).json()
                assert found["hits"][0]["path"].endswith("brand-new.jpg")
        finally:
            stop.set()
            thread.join()
        assert set(statuses) == {(200, True)}
        assert all(count > 2 for count in counts.values())


def test_sessions_cursors_uploads_and_thumbnails_need_no_particular_server(
    home, environment, photos
):
    with (
        run_servers(home, environment) as (_, urls),
        run_balancer(urls) as (url, counts),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        assert client.get("/v1/indexes").status_code == 401
        # The session that one server begins is valid at the other one.
        assert client.post("/session", data={"token": TOKEN}).status_code == 303
        assert {client.get("/v1/indexes").status_code for _ in range(4)} == {200}
        pages, cursor = [], None
        picture = sorted(photos.rglob("*.jpg"))[60].read_bytes()
        for _ in range(4):
            form = {"limit": "3"} | ({} if cursor is None else {"cursor": cursor})
            answer = client.post(
                "/v1/indexes/default/search/picture",
                files={"picture": picture},
                data=form,
                headers={"Origin": url},
            )
            assert answer.status_code == 200, answer.text
            pages += answer.json()["hits"]
            cursor = answer.json()["next_cursor"]
        assert [hit["rank"] for hit in pages] == list(range(1, 13))
        assert len({hit["id"] for hit in pages}) == 12
        link = pages[0]["links"]["thumbnail"]
        first, second = (client.get(link) for _ in range(2))
        assert (first.content, first.headers["etag"]) == (second.content, second.headers["etag"])
        assert all(counts.values())


def test_killed_server_is_replaced_by_the_other_one(home, environment):
    with run_servers(home, environment) as (servers, urls), run_balancer(urls) as (url, counts):
        path = f"{url}/v1/indexes/default/search"

        def search():
            return httpx.get(path, params={"q": "a dog"}, headers=headers(), timeout=60)

        before = search().json()["hits"]
        servers[0].process.kill()
        servers[0].process.wait()
        answers = [search() for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["hits"] == before for answer in answers)
        assert counts[urls[1]] >= 6


def test_stopping_server_is_not_ready_and_answers_until_it_is_gone(home, environment):
    with run_servers(home, environment, "--drain", "3", count=1) as ((server,), (url,)):
        with httpx.Client(base_url=url, headers=headers(), timeout=60) as client:
            assert client.get("/readyz").status_code == 200
            assert "connection" not in client.get("/healthz").headers
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            while (ready := client.get("/readyz")).status_code == 200:
                assert time.monotonic() - started < 2
                time.sleep(0.02)
            assert ready.status_code == 503
            assert ready.json()["detail"] == (
                "The server is stopping. Send requests to another one."
            )
            answer = client.get("/v1/indexes/default/search", params={"q": "a dog"})
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert client.get("/healthz").status_code == 200
        assert server.process.wait(timeout=30) == 0
        assert 2.9 <= time.monotonic() - started < 12


def test_second_signal_ends_draining(home, environment):
    with run_servers(home, environment, "--drain", "300", count=1) as ((server,), (url,)):
        server.process.send_signal(signal.SIGTERM)
        while httpx.get(f"{url}/readyz").status_code == 200:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0


def test_index_in_a_folder_that_cannot_be_written_is_served(home, environment, tmp_path):
    # Root may write anywhere, so the folder is mounted read-only.
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    script = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && shift 2 && exec "$@"'
    query = [COMMAND, "query", "a dog", "--home", mounted, "--paths", "-k", "3"]
    unshare = ["unshare", "-m", "sh", "-c", script, "sh", home, mounted]
    done = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounts are not allowed here")
    done = subprocess.run([*unshare, *query], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [COMMAND, "serve", "--home", mounted, "--port", "0", "--token", TOKEN]
    server = ServerProcess([*unshare, *command], environment, signal.SIGTERM)
    try:
        line = server.line()
        while " open for queries at " not in line:
            assert line
            line = server.line()
        url = re.search(r"http://[\d.:]+", line)[0]
        found = httpx.get(
            f"{url}/v1/indexes/default/search",
            params={"q": "a dog", "limit": 3},
            headers=headers(),
            timeout=60,
        ).json()
        paths = [hit["path"] for hit in found["hits"]]
        assert paths == done.stdout.decode().splitlines()
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.communicate(timeout=60)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_of_the_guide_goes_on_with_the_servers_that_are_left(home, environment, tmp_path):
    (block,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    folder, port = tmp_path / "nginx", free_port()
    folder.mkdir()
    with run_servers(home, environment) as (servers, urls):
        places = {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "server_name photos.example;": "",
            "10.0.0.1:7788": urls[0].removeprefix("http://"),
            "10.0.0.2:7788": urls[1].removeprefix("http://"),
        }
        settings = folder / "nginx.conf"
        settings.write_text(nginx_settings(folder, replaced(block, places)))
        checked = subprocess.run(
            ["nginx", "-t", "-c", settings, "-e", folder / "errors"],
            capture_output=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        with (
            running_nginx(settings, port),
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers(), timeout=60
            ) as client,
        ):
            path = "/v1/indexes/default/search"
            body = {"query": "a dog", "limit": 3}
            before = client.post(path, json=body).json()["hits"]
            assert client.get("/v1/indexes/default/jobs").json() == []
            servers[1].process.kill()
            servers[1].process.wait()
            answers = [client.post(path, json=body) for _ in range(6)]
            assert {answer.status_code for answer in answers} == {200}
            assert all(answer.json()["hits"] == before for answer in answers)
