"""Pictures that a program adds from memory, compared with the same pictures as files of a folder."""

from __future__ import annotations

import io
import tempfile
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mmsearch
from benchmarks.speed.compare import child_cpu_time_s, compare, machine, row, table
from benchmarks.speed.decode import JpegSet, write_jpegs
from mmsearch.core.settings import load_settings

PICTURES = JpegSet(500, 375, 200)
BAR, ROUNDS = 0.9, 7
SINGLE_ADDITIONS, SEARCHABLE_BAR_MS = 40, 100.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the CPU time of an addition, and the time until a new picture is found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        paths = write_jpegs(sorted(photos.rglob("*.jpg")), PICTURES, folder / "photos")
        contents = [path.read_bytes() for path in paths]
        homes = (folder / f"home-{number}" for number in count())

        def ours() -> Path:
            with _open_index(home := next(homes)) as index:
                index.add(iter(contents), ids=(path.name for path in paths))
            return home

        def theirs() -> Path:
            with _open_index(home := next(homes)) as index:
                index.add_folder(folder / "photos")
            return home

        result = compare(ours, theirs, len(paths), ROUNDS, _cpu_time_s)
        guard = _describe_agreement(ours(), theirs(), contents)
        rows = [row(f"{len(paths)} JPEGs of 500x375", result, BAR, guard)]
        searchable_ms, found = _measure_searchable(ours())
    return {
        "machine": machine(),
        "rows": rows,
        "searchable_ms": searchable_ms,
        "found": found,
    }


def _open_index(home: Path) -> mmsearch.Index:
    settings = replace(load_settings(), home=home, model="starter", offline=True)
    return mmsearch.open_index(settings=settings)


def _cpu_time_s() -> float:
    # The decode processes of an index end when it is closed.
    return time.process_time() + child_cpu_time_s()


def _describe_agreement(one: Path, other: Path, contents: list[bytes]) -> str:
    """Compare the pictures of both indexes, and how similar they are to a few of themselves."""
    with _open_index(one) as ours, _open_index(other) as theirs:
        counts = len(ours), len(theirs)
        differences = [
            abs(index.score - peer.score)
            for content in contents[:20]
            for index, peer in zip(
                ours.similar(content, 5), theirs.similar(content, 5), strict=True
            )
        ]
    return f"{counts[0]} and {counts[1]} pictures; scores differ by {max(differences):.1g} at most"


def _measure_searchable(home: Path) -> tuple[list[float], int]:
    """Return milliseconds from the end of each addition to that of a search, and how many found."""
    times_ms, found = [], 0
    with _open_index(home) as index:
        for number in range(SINGLE_ADDITIONS):
            pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).resize((96, 72)).save(buffer, "PNG")
            index.add([buffer.getvalue()], ids=[f"new-{number}"], texts=[f"picture nr{number}x"])
            started_s = time.perf_counter()
            hits = index.search(f"nr{number}x", k=1, mode="text")
            times_ms.append((time.perf_counter() - started_s) * 1e3)
            found += [hit.key for hit in hits] == [f"new-{number}"]
    # The first search opens the index.
    return times_ms[1:], found


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    times_ms = results["searchable_ms"]
    median, worst = float(np.median(times_ms)), float(np.percentile(times_ms, 95))
    held = "held" if worst <= SEARCHABLE_BAR_MS else "missed"
    return f"""\
## Pictures that a program adds

`Index.add` with the contents of {PICTURES.files} pictures, beside `Index.add_folder` on the same pictures as files: processor time of one
picture, with the start of the model and of all decode processes, into a new index each. The bar is 0.9 times the speed of the folder:
an addition also keeps a thumbnail of each picture. The guard: the size of both, and the scores of the five pictures that are most
similar to each of 20.

{table(results["rows"], "from memory", "from a folder")}
Each of {SINGLE_ADDITIONS} single additions to that index was found by the search that followed it ({results["found"]} of {SINGLE_ADDITIONS}): from the end
of `add` to that of the search, {median:.0f} ms in the median and {worst:.0f} ms at the 95th percentile (bar {SEARCHABLE_BAR_MS:.0f} ms: {held}).
"""
