"""Full, failing and read-only disks."""

import base64
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest

from mmsearch.storage.layout import IndexLayout
from tests.faults.conftest import TOYS, content_of, index_in_process, same, verify
from tests.faults.test_power_cut import can_trace
from tests.http_client import http_client
from tests.property_budget import share_of


def mounted(folder, options):
    """Mount memory as a disk, which only root may; return True on success."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path):
    """Function that mounts a small disk of a size in KiB."""
    folder = tmp_path / "disk"

    def make(size):
        if os.name == "nt" or os.geteuid() or not mounted(folder, f"size={size}k"):
            pytest.skip("only root can mount a small disk")
        return folder

    yield make
    subprocess.run(["umount", "-l", folder], capture_output=True, check=False)


def fill_disk(disk, size_kb, folder, undisturbed, run):
    """Index a folder on a disk that is too small, then on one that has grown."""
    home = disk(size_kb)
    done = run(folder, home)
    if done.returncode == 3:
        assert same(content_of(home), undisturbed)
        return
    assert done.returncode == 1
    sentence = done.stderr.decode()
    assert "Traceback" not in sentence
    assert "room left" in sentence or "disk is full" in sentence, sentence
    verify(home, undisturbed)
    subprocess.run(["mount", "-o", "remount,size=20000k", home], check=True)
    index_in_process(folder, home)
    assert same(content_of(home), undisturbed)


@pytest.mark.parametrize("size_kb", [60, 120, 160, 180, 200, 210, 220, 230, 240, 260, 400])
def test_index_on_full_disk_reports_it_and_completes_after_growth(
    disk, size_kb, few_toys, undisturbed_toys, run_indexer
):
    fill_disk(disk, size_kb, few_toys, undisturbed_toys, partial(run_indexer, **TOYS))


def test_index_of_photographs_on_full_disk_reports_it_and_completes_after_growth(
    disk, few_photos, undisturbed, run_indexer
):
    fill_disk(disk, 240, few_photos, undisturbed, run_indexer)


def test_index_on_read_only_disk_exits_1_and_queries_still_work(
    disk, few_photos, undisturbed, run_indexer, mmsearch
):
    home = disk(20_000)
    run_indexer(few_photos, home)
    subprocess.run(["mount", "-o", "remount,ro", home], check=True)
    done = run_indexer(few_photos, home)
    assert done.returncode == 1
    assert b"read-only" in done.stderr or b"cannot be written" in done.stderr, done.stderr
    verify(home, undisturbed)
    assert len(mmsearch("query", "a photograph", "--home", home).out.splitlines()) == 10
    mmsearch("check", "--home", home)


def fill_up(path):
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 1024)


def test_writes_over_http_on_full_disk_change_nothing_and_succeed_with_space(
    disk, few_photos, environment, monkeypatch
):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    first, second, third = (path.read_bytes() for path in sorted(few_photos.glob("*.jpg"))[2:5])
    folder = disk(20_000)
    at = "/v1/indexes/default/items"
    lines = "".join(
        json.dumps({"key": key, "data": base64.b64encode(content).decode()}) + "\n"
        for key, content in (("two", second), ("three", third))
    )
    requests = {
        "put": ("PUT", f"{at}/two", {"files": {"picture": second}}),
        "bulk": (
            "POST",
            at,
            {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}},
        ),
        "patch": ("PATCH", f"{at}/one", {"json": {"texts": "a boat", "metadata": {"n": 1}}}),
        "delete": ("DELETE", f"{at}/one", {}),
    }
    with http_client(folder / "home") as client:
        assert client.put(f"{at}/one", files={"picture": first}).status_code == 201
        before = client.get(at).json()
        fill_up(folder / "filler")
        for name, (method, path, sent) in requests.items():
            answer = client.request(method, path, **sent)
            assert answer.status_code == 507, (name, answer.text)
            assert "full" in answer.json()["detail"], answer.text
            assert client.get(at).json() == before
            assert client.get("/v1/indexes/default/search?q=boat").status_code == 200
        (folder / "filler").unlink()
        statuses = [
            client.request(m, path, **sent).status_code for m, path, sent in requests.values()
        ]
        assert statuses == [201, 200, 200, 204]
        assert {item["key"] for item in client.get(at).json()["items"]} == {"two", "three"}


STEP = {"fsync": 1, "write": 1, "pwrite64": 19}
COUNT = 800
TOY = """
import os, sys
from pathlib import Path
from mmsearch.core.errors import MMSearchError
from mmsearch.storage import segments
from mmsearch.storage.layout import IndexLayout
from mmsearch.core.results import IndexRequest
from tests.toy_index import toy_indexer
# strace selects calls by the names of the files.
segments.new_segment_name = lambda n: f"segments/{n:06d}.vectors"
try:
    with toy_indexer(IndexLayout(Path(sys.argv[1])), vector_index="faiss_flat") as indexer:
        indexer.run(IndexRequest(os.fsencode(sys.argv[2])))
except (OSError, MMSearchError) as error:
    print(type(error).__name__, error)
    sys.exit(1)
"""


@pytest.mark.skipif(not can_trace(), reason="strace is not here, or may not trace")
@pytest.mark.parametrize("call", ["fsync", "write", "pwrite64"])
def test_index_with_io_error_at_nth_call_leaves_readable_index(call, tmp_path):
    """Fail the n-th call with EIO: no traceback, and committed vectors stay readable."""
    from tests.faults.test_power_cut import HERE, vectors_of

    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abcdef":
        (photos / f"{name}.toy").write_text(name)
    failed = 0
    for count in share_of(range(1, COUNT, STEP[call])):
        folder = tmp_path / "index"
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}",
             *watched(folder), "-e", f"inject={call}:error=EIO:when={count}",
             sys.executable, "-c", TOY, str(folder), str(photos)],
            cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE)},
            capture_output=True, check=False,
        )  # fmt: skip
        failed += done.returncode
        assert b"Traceback" not in done.stderr, done.stderr
        layout = IndexLayout(folder)
        if layout.exists():
            held = vectors_of(layout)
            assert done.returncode or len(held) == 6
        if not done.returncode:
            break
    assert failed
    assert not done.returncode


def watched(folder):
    """Return strace options that restrict calls to the index's own files."""
    files = ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite.tmp", "catalog.sqlite.tmp-wal",
             "catalog.sqlite.tmp-journal", "catalog.sqlite-journal",
             "catalog.seal.tmp", "segments/000001.vectors.tmp", "ann/000001.faiss.tmp",
             "segments", "ann"]  # fmt: skip
    return [part for name in files for part in ("-P", str(folder / name))]
