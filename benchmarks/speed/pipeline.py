"""Commands that turn a folder of JPEGs into stored vectors: mmsearch, rclip and clip-retrieval."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.clip_retrieval import make_clip_retrieval
from benchmarks.speed.compare import (
    child_cpu_time_s,
    compare_times,
    machine,
    row,
    table,
    time_alternating_by_clock,
)
from benchmarks.speed.decode import JpegSet, write_jpegs
from benchmarks.speed.peer_environments import PeerUnavailableError
from benchmarks.speed.rclip import ARCHITECTURE, Rclip, make_rclip
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment

SIZES = {"small": JpegSet(500, 375, 100), "large": JpegSet(1632, 1224, 20)}
ROUNDS, MIN_SPEEDUP = 7, 1.0
ROUNDS_BY_PEER = {"clip-retrieval": 3}
"""Rounds for slow peers. clip-retrieval takes several times as long, which a few rounds show."""
CLOCKS = {"wall": time.perf_counter, "processor": child_cpu_time_s}

VectorsByName = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class MmsearchCommand:
    """The installed command; each precision has its own cache of compiled towers."""

    folder: Path
    model: str
    precision: str

    @property
    def layout(self) -> IndexLayout:
        """Layout of the index that the command creates."""
        return IndexLayout.for_name(self.folder / f"home-{self.precision}", "default")

    def index(self, photos: Path) -> None:
        """Index a folder from scratch."""
        home = self.layout.folder.parent
        shutil.rmtree(home, ignore_errors=True)
        environment = os.environ | {
            "MMSEARCH_CACHE": str(self.folder / f"cache-{self.precision}"),
            "MMSEARCH_OFFLINE": "1",
            "MMSEARCH_PRECISION": self.precision,
        }
        command = [sys.executable, "-m", "mmsearch", "index", photos, "--home", home]
        command += ["--model", self.model]
        subprocess.run(command, env=environment, capture_output=True, check=True)

    def load_vectors(self) -> VectorsByName:
        """Return the vectors by file name."""
        with catalogs.open_read(self.layout) as catalog:
            rows: dict[int | None, NDArray[np.float32]] = {}
            for segment in catalog.segments():
                segment_vectors = read_segment(self.layout, segment)
                rows |= dict(zip(segment_vectors.ids.tolist(), segment_vectors.images, strict=True))
            files = catalog.list_files_under(catalog.roots()[0].id, b"")
            ids = catalog.find_item_ids([file.digest for file in files.values()])
            return {
                Path(os.fsdecode(path)).name: rows[ids[file.digest]] for path, file in files.items()
            }


@dataclass(frozen=True)
class Peer:
    """A program that embeds the pictures of a folder and stores the vectors."""

    name: str
    index: Callable[[], None]
    load_vectors: Callable[[], VectorsByName]


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time per picture, over the complete command."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = folder / "photos"
        _write_photos(photos, pictures)
        rclip = make_rclip(folder)
        auto, float32 = (
            MmsearchCommand(folder, rclip.model, precision) for precision in ("auto", "float32")
        )
        for ours in (auto, float32):
            # The first run compiles the model, which happens only once.
            ours.index(pictures)
        rclip_peer = _rclip_peer(rclip, pictures)
        pairs = [(auto, rclip_peer), (float32, rclip_peer)]
        missing = ""
        try:
            other = make_clip_retrieval(folder, ARCHITECTURE, rclip.weights)
            pairs.append(
                (auto, Peer("clip-retrieval", lambda: other.index(pictures), other.load_vectors))
            )
        except PeerUnavailableError as error:
            missing = str(error)
        for ours, peer in pairs:
            rows += _rows(ours, peer, pictures)
    count = sum(jpeg_set.files for jpeg_set in SIZES.values())
    return {"machine": machine(), "pictures": count, "missing": missing, "rows": rows}


def _write_photos(photos: Path, folder: Path) -> None:
    """Write the photographs of tests/photos as JPEGs of two sizes."""
    paths = sorted(photos.rglob("*.jpg"))
    for name, jpeg_set in SIZES.items():
        (folder / name).mkdir(parents=True)
        for path in write_jpegs(paths, jpeg_set, folder / name):
            # File names are unique across folders, because peers identify pictures by name.
            path.rename(path.with_name(f"{name}-{path.name}"))


def _rclip_peer(rclip: Rclip, pictures: Path) -> Peer:
    def index() -> None:
        rclip.clear_database()
        rclip.index(pictures)

    def load_vectors() -> VectorsByName:
        connection = sqlite3.connect(rclip.data / "db.sqlite3")
        rows = connection.execute("SELECT filepath, vector FROM images").fetchall()
        connection.close()
        return {Path(path).name: np.frombuffer(vector, np.float32) for path, vector in rows}

    return Peer("rclip", index, load_vectors)


def _rows(ours: MmsearchCommand, peer: Peer, pictures: Path) -> list[dict[str, Any]]:
    count = sum(jpeg_set.files for jpeg_set in SIZES.values())
    contenders = {"ours": lambda: ours.index(pictures), "theirs": peer.index}
    times_by_clock = time_alternating_by_clock(
        contenders, CLOCKS, ROUNDS_BY_PEER.get(peer.name, ROUNDS)
    )
    guard = _describe_agreement(ours.load_vectors(), peer.load_vectors())
    kind = "as chosen" if ours.precision == "auto" else ours.precision
    return [
        row(
            f"{kind}, beside {peer.name}, {clock} time",
            compare_times(times["ours"] / count, times["theirs"] / count),
            MIN_SPEEDUP,
            guard,
        )
        for clock, times in times_by_clock.items()
    ]


def _describe_agreement(ours: VectorsByName, theirs: VectorsByName) -> str:
    """Describe the agreement of vectors after removing their common part.

    With random weights the vectors of all pictures are similar.
    """
    names = sorted(ours)
    one, other = (
        as_unit_vectors(rows - rows.mean(axis=0))
        for rows in (np.stack([vectors[name] for name in names]) for vectors in (ours, theirs))
    )
    cosines = (one * other).sum(axis=1)
    min_cosine, median_cosine = cosines.min(), np.median(cosines)
    return f"{len(ours)} and {len(theirs)} vectors, cosine {min_cosine:.3f} at least, median {median_cosine:.4f}"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    missing = f"\n\n{results['missing']}" if results["missing"] else ""
    return f"""\
## From a folder to stored vectors

`mmsearch index` as a whole process with an index of its own, once its model is compiled, beside other programs with the same random
weights of a {ARCHITECTURE}: time of one picture over all of the command, on {results["machine"]["processors"]} processors. The pictures are {results["pictures"]} JPEGs:
{SIZES["small"].files} of 500x375 and {SIZES["large"].files} of 2 megapixels. rclip indexes and answers one query at its end, for it has no command that
only indexes; clip-retrieval writes an array. mmsearch also hashes the files, reads their facts and texts, and builds its vector index.
The bar is not to be slower. The guard: vectors stored by either, and the cosine between both for the same picture, the mean removed.{missing}

{table(results["rows"], "mmsearch", "the other")}"""
