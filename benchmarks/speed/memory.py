"""Memory of indexing by number of files."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.speed.compare import machine, peak_memory_kib
from mmsearch.core.protocols import Encoder
from mmsearch.core.results import IndexRequest, Progress
from mmsearch.core.settings import load_settings
from mmsearch.core.types import InputKind, ModelInput, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.storage.layout import IndexLayout

SIZES = (2_000, 20_000, 100_000)
FILES_PER_FOLDER = 200


class StubEncoder:
    """Encoder stub that returns random vectors at almost no cost."""

    def __init__(self, encoder: Encoder) -> None:
        self.spec = encoder.spec
        self.image_preprocessor = encoder.image_preprocessor
        self.batch_preprocessor = encoder.image_preprocessor
        self.batch_size = encoder.batch_size
        self._random = np.random.default_rng(0)

    def encode(self, kind: InputKind, batch: Sequence[ModelInput]) -> Vectors:
        """Return random vectors."""
        rows = self._random.standard_normal((len(batch), self.spec.dim), dtype=np.float32)
        return as_unit_vectors(rows)


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure each size in its own process, because peak memory is per process."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for size in SIZES:
            folder = Path(name) / f"{size}"
            _write_pictures(folder, size)
            command = [
                sys.executable,
                "-m",
                "benchmarks.speed.memory",
                folder,
                f"{name}/home-{size}",
            ]
            process = subprocess.run(command, capture_output=True, check=True, text=True)
            rows.append({"files": size, **json.loads(process.stdout.splitlines()[-1])})
    return {"machine": machine(), "rows": rows}


def _write_pictures(folder: Path, size: int) -> None:
    """Write tiny pictures, each with different content."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    picture = buffer.getvalue()
    for number in range(size):
        path = folder / f"{number // FILES_PER_FOLDER:04d}/IMG_{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Bytes after the end of a JPEG change the file but not the picture.
        path.write_bytes(picture + b"%d" % number)
        os.utime(path, (1e9, 1e9))


def _measure_index(folder: Path, home: Path) -> dict[str, float]:
    """Return the peak memory of this process, in MB, before the index build and in total."""
    settings = replace(load_settings(), model="starter", offline=True, texts="none")
    layout = IndexLayout.for_name(home, "default")
    peaks: dict[str, float] = {}

    def record_peak(state: Progress) -> None:
        peaks.setdefault(state.phase, peak_memory_kib() / 1024)

    with (
        catalogs.open_write(layout, 0, create=True) as catalog,
        make_indexer(layout, catalog, settings, lambda line: None) as indexer,
    ):
        stub: Any = StubEncoder(indexer.encoder)
        decoder_factory = replace(indexer.make_decoder, prepare=stub.batch_preprocessor)
        report = replace(indexer, encoder=stub, make_decoder=decoder_factory).run(
            IndexRequest(os.fsencode(folder)), record_peak
        )
    return {
        "added": report.added,
        "begun_mb": peaks["scan"],
        "encoded_mb": peaks["build"],
        "built_mb": peak_memory_kib() / 1024,
    }


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    rows = "".join(
        f"| {r['files']:,} | {r['begun_mb']:.0f} | {r['encoded_mb']:.0f} | {r['built_mb']:.0f} |\n"
        for r in results["rows"]
    )
    return f"""\
## Memory of indexing

Peak of resident memory of the indexing process, in MB, over a folder of new files: tiny JPEGs, decoded by worker processes as any are,
and an encoder that gives random vectors at once. The last column includes building the vector index, which holds all vectors (float16).

| files | begun | all encoded | index built |
|--:|--:|--:|--:|
{rows}"""


if __name__ == "__main__":
    multiprocessing.freeze_support()
    print(json.dumps(_measure_index(Path(sys.argv[1]), Path(sys.argv[2]))))
