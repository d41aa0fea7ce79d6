"""A re-scan of unchanged files, compared with a bare walk that stats each file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import load_settings
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.indexing.indexer import Indexer
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import write_pictures

FILES, FOLDERS, BLOCK = 100_000, 500, 20_000
BAR, ROUNDS = 1 / 1.3, 11
OLD_MTIME_S = 10**9


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the CPU time of a complete pass over all files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "files"
        _write_files(folder)
        layout = IndexLayout.for_name(Path(name) / "home", "default")
        with _indexer(layout) as indexer:
            request = IndexRequest(os.fsencode(folder))
            _commit_files(indexer, request)
            started_s = time.process_time()
            first_report = indexer.run(request)
            first_pass_s = time.process_time() - started_s

            def ours() -> IndexReport:
                return indexer.run(request)

            def theirs() -> int:
                return _bare_walk(request.folder)

            result = compare(ours, theirs, rounds=ROUNDS)
            unchanged = (
                ours().unchanged if first_report.unchanged == FILES else first_report.unchanged
            )
            guard = f"{unchanged:,} unchanged; {_describe_changes(folder, ours)}"
            rows = [row(f"{FILES:,} files in {FOLDERS} folders", result, BAR, guard)]
    return {"machine": machine(), "first_ms": first_pass_s * 1e3, "rows": rows}


@contextmanager
def _indexer(layout: IndexLayout) -> Iterator[Indexer]:
    settings = replace(load_settings(), model="starter", offline=True)
    with (
        catalogs.open_write(layout, 0, create=True) as catalog,
        make_indexer(layout, catalog, settings, lambda line: None) as indexer,
    ):
        yield indexer


def _write_files(folder: Path) -> None:
    """Write files of a few bytes with camera-style names, two levels deep."""
    for number in range(FILES):
        folder_number, file_number = divmod(number, FILES // FOLDERS)
        path = (
            folder
            / f"{2000 + folder_number // 20}/{folder_number % 20:02d}/IMG_{file_number:04d}.jpg"
        )
        if not file_number:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number)
        os.utime(path, (OLD_MTIME_S, OLD_MTIME_S))


def _commit_files(indexer: Indexer, request: IndexRequest) -> None:
    """Commit every file as a picture with a random vector, as if it had been encoded."""
    catalog, encoder = indexer.catalog, indexer.encoder.spec
    indexer._ensure_identity()  # noqa: SLF001 - the public method would encode the files
    root, _ = catalog.ensure_root(request.folder)
    texts = indexer.make_text_collector(request)
    files = [
        file
        for scanned_folder in indexer.walk(request, lambda *_: None)
        for file in scanned_folder.list_files()
    ]
    random = np.random.default_rng(0)
    for number, first in enumerate(range(0, FILES, BLOCK), start=1):
        part = files[first : first + BLOCK]
        rows = random.standard_normal((len(part), encoder.dim), dtype=np.float32)
        segment, pictures = write_pictures(
            indexer.layout, encoder, as_unit_vectors(rows), first + 1, number
        )
        placed = [
            IndexedFile(file, picture.digest, texts.collect(root.path, file).texts, texts.key(file))
            for file, picture in zip(part, pictures, strict=True)
        ]
        catalog.commit_shard(ShardCommit(root.id, time.time_ns(), segment, pictures, placed))
    indexer.publish()


def _bare_walk(folder: bytes) -> int:
    """Do the minimum: list every folder and stat every file."""
    folders, files = [folder], 0
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    files += 1
    return files


def _describe_changes(folder: Path, run: Any) -> str:
    """Describe the result of a run after one file was changed, one added and one deleted."""
    subfolder = folder / "2003/07"
    photo = next(Path(__file__).resolve().parents[2].glob("tests/photos/*/*.jpg")).read_bytes()
    (subfolder / "IMG_0003.jpg").write_bytes(photo)
    (subfolder / "IMG_9999.jpg").write_bytes(photo + b"\0")
    (subfolder / "IMG_0005.jpg").unlink()
    report = run()
    return f"then {report.changed} changed, {report.added} added, {report.gone} gone"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Files that are as they were

A run of the indexer over a folder in which nothing has changed, processor time of all of it, beside the least
that can be done: listing every folder with os.scandir and looking at every file. The bar is 1.3 times that.
Files of a few bytes, in a catalog that holds them. What a run has found finished passes folder by folder, by a digest of names, sizes
and times; the run before, which compared file by file and noted the folders, took {results["first_ms"] / 1e3:.1f} s. The guard: what is
found afterwards, when one file has changed, one is new and one is gone.

{table(results["rows"], "mmsearch", "os.scandir and stat")}"""
