"""The trace script counts the modules of each kind of search."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("warm", "mmsearch.search.engine"),
        ("cold", "mmsearch.cli.main"),
        ("http", "mmsearch.server.batcher"),
    ],
)
def test_trace_counts_modules_and_switches(kind, module, photo_index, environment):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.trace", kind, "--list"],
        env=environment | {"MMSEARCH_HOME": str(photo_index), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    header, *lines = done.stdout.splitlines()
    assert header.startswith(f"{kind}: {len(lines)} modules, ")
    calls = {name: int(count) for count, name in (line.split() for line in lines)}
    assert calls[module] > 0
    assert int(header.split()[-2]) >= len(lines)
