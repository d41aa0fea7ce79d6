"""Damaged and hostile sources: no reader crashes, hangs, grows, or reads what was not named."""

import builtins
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import fsspec
import pytest

from mmsearch.core.columnar import RowSelection
from mmsearch.core.errors import DecodeError, MMSearchError, SourceError
from mmsearch.core.sources import SourceFailure, SourceItem
from tests.fake_web import run_web_server
from tests.source_samples import SAMPLES, read_photos

pytestmark = pytest.mark.enable_socket

MUTANTS = 120
MAX_MEMORY_BYTES = 400_000_000


@pytest.fixture(scope="module")
def server():
    with run_web_server() as server:
        yield server


@pytest.fixture(scope="module")
def contents(photos):
    """Small contents, so that mutations hit the structure around them."""
    return {name: content[:700] for name, content in read_photos(photos).items()}


def mutate(content, number):
    """Return a damaged copy: flipped, cut, doubled, zeroed or overwritten in places."""
    chance = random.Random(number)
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        if not damaged:
            return b""
        at = chance.randrange(len(damaged))
        size = min(chance.choice((1, 2, 4, 16, 512)), len(damaged) - at)
        kind = chance.randrange(6)
        if kind == 0:
            damaged[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[at : at + size] = chance.randbytes(size)
        elif kind == 2:
            damaged[at : at + size] = bytes(size)
        elif kind == 3:
            damaged[at : at + size] = b"\xff" * size
        elif kind == 4:
            damaged[at:at] = damaged[at : at + size]
        elif len(damaged) > 100:
            del damaged[at : at + size]
    if number % 5 == 0:
        del damaged[chance.randrange(len(damaged) + 1) :]
    return bytes(damaged)


def exercise(sample):
    """Read all of a source; return the number of items and failures.

    Only the errors that the protocol names may leave it.
    """
    try:
        source = sample.open()
    except MMSearchError as error:
        check_reason(error.message)
        return 0, 0
    items = failures = 0
    try:
        for part in source.parts():
            keys = set()
            for item in source.items(part):
                if isinstance(item, SourceFailure):
                    check_reason(item.reason)
                    failures += 1
                    continue
                check_item(item)
                assert item.key not in keys
                keys.add(item.key)
                items += 1
            for key in list(keys)[:1]:
                source.exists(key)
    except SourceError as error:
        check_reason(error.message)
    finally:
        source.close()
    return items, failures


def check_item(item):
    assert isinstance(item, SourceItem)
    assert not item.key.startswith(b"/")
    assert b".." not in item.key.split(b"/")
    try:
        assert isinstance(item.load(), bytes)
    except DecodeError as error:
        check_reason(error.message)


def check_reason(reason):
    assert reason
    assert "\n" not in reason


def damage_file(find):
    def damage(sample, folder, server, number, kept):
        path = find(folder)
        kept.setdefault("content", path.read_bytes())
        path.write_bytes(mutate(kept["content"], number))

    return damage


def damage_memory(name):
    def damage(sample, folder, server, number, kept):
        files, path = fsspec.filesystem("memory"), f"/{folder.name}/{name}"
        kept.setdefault("content", files.cat_file(path))
        files.pipe_file(path, mutate(kept["content"], number))

    return damage


def damage_answer(path):
    def damage(sample, folder, server, number, kept):
        kept.setdefault("content", server.answers[path])
        server.answers[path] = mutate(kept["content"], number)

    return damage


CASES = {
    ("archive", "zip"): damage_file(lambda folder: folder / "photos.zip"),
    ("archive", "tar"): damage_file(lambda folder: folder / "photos.tar"),
    ("archive", "tar.gz"): damage_file(lambda folder: folder / "photos.tar.gz"),
    ("archive", "tar.bz2"): damage_file(lambda folder: folder / "photos.tar.bz2"),
    ("archive", "tar.xz"): damage_file(lambda folder: folder / "photos.tar.xz"),
    ("archive", "tar.zst"): damage_file(lambda folder: folder / "photos.tar.zst"),
    ("archive", "webdataset"): damage_file(lambda folder: folder / "00001.tar"),
    ("table", "paths csv"): damage_file(lambda folder: folder / "photos.csv"),
    ("table", "paths list"): damage_file(lambda folder: folder / "photos.txt"),
    ("table", "paths jsonl"): damage_file(lambda folder: folder / "photos.jsonl"),
    ("remote", "tars"): damage_memory("1.tar"),
    ("remote", "zip"): damage_memory("photos.zip"),
    ("remote", "web"): damage_answer("/photos/"),
    ("remote", "web tar"): damage_answer("/photos.tar"),
}
"""Mutated files of the samples. Those that a subprocess reads have a test of their own."""


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_mutants_of_a_source_fail_plainly(case, tmp_path, contents, server, monkeypatch):
    kind, name = case
    sample = SAMPLES[kind][name](tmp_path, contents, server)
    assert exercise(sample) == (len(contents), 0)
    opened, requested, kept, results = record_opened(monkeypatch), len(server.requests), {}, []
    tracemalloc.start()
    try:
        for number in range(MUTANTS):
            CASES[case](sample, tmp_path, server, number, kept)
            results.append(exercise(sample))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_MEMORY_BYTES
    # Every kind of damage must do something, or the mutants test nothing.
    assert sum(result != (len(contents), 0) for result in results) > MUTANTS // 4
    # The zip of a web server is kept in a temporary file.
    temporary = str(Path(tempfile.gettempdir()) / tempfile.gettempprefix())
    allowed = (str(tmp_path), temporary)
    assert [path for path in opened if not path.startswith(allowed)] == []
    if kind != "remote":
        assert len(server.requests) == requested


def record_opened(monkeypatch):
    """Return the list of all paths that are opened from now on."""
    opened = []

    def watch(module, name):
        real = getattr(module, name)

        def watched(path, *arguments, **options):
            if isinstance(path, str | bytes | os.PathLike):
                opened.append(os.fsdecode(path))
            return real(path, *arguments, **options)

        monkeypatch.setattr(module, name, watched)

    for module, name in ((os, "open"), (io, "open"), (builtins, "open")):
        watch(module, name)
    return opened


@pytest.mark.parametrize(("kind", "name"), [("table", "urls parquet"), ("dataset", "arrow")])
def test_mutants_of_a_columnar_source_fail_plainly(kind, name, tmp_path, contents, server):
    sample = SAMPLES[kind][name](tmp_path, contents, server)
    (path,) = [*tmp_path.glob("*.parquet"), *tmp_path.rglob("*.arrow")]
    content = path.read_bytes()
    requested = len(server.requests)
    for number in range(8):
        path.write_bytes(mutate(content, number))
        exercise(sample)
    if kind == "dataset":
        assert len(server.requests) == requested


COLUMNAR_CODE = """
import json, os, sys
from pathlib import Path
from mmsearch.core.columnar import convert
import pyarrow.parquet
folder, output, *requests = map(Path, sys.argv[1:])
crashes = 0
for path in sorted(folder.iterdir()):
    for request in requests:
        child = os.fork()
        if not child:
            os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
            convert(path, json.loads(request.read_text()))
            sys.stdout.flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status > 0:
            print("error", path, status)
        elif status < 0:
            crashes += 1
        else:
            lines = output.read_text().splitlines()
            assert lines, path
            for line in lines:
                json.loads(line)
print(crashes, "crashes")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("kind", "name"), [("table", "urls parquet"), ("dataset", "arrow")])
def test_mutants_of_columnar_files_end_the_reader_with_a_reason(
    kind, name, tmp_path, contents, server
):
    SAMPLES[kind][name](tmp_path, contents, server)
    (path,) = [*tmp_path.glob("*.parquet"), *tmp_path.rglob("*.arrow")]
    content = path.read_bytes()
    folder = tmp_path / "mutants"
    folder.mkdir()
    for number in range(MUTANTS):
        (folder / f"{number}{path.suffix}").write_bytes(mutate(content, number))
    column = "image" if kind == "dataset" else None
    requests = [{"layout": True}, {"selection": asdict(RowSelection(bytes_column=column))}]
    for number, request in enumerate(requests):
        (tmp_path / str(number)).write_text(json.dumps(request))
    arguments = [folder, tmp_path / "output", tmp_path / "0", tmp_path / "1"]
    done = subprocess.run(
        [sys.executable, "-c", COLUMNAR_CODE, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    # A crash ends the subprocess only, and the reader says that the file is damaged.
    assert re.fullmatch(r"\d+ crashes\n", done.stdout), (done.stdout, done.stderr)
