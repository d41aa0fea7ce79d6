"""Indexing on a Ray cluster of one node, compared with the local executor on the same processors.

Each run is a process of its own. It is measured from the first pictures on, when all models are
loaded, to the last commit: wall time, and processor time of all processes, of the driver, and of
the processes of Ray itself, which work by the second, not by the picture.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import mmsearch
from benchmarks.speed.compare import machine
from mmsearch.core.results import Progress
from mmsearch.core.settings import load_settings

FILES, ROUNDS = 3_000, 2
MODES = {"local": 0, "1 actor": 1, "2 actors": 2}
"""Name of each way to index, and its number of actors; 0 for the local executor."""

DRIVER_BAR_MS, ACTOR_BAR = 0.3, 0.95
_ACTOR = b"WorkerActor"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Index the same files in all ways, in turn, each round into new indexes."""
    runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_files(sorted(photos.rglob("*.jpg")), folder / "files")
        for number in range(ROUNDS):
            order = list(MODES) if number % 2 else list(reversed(MODES))
            for mode in order:
                home = folder / f"home-{number}-{mode.replace(' ', '-')}"
                command = [sys.executable, "-m", __name__, mode, folder / "files", home]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                runs[mode].append(json.loads(done.stdout.splitlines()[-1]))
                shutil.rmtree(home)
    load = os.getloadavg()[1]
    return {"machine": machine(), "load": load, "files": FILES, "rounds": ROUNDS, "runs": runs}


def _write_files(pictures: list[Path], folder: Path) -> None:
    """Write copies of pictures that differ in bytes after their end."""
    folder.mkdir()
    for number in range(FILES):
        content = pictures[number % len(pictures)].read_bytes()
        (folder / f"{number:05d}.jpg").write_bytes(content + b"%08d" % number)


def _measure_run(mode: str, files: Path, home: Path) -> dict[str, float]:
    workers = MODES[mode]
    settings = replace(
        load_settings(),
        home=home,
        model="starter",
        offline=True,
        workers=workers,
        executor="ray" if workers else "local",
        ray_address="local" if workers else "",
    )
    readings: list[tuple[float, ...]] = []

    def on_progress(state: Progress) -> None:
        is_first = not readings and state.phase == "encode" and state.encoded
        is_last = len(readings) == 1 and state.phase == "texts"
        if is_first:
            # What all imports have left behind is collected once, however long the run is.
            gc.collect()
        if is_first or is_last:
            cpu_s = _cpu_times_s(os.getpid())
            readings.append((state.encoded, time.monotonic(), *cpu_s, time.process_time()))

    with mmsearch.open_index(settings=settings) as index:
        index.add_folder(files, progress=on_progress)
        num_pictures = len(index)
    if num_pictures != FILES:
        raise RuntimeError(f"{num_pictures} of {FILES} pictures are in the index")
    first, last = readings
    pictures, wall_s, cpu_s, ray_s, driver_s = (b - a for a, b in zip(first, last, strict=True))
    return {
        "pictures_per_s": pictures / wall_s,
        "cpu_ms": cpu_s / pictures * 1e3,
        "driver_ms": driver_s / pictures * 1e3,
        "ray_ms": ray_s / pictures * 1e3,
    }


def _cpu_times_s(root: int) -> tuple[float, float]:
    """Return the processor time of a process and all that came from it, and that of Ray's own."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    of_ray: set[int] = set()
    for entry in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
        try:
            content = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        values = content.rpartition(") ")[2].split()
        parents[int(entry)] = int(values[1])
        used[int(entry)] = sum(map(int, values[11:15])) * _TICK_S
        is_agent = command.startswith(b"ray::") and _ACTOR not in command
        if is_agent or b"/site-packages/ray/" in command:
            of_ray.add(int(entry))

    def comes_from_root(process: int) -> bool:
        while process not in (root, 0):
            process = parents.get(process, 0)
        return process == root

    ours = list(filter(comes_from_root, used))
    return sum(used[process] for process in ours), sum(used[p] for p in of_ray.intersection(ours))


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    runs = results["runs"]
    medians = {
        mode: {key: median(run[key] for run in found) for key in found[0]}
        for mode, found in runs.items()
    }
    lines = [
        f"| {mode} | {values['pictures_per_s']:.1f} ({_span(runs[mode], 'pictures_per_s')})"
        f" | {values['cpu_ms']:.1f} ({_span(runs[mode], 'cpu_ms')})"
        f" | {values['driver_ms']:.2f} | {values['ray_ms']:.2f} |"
        for mode, values in medians.items()
    ]
    ratio = medians["local"]["cpu_ms"] / medians["1 actor"]["cpu_ms"]
    speed = medians["1 actor"]["pictures_per_s"] / medians["local"]["pictures_per_s"]
    driver_ms = max(medians[mode]["driver_ms"] for mode in MODES if MODES[mode])
    table = "\n".join(lines)
    return f"""\
## Indexing on Ray

{results["files"]:,} JPEGs of 24 kB by `starter`, from the first pictures to the last commit, on a cluster of one node with the processors of the machine:
one actor has all of them, two have half each. Runs of each way, one after the other: {results["rounds"]}; medians, with the lowest and the highest. Other programs
used the machine at the same time (load {results["load"]:.0f}), so processor time counts, and rates only compare neighbours.

| executor | pictures/s | processor time of a picture, ms | of it the driver, ms | Ray's own processes, ms |
|---|---|---|---|---|
{table}

One actor does {ratio:.2f} times the work of the local executor in the same processor time (bar {ACTOR_BAR}: {_held(ratio >= ACTOR_BAR)}), and
{speed:.2f} times in the same time (bar {ACTOR_BAR}: {_held(speed >= ACTOR_BAR)}). The driver
takes {driver_ms:.2f} ms of a picture (bar {DRIVER_BAR_MS}: {_held(driver_ms <= DRIVER_BAR_MS)}); the local executor encodes in that process.
"""


def _span(runs: list[dict[str, float]], key: str) -> str:
    values = [run[key] for run in runs]
    return f"{min(values):.1f} to {max(values):.1f}"


def _held(is_held: bool) -> str:
    return "held" if is_held else "missed"


if __name__ == "__main__":
    print(json.dumps(_measure_run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
