"""Clients that send requests and nonsense or hang up at random while the server indexes."""

import asyncio
import json
import random
import re
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.conftest import COMMAND
from tests.serve_process import run_serve

pytestmark = pytest.mark.enable_socket

CLIENTS, REQUESTS, SEED = 64, 6, 1
WITHIN_S = 40
FEW = 8
OPEN = re.compile(r"Index 'default' is open for queries at (http://\S+); Ctrl-C stops it\.\n")

NONSENSE = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"POST /v1/indexes/default/search HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
    b'Content-Length: 9\r\n\r\n{"query":',
    b"GET /v1/indexes/default/search?q=%00&limit=-1 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /v1/indexes/default/search?q=a&where=((((( HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"GET /v1/indexes/default/pictures/99999999999999999999 HTTP/1.1\r\nHost: HOST\r\n\r\n",
    b"POST /v1/indexes/default/search/picture HTTP/1.1\r\nHost: HOST\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 5\r\n\r\n--x--",
    b"BREW /coffee HTTP/9.9\r\nHost: HOST\r\n\r\n",
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def request_of(rng, host, ids):
    """Return a request and, if known, the picture that must come first in its answer."""
    kind = rng.random()
    picture = rng.choice(ids)
    if kind < 0.35:
        body = json.dumps({"like": [picture], "limit": 3}).encode()
        head = (
            f"POST /v1/indexes/default/search HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body, picture
    if kind < 0.75:
        path = rng.choice(
            (
                "/v1/indexes/default/search?q=a+windmill&limit=50",
                f"/v1/indexes/default/pictures/{picture}/thumbnail",
                f"/v1/indexes/default/pictures/{picture}/original",
                "/?q=water",
                "/healthz",
            )
        )
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), None
    return rng.choice(NONSENSE).replace(b"HOST", host.encode()), None


async def ask(rng, address, content, first, seen):
    """Send a request, and read its answer or hang up before it."""
    host, port = address
    reader, writer = await asyncio.open_connection(host, port)
    aborts = rng.random() < 0.4
    try:
        if aborts and rng.random() < 0.5:
            writer.write(content[: rng.randrange(len(content))])
            await writer.drain()
            return
        writer.write(content)
        await writer.drain()
        if aborts:
            await asyncio.sleep(rng.random() * 0.05)
            return
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN_S)
        status = int(STATUS.match(head)[1])
        seen.append(status)
        size = re.search(rb"(?i)content-length: (\d+)", head)
        body = await asyncio.wait_for(reader.readexactly(int(size[1])), WITHIN_S) if size else b""
        if first is not None and status == 200:
            assert json.loads(body)["hits"][0]["id"] == first, body
    except (ConnectionError, asyncio.IncompleteReadError):
        # The server may hang up on nonsense.
        seen.append(0)
    finally:
        if aborts:
            writer.transport.abort()
        writer.close()


async def storm(address, ids):
    """Run all clients at once; return the statuses that they received."""
    seen = []

    async def client(number):
        rng = random.Random(f"{SEED} {number}")
        for _ in range(REQUESTS):
            await ask(rng, address, *request_of(rng, f"{address[0]}:{address[1]}", ids), seen)

    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number))
    return seen


def held(process):
    """Count the open files and threads of a process."""
    folder = Path(f"/proc/{process}")
    return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))


def is_back(now, before):
    """Return True if the counts are near those before, else both; a leak costs hundreds."""
    return all(more - less <= FEW for more, less in zip(now, before, strict=True)) or (now, before)


def wait_until(holds):
    """Wait until a function returns True; after a time limit, fail with its result."""
    ends = time.monotonic() + WITHIN_S
    while (found := holds()) is not True:
        assert time.monotonic() < ends, found
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_server_indexing_under_request_storm_finishes_without_leaks(
    environment, mmsearch, photos, tmp_path
):
    folder, home = tmp_path / "photos", tmp_path / "home"
    folder.mkdir()
    chosen = sorted(photos.rglob("*.jpg"))
    for path in chosen[:16]:
        shutil.copy2(path, folder / path.name)
    mmsearch("index", folder, "--home", home, "--model", "starter")
    command = [COMMAND, "serve", "--home", home, "--port", "0"]
    with run_serve(command, environment) as server:
        url = OPEN.fullmatch(server.line())[1]
        address = ("127.0.0.1", urlsplit(url).port)
        with httpx.Client(base_url=url, timeout=WITHIN_S) as client:
            answer = client.get("/v1/indexes/default/search", params={"q": "a dog", "limit": 50})
            ids = [hit["id"] for hit in answer.json()["hits"]]
            assert len(ids) == 16
            # Threads and files that first requests open exist before they are counted.
            asyncio.run(storm(address, ids))
            client.post("/v1/indexes/default/jobs", json={"source": folder.name})
        wait_until(lambda: _counted(url))
        before = held(server.process.pid)
        for path in chosen[16:40]:
            shutil.copy2(path, folder / path.name)
        with httpx.Client(base_url=url, timeout=WITHIN_S) as client:
            job = client.post("/v1/indexes/default/jobs", json={"source": folder.name}).json()
            seen = asyncio.run(storm(address, ids))
            assert len(seen) > CLIENTS * REQUESTS / 3
            assert {status for status in seen if status >= 500} <= {503}
            assert client.get("/healthz").json() == {"ok": True}
            at = f"/v1/indexes/default/jobs/{job['id']}"
            wait_until(lambda: client.get(at).json()["state"] != "running")
            assert client.get(at).json()["state"] == "finished"
        wait_until(lambda: is_back(held(server.process.pid), before))
        assert _found(url) == 40
    assert "is sound" in mmsearch("check", "--home", home).err


def _counted(url):
    jobs = httpx.get(f"{url}/v1/indexes/default/jobs").json()
    return all(job["state"] != "running" for job in jobs)


def _found(url):
    params = {"q": "a dog", "limit": "100", "fold": "false"}
    answer = httpx.get(f"{url}/v1/indexes/default/search", params=params)
    return len(answer.json()["hits"])
