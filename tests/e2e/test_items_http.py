"""A program keeps pictures in a server by ids of its own, over a socket."""

import base64
import json
import os
import signal
import threading
import time
from contextlib import suppress

import httpx
import pytest

import mmsearch as library
from mmsearch.core.errors import UnknownIndexError
from mmsearch.core.reports import Severity
from mmsearch.core.settings import Settings
from tests.e2e.test_http import serving
from tests.serve_process import ServerProcess
from tests.terminal import COMMAND

pytestmark = [pytest.mark.e2e, pytest.mark.enable_socket]

COUNT = 400


@pytest.fixture(scope="module")
def contents(photos):
    """Different contents of photographs."""
    pictures = sorted((p.read_bytes() for p in (photos / "photos").glob("*.jpg")), key=len)[:20]
    return [pictures[n % 20] + n.to_bytes(2, "big") for n in range(COUNT)]


def test_program_fills_a_new_index_of_a_server(mmsearch, environment, contents, tmp_path):
    """Commands find what it adds, also after the server has ended."""
    home = tmp_path / "home"
    command = [COMMAND, "serve", "--home", home, "--port", "0", "--create"]
    server = ServerProcess(command, environment, signal.SIGTERM)
    try:
        lines = [server.line() for _ in range(3)]
        assert lines[1] == "Created index 'default'.\n"
        url = lines[2].split(" at ")[1].split(";")[0]
        with library.Client(url) as client:
            assert client.search("a picture") == []
            keys = ["sku/1", "a b", "ü?#", "100%2F", "..", ".", "//"]
            report = client.add(contents[:7], keys, metadata=[{"n": n} for n in range(7)])
            assert (report.added, report.failed) == (7, ())
            for number, key in enumerate(keys):
                assert client.get(key).metadata == {"n": number}, key
            assert {item.key for item in client} == set(keys)
            hits = client.search("a picture", filters={"metadata.n": {"lt": 2}})
            assert {hit.key for hit in hits} == {"sku/1", "a b"}
            assert client.delete(["..", "//"]) == 2
        with library.Client(url, index="none") as client, pytest.raises(UnknownIndexError):
            client.add([contents[0]], ["a"])
    finally:
        server.end()
        server.process.communicate(timeout=60)
    done = mmsearch("query", "a picture", "--json", "--home", home, "--where", "metadata.n >= 0")
    assert {hit["key"] for hit in json.loads(done.out)["hits"]} == {*keys} - {"..", "//"}


def to_lines(contents):
    for number, content in enumerate(contents):
        data = base64.b64encode(content).decode()
        record = {"key": f"k/{number}", "data": data, "metadata": {"n": number}}
        yield json.dumps(record).encode() + b"\n"


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_server_killed_after_its_answers_has_made_each_write(environment, contents, tmp_path):
    home = tmp_path / "home"
    command = [COMMAND, "serve", "--home", home, "--port", "0", "--create"]
    server = ServerProcess(command, environment, signal.SIGKILL)
    try:
        url = [server.line() for _ in range(3)][2].split(" at ")[1].split(";")[0]
        items = f"{url}/v1/indexes/default/items"
        with httpx.Client(timeout=120) as client:
            for number in range(4):
                form = {"picture": contents[number], "record": (None, '{"texts": "a boat"}')}
                made = client.put(f"{items}/{number}?keep_originals=true", files=form)
                assert made.status_code == 201
            assert client.put(f"{items}/1", files={"picture": contents[9]}).status_code == 200
            changed = client.patch(f"{items}/2", json={"texts": "a mill", "metadata": {"n": 2}})
            assert changed.status_code == 200
            assert client.delete(f"{items}/3").status_code == 204
            os.killpg(server.process.pid, signal.SIGKILL)
    finally:
        server.process.kill()
        server.process.communicate(timeout=60)
    settings = Settings(home=home, cache=environment["MMSEARCH_CACHE"])
    with library.open_index("default", settings=settings) as index:
        assert all(finding.weight is Severity.NOTE for finding in index.check())
        assert sorted(item.key for item in index) == ["0", "1", "2"]
        assert index.read_original("0") == contents[0]
        assert index.get("1").size_bytes == len(contents[9])
        assert index.get("2").metadata == {"n": 2}
        assert [hit.key for hit in index.search("a mill", k=1, mode="text")] == ["2"]
        assert len(index.search("a picture", k=9)) == 3


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_server_killed_in_a_bulk_addition_leaves_whole_records(
    mmsearch, environment, contents, tmp_path
):
    home = tmp_path / "home"
    command = [COMMAND, "serve", "--home", home, "--port", "0", "--create"]
    server = ServerProcess(command, environment, signal.SIGKILL)
    try:
        url = [server.line() for _ in range(3)][2].split(" at ")[1].split(";")[0]
        items = f"{url}/v1/indexes/default/items"
        headers = {"Content-Type": "application/x-ndjson"}

        def send():
            with suppress(httpx.TransportError):
                httpx.post(items, content=to_lines(contents), headers=headers, timeout=120)

        sender = threading.Thread(target=send)
        sender.start()
        while httpx.get(f"{url}/v1/indexes/default").json()["pictures"] < 20:
            time.sleep(0.02)
        os.killpg(server.process.pid, signal.SIGKILL)
        sender.join()
    finally:
        server.process.kill()
        server.process.communicate(timeout=60)
    settings = Settings(home=home, cache=environment["MMSEARCH_CACHE"])
    with library.open_index("default", settings=settings) as index:
        assert all(finding.weight is Severity.NOTE for finding in index.check())
        kept = list(index)
        assert 20 <= len(kept) < COUNT
        for item in kept:
            number = item.metadata["n"]
            assert (item.key, item.size_bytes) == (f"k/{number}", len(contents[number]))
            assert index.thumbnail(item)
        assert len(index.search("a picture", k=COUNT)) == len(kept)
    with serving(environment, home) as again:
        items = f"{again.url}/v1/indexes/default/items"
        sent = httpx.post(items, content=to_lines(contents), headers=headers, timeout=120)
        assert sent.json() == {
            "added": COUNT - len(kept),
            "updated": 0,
            "unchanged": len(kept),
            "failed": [],
        }
