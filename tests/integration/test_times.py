"""Files with extreme modification dates: before 1677, after 2262, after the year 9999."""

import json
import os
import shutil
import tempfile
from dataclasses import astuple
from pathlib import Path

import pytest

import mmsearch as library
from mmsearch.core.files import MAX_MTIME_NS, MIN_MTIME_NS
from mmsearch.core.filters import Filters
from mmsearch.indexing import file_reader
from mmsearch.modalities import _folder
from mmsearch.modalities.image import build
from tests.http_client import http_client

MEMORY = "/dev/shm"  # noqa: S108 - a file system that stores any date
SECOND = 10**9
YEAR = 31_556_952
DATES = {
    "of-year-1.jpg": -1969 * YEAR,
    "of-1600.jpg": -370 * YEAR,
    "of-1677.jpg": -292 * YEAR,
    "of-1969.jpg": -1,
    "of-2262.jpg": 292 * YEAR,
    "of-2300.jpg": 330 * YEAR,
    "of-2446.jpg": 15_032_385_535,
    "of-9999.jpg": 8029 * YEAR,
    "of-300000.jpg": 298_030 * YEAR,
}


@pytest.fixture(params=["disk", "memory"], scope="module")
def folder(request, tmp_path_factory, photos):
    """Pictures with such dates, as far as the file system stores them; a tmpfs stores all."""
    if request.param == "disk":
        yield fill(tmp_path_factory.mktemp("dated"), photos)
    elif os.access(MEMORY, os.W_OK):
        with tempfile.TemporaryDirectory(dir=MEMORY) as made:
            yield fill(Path(made), photos)
    else:
        pytest.skip("there is no /dev/shm here")


def fill(folder, photos):
    for name, path in zip(DATES, sorted((photos / "photos").iterdir()), strict=False):
        shutil.copy(path, folder / name)
        sidecar = folder / f"{name}.txt"
        sidecar.write_text(f"the caption {name.replace('.', ' ')}")
        for dated in (folder / name, sidecar):
            os.utime(dated, ns=(0, DATES[name] * SECOND))
    return folder


@pytest.fixture(scope="module")
def home(folder, mmsearch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    mmsearch("index", folder, "--home", home, "--model", "starter")
    return home


@pytest.fixture
def index(home):
    with library.open_index(home=home) as index:
        yield index


def test_extreme_dates_second_index_run_reads_no_file(index, folder, monkeypatch):
    monkeypatch.setattr(file_reader, "hash_source_file", None)
    report = index.add_folder(folder)
    assert (report.unchanged, report.added, report.changed) == (len(DATES), 0, 0)
    assert (report.failed, report.retold) == ((), 0)


def test_extreme_dates_source_check_finds_no_change(index):
    assert list(index.check(sources=True)) == []


def test_extreme_dates_are_clamped_in_hits_and_filterable(index, folder):
    shown = {hit.path.name: hit.modified_at for hit in index.search("a photograph", k=50)}
    for name, seconds in DATES.items():
        held = (folder / name).stat().st_mtime_ns
        assert MIN_MTIME_NS <= shown[name] * SECOND <= MAX_MTIME_NS + 1e3
        if MIN_MTIME_NS <= held <= MAX_MTIME_NS:
            assert shown[name] == pytest.approx(held / SECOND)
        assert (shown[name] < 0) == (seconds < 0)
    late = names(index, Filters(after="2100-01-01T00:00:00", file_dates=True))
    assert late == {name for name, seconds in DATES.items() if seconds > 200 * YEAR}
    early = names(index, Filters(before="1970-01-01T00:00:00", file_dates=True))
    assert early >= {name for name, seconds in DATES.items() if seconds < -YEAR}


def names(index, filters):
    return {hit.path.name for hit in index.search("a photograph", k=50, filters=filters)}


def test_extreme_dates_command_line_shows_all_pictures(home, folder, mmsearch, tmp_path):
    again = mmsearch("index", folder, "--home", home)
    assert f"{len(DATES)} unchanged" in again.out + again.err
    shown = mmsearch("query", "a photograph", "-k", "50", "--home", home)
    assert "2262-04-11" in shown.out
    completed = mmsearch("query", "a photograph", "-k", "50", "--home", home, "--json")
    assert len(json.loads(completed.out)["hits"]) == len(DATES)
    mmsearch("query", "a photograph", "-k", "50", "--home", home, "--sheet", tmp_path / "sheet.png")
    mmsearch("status", "--home", home)
    mmsearch("check", "--sources", "--home", home)


def test_extreme_dates_server_returns_originals_and_records(home, folder):
    with http_client(home) as server:
        answer = server.get("/v1/indexes/default/search", params={"q": "a photograph", "limit": 50})
        hits = answer.json()["hits"]
        assert len(hits) == len(DATES)
        for hit in hits:
            original = server.get(hit["links"]["original"])
            path = folder / hit["path"].rsplit("/", 1)[1]
            assert (original.status_code, original.content) == (200, path.read_bytes())
            assert server.get(hit["links"]["thumbnail"]).status_code == 200
            assert server.get(hit["links"]["self"]).json()["modified_at"] == hit["modified_at"]


def test_walk_file_time_beyond_limits_is_clamped(tmp_path, photos, monkeypatch):
    """A patched stat() reports the time, because no real file system stores it."""
    path = shutil.copy(min((photos / "photos").iterdir()), tmp_path)
    look = os.stat

    class Facts:
        def __init__(self, facts):
            self.st_size, self.st_mtime_ns, self.st_ctime_ns = facts.st_size, 10**29, 10**29

    with monkeypatch.context() as patch:
        patch.setattr(_folder.os, "stat", lambda *a, **b: Facts(look(*a, **b)))
        (seen,) = _folder.walk(os.fsencode(tmp_path), modalities=[build()])
        (file,) = seen.list_files()
    assert MAX_MTIME_NS - 2**40 < file.mtime_ns <= MAX_MTIME_NS
    assert astuple(file)[:2] == (os.path.basename(path).encode(), os.path.getsize(path))
