"""A folder of JPEGs -> stored vectors: whole commands, beside rclip and clip-retrieval."""

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
    against,
    in_turns_by,
    machine,
    processor_time_of_children,
    row,
    table,
)
from benchmarks.speed.decode import Sort, jpegs
from benchmarks.speed.peers import PeerUnavailableError
from benchmarks.speed.rclip import ARCHITECTURE, Rclip, make_rclip
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment

SIZES = {"small": Sort(500, 375, 100), "large": Sort(1632, 1224, 20)}
ROUNDS, BAR = 7, 1.0
FEW_ROUNDS = {"clip-retrieval": 3}
"""It takes several times as long: that much is plain from few."""
CLOCKS = {"wall": time.perf_counter, "processor": processor_time_of_children}

Stored = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Ours:
    """The installed command; each precision has a cache of compiled towers of its own."""

    folder: Path
    model: str
    precision: str

    @property
    def layout(self) -> IndexLayout:
        """Of the index that it makes."""
        return IndexLayout.of(self.folder / f"home-{self.precision}", "default")

    def index(self, photos: Path) -> None:
        """Index a folder afresh."""
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

    def stored(self) -> Stored:
        """By name of the file: its vector."""
        with catalogs.reading(self.layout) as catalog:
            rows: dict[int | None, NDArray[np.float32]] = {}
            for segment in catalog.segments():
                held = read_segment(self.layout, segment)
                rows |= dict(zip(held.ids.tolist(), held.images, strict=True))
            known = catalog.known_files(catalog.roots()[0].id, b"")
            return {
                Path(os.fsdecode(path)).name: rows[file.image_id] for path, file in known.items()
            }


@dataclass(frozen=True)
class Peer:
    """A program that makes vectors of the pictures of a folder, and what it has stored."""

    name: str
    index: Callable[[], None]
    stored: Callable[[], Stored]


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Times of a picture, over all of the command."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = folder / "photos"
        _plant(photos, pictures)
        rclip = make_rclip(folder)
        auto, float32 = (Ours(folder, rclip.model, each) for each in ("auto", "float32"))
        for ours in (auto, float32):
            # Compiles the model, which happens once.
            ours.index(pictures)
        first = _rclip(rclip, pictures)
        pairs = [(auto, first), (float32, first)]
        missing = ""
        try:
            other = make_clip_retrieval(folder, ARCHITECTURE, rclip.weights)
            pairs.append(
                (auto, Peer("clip-retrieval", lambda: other.index(pictures), other.stored))
            )
        except PeerUnavailableError as error:
            missing = str(error)
        for ours, peer in pairs:
            rows += _rows(ours, peer, pictures)
    count = sum(sort.files for sort in SIZES.values())
    return {"machine": machine(), "pictures": count, "missing": missing, "rows": rows}


def _plant(photos: Path, folder: Path) -> None:
    """Photographs of tests/photos as JPEGs of two sizes."""
    paths = sorted(photos.rglob("*.jpg"))
    for name, sort in SIZES.items():
        (folder / name).mkdir(parents=True)
        for path in jpegs(paths, sort, folder / name):
            # Names that are the same in no two folders: peers tell them by their names.
            path.rename(path.with_name(f"{name}-{path.name}"))


def _rclip(rclip: Rclip, pictures: Path) -> Peer:
    def index() -> None:
        rclip.forget()
        rclip.index(pictures)

    def stored() -> Stored:
        connection = sqlite3.connect(rclip.data / "db.sqlite3")
        rows = connection.execute("SELECT filepath, vector FROM images").fetchall()
        connection.close()
        return {Path(path).name: np.frombuffer(vector, np.float32) for path, vector in rows}

    return Peer("rclip", index, stored)


def _rows(ours: Ours, peer: Peer, pictures: Path) -> list[dict[str, Any]]:
    count = sum(sort.files for sort in SIZES.values())
    contenders = {"ours": lambda: ours.index(pictures), "theirs": peer.index}
    taken = in_turns_by(contenders, CLOCKS, FEW_ROUNDS.get(peer.name, ROUNDS))
    guard = _guard(ours.stored(), peer.stored())
    kind = "as chosen" if ours.precision == "auto" else ours.precision
    return [
        row(
            f"{kind}, beside {peer.name}, {clock} time",
            against(times["ours"] / count, times["theirs"] / count),
            BAR,
            guard,
        )
        for clock, times in taken.items()
    ]


def _guard(ours: Stored, theirs: Stored) -> str:
    """Random weights see little difference between pictures: what is common to all is removed."""
    names = sorted(ours)
    one, other = (
        as_unit_vectors(rows - rows.mean(axis=0))
        for rows in (np.stack([held[name] for name in names]) for held in (ours, theirs))
    )
    cosines = (one * other).sum(axis=1)
    least, middle = cosines.min(), np.median(cosines)
    return (
        f"{len(ours)} and {len(theirs)} vectors, cosine {least:.3f} at least, median {middle:.4f}"
    )


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    missing = f"\n\n{results['missing']}" if results["missing"] else ""
    return f"""\
## From a folder to stored vectors

`mmsearch index` as a whole process with an index of its own, once its model is compiled, beside other programs with the same random
weights of a {ARCHITECTURE}: time of one picture over all of the command, on {results["machine"]["processors"]} processors. The pictures are {results["pictures"]} JPEGs:
{SIZES["small"].files} of 500x375 and {SIZES["large"].files} of 2 megapixels. rclip indexes and answers one query at its end, for it has no command that
only indexes; clip-retrieval writes an array. mmsearch also hashes the files, reads their facts and texts, and builds its vector index.
The bar is not to be slower. The guard: vectors stored by either, and the cosine between both for the same picture, the mean removed.{missing}

{table(results["rows"], "mmsearch", "the other")}"""
