"""A whole process, from its start to the first hit, beside torch and open_clip."""

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
from benchmarks.speed.filled import fill
from benchmarks.speed.rclip import ARCHITECTURE, VERSION, Rclip, make_rclip
from mmsearch.core.settings import load_settings
from mmsearch.factories.encoders import make_encoder
from mmsearch.storage.layout import IndexLayout

SIZES = (1_000, 100_000, 1_000_000)
RCLIP_SIZES = SIZES[:2]
"""It reads every vector from its database at every query."""

ROUNDS, K = 7, 10
BAR, RCLIP_BAR = 1 / 0.15, 1.0
QUERY = "a red car"

THEIRS = """
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
    """Times of a process, of which most is spent before the search."""
    # As pip does when it installs.
    compileall.compile_dir(Path(mmsearch.__file__).parent, quiet=1)
    beside_torch, beside_rclip = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rclip = make_rclip(folder)
        settings = replace(load_settings(), cache=folder / "cache", offline=True)
        encoder = make_encoder(rclip.model, settings, lambda line: None)
        for size in SIZES:
            home, vectors = folder / str(size), folder / f"{size}.npy"
            fill(IndexLayout.of(home, "default"), encoder, size, vectors)
            ours = _Ours(home, settings.cache, folder)
            torch = _torch(rclip.weights, vectors)
            beside_torch.append(_row(f"{size:,} vectors", ours.alone, torch, BAR))
            with ours.served():
                running = f"{size:,} vectors, `mmsearch serve` running"
                beside_torch.append(_row(running, ours.asking, torch, BAR))
            if size in RCLIP_SIZES:
                peer = _rclip(rclip, folder, vectors)
                beside_rclip.append(_row(f"{size:,} vectors", ours.alone, peer, RCLIP_BAR))
    return {"machine": machine(), "torch": beside_torch, "rclip": beside_rclip}


Found = set[int]
"""Numbers of the pictures that were found."""


def _row(
    name: str, ours: Callable[[], Found], theirs: Callable[[], Found], bar: float
) -> dict[str, Any]:
    result = compare(ours, theirs, rounds=ROUNDS, clock=time.perf_counter)
    return row(name, result, bar, f"{len(ours() & theirs())} of {K} the same")


class _Ours:
    """The installed command, with and without a process that stays."""

    def __init__(self, home: Path, cache: Path, folder: Path) -> None:
        self._command = [Path(sys.executable).with_name("mmsearch"), "query", QUERY]
        self._command += ["--home", home, "-k", str(K)]
        self._serve = [self._command[0], "serve", "--no-http", "--home", home]
        self._meetings = {}
        for name in ("alone", "served"):
            self._meetings[name] = folder / name
            self._meetings[name].mkdir(mode=0o700, exist_ok=True)
        self._environment = os.environ | {"MMSEARCH_CACHE": str(cache), "MMSEARCH_OFFLINE": "1"}

    def alone(self) -> Found:
        return self._ask("alone")

    def asking(self) -> Found:
        return self._ask("served")

    @contextmanager
    def served(self) -> Iterator[None]:
        process = subprocess.Popen(
            self._serve, env=self._in("served"), stderr=subprocess.PIPE, text=True
        )
        with process:
            if process.stderr is None or "is open for queries" not in process.stderr.readline():
                raise RuntimeError("mmsearch serve did not begin")
            try:
                yield
            finally:
                process.send_signal(signal.SIGTERM)

    def _ask(self, where: str) -> Found:
        lines = _output(self._command, self._in(where)).splitlines()
        # A picture is named by its id, and ids begin with 1.
        return {int(Path(line.split("\t")[2]).stem) - 1 for line in lines}

    def _in(self, where: str) -> dict[str, str]:
        return self._environment | {"XDG_RUNTIME_DIR": str(self._meetings[where])}


def _torch(weights: Path, vectors: Path) -> Callable[[], Found]:
    command = [sys.executable, "-c", THEIRS, weights, vectors, QUERY]
    return lambda: {int(number) for number in _output(command, dict(os.environ)).split()}


def _rclip(rclip: Rclip, folder: Path, vectors: Path) -> Callable[[], Found]:
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    stored = np.load(vectors, mmap_mode="r")
    rclip.fill((pictures / f"{number}.jpg", vector) for number, vector in enumerate(stored))
    return lambda: {int(path.stem) for path in rclip.query(QUERY, pictures, K)}


def _output(command: Sequence[Any], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return done.stdout


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
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
