"""Time from process start to the first hit, compared with torch and open_clip."""

from __future__ import annotations

import compileall
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from benchmarks.speed.compare import compare, machine, row, table
from benchmarks.speed.random_index import fill_index
from benchmarks.speed.rclip import ARCHITECTURE, VERSION, Rclip, make_rclip
from mmsearch.core.settings import load_settings
from mmsearch.factories.plugins import make_encoder
from mmsearch.storage.layout import IndexLayout

SIZES = (1_000, 100_000, 1_000_000)
RCLIP_SIZES = SIZES[:2]
"""Index sizes for rclip, which reads every vector from its database for every query."""

ROUNDS, K = 7, 10
MIN_SPEEDUP, MIN_RCLIP_SPEEDUP = 1 / 0.15, 1.0
QUERY = "a red car"

PEER_SCRIPT = """
import sys
import numpy as np, open_clip, torch
from safetensors.torch import load_file
weights, vectors, query = sys.argv[1:]
model = open_clip.create_model("ViT-B-32-256").eval()
model.load_state_dict(load_file(weights))
with torch.inference_mode():
    tokens = open_clip.get_tokenizer("ViT-B-32-256")([query])
    wanted = model.encode_text(tokens, normalize=True).numpy()[0]
scores = np.load(vectors, mmap_mode="r") @ wanted
best = np.argpartition(-scores, 10)[:10]
print(*best[np.argsort(-scores[best])])
"""


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure complete processes, which spend most of their time before the search."""
    # pip compiles the modules when it installs them.
    compileall.compile_dir(Path(mmsearch.__file__).parent, quiet=1)
    beside_torch, beside_rclip = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rclip = make_rclip(folder)
        settings = replace(load_settings(), cache=folder / "cache", offline=True)
        encoder = make_encoder(rclip.model, settings, lambda line: None)
        for size in SIZES:
            home, vectors = folder / str(size), folder / f"{size}.npy"
            fill_index(IndexLayout.for_name(home, "default"), encoder, size, vectors)
            ours = _MmsearchCommand(home, settings.cache, folder)
            torch = _make_torch_query(rclip.weights, vectors)
            beside_torch.append(_row(f"{size:,} vectors", ours.query_alone, torch, MIN_SPEEDUP))
            with ours.run_server():
                running = f"{size:,} vectors, `mmsearch serve` running"
                beside_torch.append(_row(running, ours.query_served, torch, MIN_SPEEDUP))
            if size in RCLIP_SIZES:
                peer = _make_rclip_query(rclip, folder, vectors)
                beside_rclip.append(
                    _row(f"{size:,} vectors", ours.query_alone, peer, MIN_RCLIP_SPEEDUP)
                )
    return {"machine": machine(), "torch": beside_torch, "rclip": beside_rclip}


PictureIds = set[int]
"""Numbers of the pictures found."""


def _row(
    name: str, ours: Callable[[], PictureIds], theirs: Callable[[], PictureIds], bar: float
) -> dict[str, Any]:
    result = compare(ours, theirs, rounds=ROUNDS, clock=time.perf_counter)
    return row(name, result, bar, f"{len(ours() & theirs())} of {K} the same")


class _MmsearchCommand:
    """The installed command, with and without a server."""

    def __init__(self, home: Path, cache: Path, folder: Path) -> None:
        self._command = [Path(sys.executable).with_name("mmsearch"), "query", QUERY]
        self._command += ["--home", home, "-k", str(K)]
        self._serve = [self._command[0], "serve", "--no-http", "--home", home]
        self._runtime_dirs = {}
        for name in ("alone", "served"):
            self._runtime_dirs[name] = folder / name
            self._runtime_dirs[name].mkdir(mode=0o700, exist_ok=True)
        self._environment = os.environ | {"MMSEARCH_CACHE": str(cache), "MMSEARCH_OFFLINE": "1"}

    def query_alone(self) -> PictureIds:
        return self._query("alone")

    def query_served(self) -> PictureIds:
        return self._query("served")

    @contextmanager
    def run_server(self) -> Iterator[None]:
        process = subprocess.Popen(
            self._serve, env=self._environment_for("served"), stderr=subprocess.PIPE, text=True
        )
        with process:
            if process.stderr is None or "is open for queries" not in process.stderr.readline():
                raise RuntimeError("mmsearch serve did not begin")
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)

    def _query(self, runtime: str) -> PictureIds:
        lines = _output(self._command, self._environment_for(runtime)).splitlines()
        # The file name of a picture is its id, and ids start at 1.
        return {int(Path(line.split("\t")[2]).stem) - 1 for line in lines}

    def _environment_for(self, runtime: str) -> dict[str, str]:
        return self._environment | {"XDG_RUNTIME_DIR": str(self._runtime_dirs[runtime])}


def _make_torch_query(weights: Path, vectors: Path) -> Callable[[], PictureIds]:
    command = [sys.executable, "-c", PEER_SCRIPT, weights, vectors, QUERY]
    return lambda: {int(number) for number in _output(command, dict(os.environ)).split()}


def _make_rclip_query(rclip: Rclip, folder: Path, vectors: Path) -> Callable[[], PictureIds]:
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    stored = np.load(vectors, mmap_mode="r")
    rclip.fill_index((pictures / f"{number}.jpg", vector) for number, vector in enumerate(stored))
    return lambda: {int(path.stem) for path in rclip.query(QUERY, pictures, K)}


def _output(command: Sequence[Any], environment: dict[str, str]) -> str:
    process = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return process.stdout


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## From the command to the first hit

`mmsearch query "{QUERY}"` as a whole process, wall time, with a {ARCHITECTURE} of random weights and random vectors.
First beside a program that loads the same model with torch and open_clip and multiplies its vector with an array
mapped into memory, and knows no files, texts, filters or confidence. The bar is 0.15 of the other's time. The rows
of `mmsearch serve` are of the same command while such a process keeps the index open.

{table(results["torch"], "mmsearch", "torch + open_clip")}
Then beside rclip {VERSION} with the same weights, in ONNX and float32 as it ships them, and the same vectors in its
database (`rclip --no-indexing`). The bar is to be faster.

{table(results["rclip"], "mmsearch", "rclip")}
The guard: hits that both find among {K}, mmsearch's from a text tower in int8 and vectors in float16."""
