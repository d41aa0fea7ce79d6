"""A server compared with the same search in process, and many clients compared with one."""

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
from benchmarks.speed.compare import bootstrap_interval, compare_times, machine, row, table
from benchmarks.speed.http_load import RawClient, process_cpu_s, run_load
from benchmarks.speed.random_index import fill_index
from mmsearch.core.settings import load_settings
from mmsearch.core.threads import available_cpus
from mmsearch.factories.plugins import make_encoder
from mmsearch.indexing.tuning_queries import synthetic_queries
from mmsearch.storage.layout import IndexLayout

COMMAND = Path(sys.executable).with_name("mmsearch")
NUM_SERVERS = 5
"""Number of servers started in sequence. Their speed varies with their memory layout."""

ROUNDS, QUERIES_PER_ROUND = 3, 100
"""Rounds per server after a warm-up round, and queries per round."""

NUM_CLIENTS = 64
QUERIES_BY_CLIENTS = {1: QUERIES_PER_ROUND, NUM_CLIENTS: 20 * NUM_CLIENTS}
"""Queries per round, by number of clients."""

K = 10
LARGE_INDEX_SIZE = 80_000
"""Number of pictures, typical of a photographer."""

MIN_LATENCY_RATIO, MIN_THROUGHPUT_RATIO = 1 / 1.2, 5.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure wall time; no query is repeated, because text embeddings are cached."""
    queries_per_server = K + (ROUNDS + 1) * (
        2 * QUERIES_PER_ROUND + QUERIES_BY_CLIENTS[1] + 2 * QUERIES_BY_CLIENTS[NUM_CLIENTS]
    )
    texts = synthetic_queries(2 * NUM_SERVERS * queries_per_server)
    half = len(texts) // 2
    with tempfile.TemporaryDirectory() as name:
        small, large = Path(name) / "small", Path(name) / "large"
        with library.open_index(home=small, model="starter") as index:
            index.add_folder(photos)
            pictures = index.status().pictures
        fill_index(
            IndexLayout.for_name(large, "default"),
            make_encoder("starter", load_settings(), print),
            LARGE_INDEX_SIZE,
        )
        return {
            "machine": machine(),
            "processors": available_cpus(),
            "sizes": [
                _measure_index(f"{pictures} photographs", small, texts[:half]),
                _measure_index(f"{LARGE_INDEX_SIZE:,} random vectors", large, texts[half:]),
            ],
        }


def _measure_index(name: str, home: Path, all_texts: Sequence[str]) -> dict[str, Any]:
    texts = iter(all_texts)
    num_same = 0
    in_process_s, over_http_s = [], []
    loads: list[list[_LoadResult]] = [[], [], [], []]
    with library.open_index(home=home) as index:
        for _ in range(NUM_SERVERS):
            with _run_server(home) as server, _run_server(home) as second:
                num_same += _count_same(index, RawClient(server.address, K), list(islice(texts, K)))
                for round_number in range(ROUNDS + 1):
                    client = RawClient(server.address, K)
                    local_s, remote_s = _time_alternating(
                        index, client, islice(texts, 2 * QUERIES_PER_ROUND)
                    )
                    alone, crowd, shared = (
                        list(islice(texts, QUERIES_BY_CLIENTS[clients]))
                        for clients in (1, NUM_CLIENTS, NUM_CLIENTS)
                    )
                    round_loads = [
                        _run_round([server], 1, alone),
                        _run_round([server], NUM_CLIENTS, crowd),
                        _run_round([server], NUM_CLIENTS, crowd),
                        _run_round([server, second], NUM_CLIENTS, shared),
                    ]
                    if round_number:
                        in_process_s.append(local_s)
                        over_http_s.append(remote_s)
                        for results, load in zip(loads, round_loads, strict=True):
                            results.append(load)
    latency = compare_times(np.array(over_http_s), np.array(in_process_s))
    return {
        "row": row(
            name, latency, MIN_LATENCY_RATIO, f"{num_same} of {NUM_SERVERS * K} answers the same"
        ),
        "throughput": _throughput(*loads),
    }


@dataclass(frozen=True)
class _LoadResult:
    """The load of one round of queries.

    Attributes:
        queries_per_s: Queries per second.
        busy_cores: Number of CPU cores that the server and its clients kept busy.
    """

    queries_per_s: float
    busy_cores: float


def _throughput(
    alone: Sequence[_LoadResult],
    crowd: Sequence[_LoadResult],
    again: Sequence[_LoadResult],
    shared: Sequence[_LoadResult],
) -> dict[str, Any]:
    ratios = np.array(
        [many.queries_per_s / one.queries_per_s for one, many in zip(alone, crowd, strict=True)]
    )
    low, high = bootstrap_interval(ratios)
    # This is the rate if all CPU cores were busy all the time.
    most = [available_cpus() * load.queries_per_s / load.busy_cores for load in crowd]
    return {
        "alone_per_s": float(np.median([load.queries_per_s for load in alone])),
        "crowd_per_s": float(np.median([load.queries_per_s for load in crowd])),
        "again_per_s": float(np.median([load.queries_per_s for load in again])),
        "shared_per_s": float(np.median([load.queries_per_s for load in shared])),
        "alone_busy": float(np.median([load.busy_cores for load in alone])),
        "crowd_busy": float(np.median([load.busy_cores for load in crowd])),
        "most_ratio": float(np.median(np.array(most) / [load.queries_per_s for load in alone])),
        "ratio": float(np.median(ratios)),
        "low": low,
        "high": high,
    }


@dataclass(frozen=True)
class _ServerProcess:
    address: tuple[str, int]
    pid: int


@contextmanager
def _run_server(home: Path) -> Iterator[_ServerProcess]:
    process = subprocess.Popen(
        [COMMAND, "serve", "--home", home, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(home)},
    )
    try:
        line = process.stderr.readline() if process.stderr else ""
        match = re.search(r"http://([\d.]+):(\d+)", line)
        if match is None:
            raise RuntimeError(f"the server did not start: {line}")
        yield _ServerProcess((match[1], int(match[2])), process.pid)
    finally:
        process.terminate()
        process.communicate()


def _count_same(index: library.Index, client: RawClient, texts: list[str]) -> int:
    return sum(
        [hit.id for hit in index.search(text, k=K)] == [hit["id"] for hit in client.hits(text)]
        for text in texts
    )


def _time_alternating(
    index: library.Index, client: RawClient, texts: Iterable[str]
) -> tuple[float, float]:
    """Return the median seconds of a search in process and of one over HTTP, run alternately.

    Because they alternate, neither benefits from CPU caches that its own last search warmed up.
    """
    searches = [lambda text: index.search(text, k=K + 1), client.ask]
    times: list[list[float]] = [[], []]
    for number, text in enumerate(texts):
        started_s = time.perf_counter()
        searches[number % 2](text)
        times[number % 2].append(time.perf_counter() - started_s)
    return float(np.median(times[0])), float(np.median(times[1]))


def _run_round(
    servers: Sequence[_ServerProcess], num_clients: int, texts: list[str]
) -> _LoadResult:
    connections = [
        RawClient(server.address, K) for server, _ in zip(cycle(servers), range(num_clients))
    ]
    started_s, cpu_before_s = time.perf_counter(), _cpu_seconds(servers)
    run_load(connections, texts)
    elapsed_s = time.perf_counter() - started_s
    return _LoadResult(len(texts) / elapsed_s, (_cpu_seconds(servers) - cpu_before_s) / elapsed_s)


def _cpu_seconds(servers: Sequence[_ServerProcess]) -> float:
    return time.process_time() + sum(process_cpu_s(server.pid) for server in servers)


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    sizes, count = results["sizes"], results["processors"]
    return f"""\
## Served over HTTP

`mmsearch serve` on loopback, {count} processors for the server and its clients together; median wall time of a query, up to the
last byte of its answer, beside the same search in one's own process, a query here and a query there, over {NUM_SERVERS} servers one after
the other. The client is a socket, so that the server is measured. No query was asked before. The bar is 1.2 times the other's time.

{table([size["row"] for size in sizes], "over HTTP", "in process")}
Queries a second, of one client that asks one after the other, and of {NUM_CLIENTS} clients at once, and how many processors the server
and its clients kept busy meanwhile. The bar is {MIN_THROUGHPUT_RATIO:g}x where cores allow. The last three columns say how far {count} of them
would go if none of them ever waited; what two servers of the index, with half of the clients each, answer; and what one answers to
{NUM_CLIENTS} clients that ask what was asked just before, so that no text is encoded: where other processors encode the texts, the rest is
one interpreter's work.

| index | one client | {NUM_CLIENTS} clients | ratio | bar | busy: one client | {NUM_CLIENTS} clients | {count} processors allow | two servers | asked again |
|---|---|---|---|---|---|---|---|---|---|
{"".join(map(_line, sizes))}"""


def _line(size: dict[str, Any]) -> str:
    throughput = size["throughput"]
    bar = "held" if throughput["low"] >= MIN_THROUGHPUT_RATIO else "missed"
    cells = [
        size["row"]["name"],
        f"{throughput['alone_per_s']:.0f}",
        f"{throughput['crowd_per_s']:.0f}",
        f"{throughput['ratio']:.2f}x [{throughput['low']:.2f}, {throughput['high']:.2f}]",
        f"{MIN_THROUGHPUT_RATIO:g}x: {bar}",
        f"{throughput['alone_busy']:.2f}",
        f"{throughput['crowd_busy']:.2f}",
        f"{throughput['most_ratio']:.2f}x",
        f"{throughput['shared_per_s']:.0f}",
        f"{throughput['again_per_s']:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"
