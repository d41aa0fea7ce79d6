"""Exports of an index of random vectors, and imports of them, in each format."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.speed.compare import bootstrap_interval, machine, peak_memory_kib
from benchmarks.speed.random_index import fill_index
from mmsearch.core.results import Progress
from mmsearch.core.settings import load_settings
from mmsearch.core.types import EncoderSpec, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.exports.formats import FORMATS
from mmsearch.maintenance import import_embeddings as importing
from mmsearch.maintenance.export import export
from mmsearch.storage.layout import IndexLayout

SIZES = (20_000, 100_000)
IMPORTS = 5


class StandIn:
    """Stands for an encoder of 384 dimensions: texts get random vectors."""

    spec = EncoderSpec("stand_in", 384, "0" * 64, {}, 1, 77)

    def prepare(self, kind: str, payload: Any) -> Any:
        """Return the payload."""
        return payload

    def encode(self, kind: str, batch: Sequence[Any]) -> Vectors:
        """Return the same random vectors for each batch, float32 (n, dim)."""
        shape = (len(batch), self.spec.dim)
        return as_unit_vectors(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure each step in its own process, because peak memory is per process."""
    encoder: Any = StandIn()
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            fill_index(IndexLayout.for_name(home, "exported"), encoder, size)
            for format_name in FORMATS:
                folder, again = home / f"{format_name}-1", home / f"{format_name}-2"
                exported = run_step("export", home, "exported", folder, format_name)
                imports = [
                    run_step(
                        "import", home, f"imported-{format_name}-{number}", folder, format_name
                    )
                    for number in range(IMPORTS)
                ]
                run_step("export", home, f"imported-{format_name}-0", again, format_name)
                rows.append(
                    {
                        "vectors": size,
                        "format": format_name,
                        "export": exported,
                        "import": {
                            name: float(np.median([run[name] for run in imports]))
                            for name in imports[0]
                        },
                        "import_interval": _rate_interval(size, imports),
                        "same": _are_same(folder, again),
                    }
                )
    return {"machine": machine(), "dim": encoder.spec.dim, "rows": rows}


def _rate_interval(size: int, imports: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the 95% interval of the median rate of imports until their last commit, per second."""
    rates = np.array([size / run["written_cpu_s"] for run in imports])
    return list(bootstrap_interval(rates))


def run_step(*arguments: Any) -> dict[str, float]:
    """Run one step in a process of its own; return its times and its peak memory."""
    command = [sys.executable, "-m", "benchmarks.speed.embeddings", *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, check=True, text=True)
    result: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return result


def _are_same(left: Path, right: Path) -> bool:
    """Return True if two folders have the same files with the same content."""
    names = [
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (left, right)
    ]
    different = filecmp.cmpfiles(left, right, names[0], shallow=False)[1:]
    return names[0] == names[1] and not any(different)


def _measure_step(step: str, home: Path, name: str, folder: Path, format_name: str) -> Any:
    """Run one step; return its seconds and the peak memory of this process, in MB."""
    layout = IndexLayout.for_name(home, name)
    settings = replace(load_settings(), offline=True, device="cpu")
    starts_s: dict[str, tuple[float, float]] = {}

    def record_phase(state: Progress) -> None:
        starts_s.setdefault(state.phase, (time.monotonic(), time.process_time()))

    started_s, started_cpu_s = time.monotonic(), time.process_time()
    if step == "export":
        export(layout, folder, format_name, record_phase)
    else:
        request = importing.ImportRequest(folder)
        with (
            patch.object(importing, "make_encoder", lambda *_: StandIn()),
            patch.object(importing, "load_index_encoder", lambda *_: StandIn()),
        ):
            importing.import_embeddings(
                layout, settings, lambda line: None, request, 0, record_phase
            )
    ended_s, ended_cpu_s = time.monotonic(), time.process_time()
    written_s, written_cpu_s = starts_s.get("build", (ended_s, ended_cpu_s))
    return {
        "wall_s": ended_s - started_s,
        "cpu_s": ended_cpu_s - started_cpu_s,
        "written_wall_s": written_s - started_s,
        "written_cpu_s": written_cpu_s - started_cpu_s,
        "peak_mb": peak_memory_kib() / 1024,
    }


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    rows = "".join(
        f"| {row['vectors']:,} | {row['format']} | {_rate(row, 'export', 'cpu_s')}"
        f" | {_rate(row, 'import', 'written_cpu_s')} {_interval(row)} | {_rate(row, 'import', 'cpu_s')}"
        f" | {row['export']['wall_s']:.0f} s | {row['import']['wall_s']:.0f} s"
        f" | {row['export']['peak_mb']:.0f} MB | {row['import']['peak_mb']:.0f} MB"
        f" | {'yes' if row['same'] else 'no'} |\n"
        for row in results["rows"]
    )
    return f"""\
## Exports and imports

Random vectors of {results["dim"]:,} dimensions, each of a picture with one path and no texts. Rates are vectors per second of
processor time of one process: of the export, of an import until its last commit, and of an import with the vector
index that it builds at the end; imports are medians of {IMPORTS} with the 95% interval. No model is loaded. The guard: an
export of the imported index has the same files, byte for byte. Load of the machine: {results["machine"]["load"]}.

| vectors | format | export | import | with index | export, wall | import, wall | export, peak | import, peak | same |
|--:|---|--:|--:|--:|--:|--:|--:|--:|---|
{rows}"""


def _interval(row: dict[str, Any]) -> str:
    low, high = row["import_interval"]
    return f"[{low:,.0f}, {high:,.0f}]"


def _rate(row: dict[str, Any], step: str, clock: str) -> str:
    return f"{row['vectors'] / row[step][clock]:,.0f}/s"


if __name__ == "__main__":
    step, home, name, folder, format_name = sys.argv[1:]
    print(json.dumps(_measure_step(step, Path(home), name, Path(folder), format_name)))
