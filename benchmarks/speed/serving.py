"""A server beside the same search in one's own process, and many clients beside one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch as library
from benchmarks.speed.compare import against, interval, machine, row, table
from benchmarks.speed.filled import fill
from benchmarks.speed.http_load import Client, ask_all, processor_s
from mmsearch.core.hardware import processors
from mmsearch.core.settings import load_settings
from mmsearch.factories.encoders import make_encoder
from mmsearch.indexing.tuning_queries import phrases
from mmsearch.storage.layout import IndexLayout

COMMAND = Path(sys.executable).with_name("mmsearch")
SERVERS = 5
"""Started one after the other: one is faster than another, as its memory happens to lie."""

ROUNDS, A_ROUND = 3, 100
"""Rounds of each server, after one that does not count, and queries of a round."""

CLIENTS = 64
COUNTS = {1: A_ROUND, CLIENTS: 20 * CLIENTS}
"""Queries of a round, by how many clients ask."""

K = 10
LARGE = 80_000
"""Pictures of a photographer."""

LATENCY_BAR, THROUGHPUT_BAR = 1 / 1.2, 5.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Wall time; no query is asked twice, for texts are remembered."""
    a_server = K + (ROUNDS + 1) * (2 * A_ROUND + COUNTS[1] + 2 * COUNTS[CLIENTS])
    asked = phrases(2 * SERVERS * a_server)
    half = len(asked) // 2
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        with library.open_index(home=small, model="starter") as index:
            index.add_folder(photos)
            pictures = index.status().pictures
        fill(
            IndexLayout.of(large, "default"), make_encoder("starter", load_settings(), print), LARGE
        )
        return {
            "machine": machine(),
            "processors": processors(),
            "sizes": [
                _measure(f"{pictures} photographs", small, asked[:half]),
                _measure(f"{LARGE:,} random vectors", large, asked[half:]),
            ],
        }


def _measure(what: str, home: Path, asked: Sequence[str]) -> dict[str, Any]:
    texts = iter(asked)
    same = 0
    inside, outside = [], []
    loads: list[list[_Load]] = [[], [], [], []]
    with library.open_index(home=home) as index:
        for _ in range(SERVERS):
            with _server(home) as server, _server(home) as second:
                same += _same(index, Client(server.address, K), list(islice(texts, K)))
                for turn in range(ROUNDS + 1):
                    client = Client(server.address, K)
                    here, there = _in_turns(index, client, islice(texts, 2 * A_ROUND))
                    alone, crowd, shared = (
                        list(islice(texts, COUNTS[clients])) for clients in (1, CLIENTS, CLIENTS)
                    )
                    under = [
                        _load([server], 1, alone),
                        _load([server], CLIENTS, crowd),
                        _load([server], CLIENTS, crowd),
                        _load([server, second], CLIENTS, shared),
                    ]
                    if turn:
                        inside.append(here)
                        outside.append(there)
                        for kept, load in zip(loads, under, strict=True):
                            kept.append(load)
    latency = against(np.array(outside), np.array(inside))
    return {
        "row": row(what, latency, LATENCY_BAR, f"{same} of {SERVERS * K} answers the same"),
        "throughput": _throughput(*loads),
    }


@dataclass(frozen=True)
class _Load:
    """What one round of queries took.

    Attributes:
        rate: Queries a second.
        busy: Processors that the server and its clients kept busy.
    """

    rate: float
    busy: float


def _throughput(
    alone: Sequence[_Load],
    crowd: Sequence[_Load],
    again: Sequence[_Load],
    shared: Sequence[_Load],
) -> dict[str, Any]:
    ratios = np.array([many.rate / one.rate for one, many in zip(alone, crowd, strict=True)])
    low, high = interval(ratios)
    # As many as all processors could answer if none of them ever waited.
    most = [processors() * load.rate / load.busy for load in crowd]
    return {
        "alone_per_s": float(np.median([load.rate for load in alone])),
        "crowd_per_s": float(np.median([load.rate for load in crowd])),
        "again_per_s": float(np.median([load.rate for load in again])),
        "shared_per_s": float(np.median([load.rate for load in shared])),
        "alone_busy": float(np.median([load.busy for load in alone])),
        "crowd_busy": float(np.median([load.busy for load in crowd])),
        "most_ratio": float(np.median(np.array(most) / [load.rate for load in alone])),
        "ratio": float(np.median(ratios)),
        "low": low,
        "high": high,
    }


@dataclass(frozen=True)
class _Served:
    address: tuple[str, int]
    pid: int


@contextmanager
def _server(home: Path) -> Iterator[_Served]:
    process = subprocess.Popen(
        [COMMAND, "serve", "--home", home, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(home)},
    )
    try:
        said = process.stderr.readline() if process.stderr else ""
        found = re.search(r"http://([\d.]+):(\d+)", said)
        if found is None:
            raise RuntimeError(f"the server did not start: {said}")
        yield _Served((found[1], int(found[2])), process.pid)
    finally:
        process.terminate()
        process.communicate()


def _same(index: library.Index, client: Client, texts: list[str]) -> int:
    return sum(
        [hit.id for hit in index.search(text, k=K)] == [hit["id"] for hit in client.hits(text)]
        for text in texts
    )


def _in_turns(index: library.Index, client: Client, texts: Iterable[str]) -> tuple[float, float]:
    """Median seconds of a search in this process and of one over HTTP, in turns.

    Neither finds the processors and their caches as its own last search left them.
    """
    asked = [lambda text: index.search(text, k=K + 1), client.ask]
    times: list[list[float]] = [[], []]
    for number, text in enumerate(texts):
        began = time.perf_counter()
        asked[number % 2](text)
        times[number % 2].append(time.perf_counter() - began)
    return float(np.median(times[0])), float(np.median(times[1]))


def _load(servers: Sequence[_Served], clients: int, texts: list[str]) -> _Load:
    asking = [Client(server.address, K) for server, _ in zip(cycle(servers), range(clients))]
    began, before = time.perf_counter(), _used_s(servers)
    ask_all(asking, texts)
    took = time.perf_counter() - began
    return _Load(len(texts) / took, (_used_s(servers) - before) / took)


def _used_s(servers: Sequence[_Served]) -> float:
    return time.process_time() + sum(processor_s(server.pid) for server in servers)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    sizes, count = results["sizes"], results["processors"]
    return f"""\
## Served over HTTP

`mmsearch serve` on loopback, {count} processors for the server and its clients together; median wall time of a query, up to the
last byte of its answer, beside the same search in one's own process, a query here and a query there, over {SERVERS} servers one after
the other. The client is a socket, so that the server is measured. No query was asked before. The bar is 1.2 times the other's time.

{table([size["row"] for size in sizes], "over HTTP", "in process")}
Queries a second, of one client that asks one after the other, and of {CLIENTS} clients at once, and how many processors the server
and its clients kept busy meanwhile. The bar is {THROUGHPUT_BAR:g}x where cores allow. The last three columns say how far {count} of them
would go if none of them ever waited; what two servers of the index, with half of the clients each, answer; and what one answers to
{CLIENTS} clients that ask what was asked just before, so that no text is encoded: where other processors encode the texts, the rest is
one interpreter's work.

| index | one client | {CLIENTS} clients | ratio | bar | busy: one client | {CLIENTS} clients | {count} processors allow | two servers | asked again |
|---|---|---|---|---|---|---|---|---|---|
{"".join(map(_line, sizes))}"""


def _line(size: dict[str, Any]) -> str:
    told = size["throughput"]
    bar = "held" if told["low"] >= THROUGHPUT_BAR else "missed"
    cells = [
        size["row"]["name"],
        f"{told['alone_per_s']:.0f}",
        f"{told['crowd_per_s']:.0f}",
        f"{told['ratio']:.2f}x [{told['low']:.2f}, {told['high']:.2f}]",
        f"{THROUGHPUT_BAR:g}x: {bar}",
        f"{told['alone_busy']:.2f}",
        f"{told['crowd_busy']:.2f}",
        f"{told['most_ratio']:.2f}x",
        f"{told['shared_per_s']:.0f}",
        f"{told['again_per_s']:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"
