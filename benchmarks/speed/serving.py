"""A server beside the same search in one's own process, and many clients beside one."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch as library
from benchmarks.speed.compare import against, interval, machine, row, table
from benchmarks.speed.filled import fill
from mmsearch.assembly.models import make_encoder
from mmsearch.core.hardware import processors
from mmsearch.core.layout import IndexLayout
from mmsearch.core.settings import load_settings
from mmsearch.engine.asked_texts import phrases

COMMAND = Path(sys.executable).with_name("mmsearch")
ROUNDS, A_ROUND = 15, 100
CLIENTS, EACH = 64, 10
K = 10
LARGE = 80_000
"""Pictures of a photographer."""

LATENCY_BAR, THROUGHPUT_BAR = 1 / 1.2, 5.0


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Wall time; no query is asked twice, for texts are remembered."""
    asked = phrases(2 * ((ROUNDS + 1) * (3 * A_ROUND + CLIENTS * EACH) + K))
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
    with library.open_index(home=home) as index, _server(home) as address:
        same = _same(index, _Client(address), list(islice(texts, K)))
        inside, outside, alone, crowd = [], [], [], []
        for turn in range(ROUNDS + 1):
            here, there = _in_turns(index, _Client(address), islice(texts, 2 * A_ROUND))
            rates = [
                _rate([_Client(address) for _ in range(clients)], list(islice(texts, count)))
                for clients, count in ((1, A_ROUND), (CLIENTS, CLIENTS * EACH))
            ]
            if turn:
                inside.append(here)
                outside.append(there)
                alone.append(rates[0])
                crowd.append(rates[1])
    latency = against(np.array(outside), np.array(inside))
    ratios = np.array(crowd) / np.array(alone)
    low, high = interval(ratios)
    return {
        "row": row(what, latency, LATENCY_BAR, f"{same} of {K} answers the same"),
        "throughput": {
            "alone_per_s": float(np.median(alone)),
            "crowd_per_s": float(np.median(crowd)),
            "ratio": float(np.median(ratios)),
            "low": low,
            "high": high,
        },
    }


class _Client:
    """One connection that stays open."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address)

    def search(self, text: str) -> list[int]:
        """Ids of the best hits."""
        body = json.dumps({"query": text, "limit": K})
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/v1/indexes/default/search", body, headers)
        answer = json.loads(self._connection.getresponse().read())
        return [hit["id"] for hit in answer["hits"]]


@contextmanager
def _server(home: Path) -> Iterator[tuple[str, int]]:
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
        yield found[1], int(found[2])
    finally:
        process.terminate()
        process.communicate()


def _same(index: library.Index, client: _Client, texts: list[str]) -> int:
    return sum([hit.id for hit in index.search(t, k=K)] == client.search(t) for t in texts)


def _in_turns(index: library.Index, client: _Client, texts: Iterable[str]) -> tuple[float, float]:
    """Median seconds of a search in this process and of one over HTTP, in turns.

    Neither finds the processors and their caches as its own last search left them.
    """
    asked = [lambda text: index.search(text, k=K + 1), client.search]
    times: list[list[float]] = [[], []]
    for number, text in enumerate(texts):
        began = time.perf_counter()
        asked[number % 2](text)
        times[number % 2].append(time.perf_counter() - began)
    return float(np.median(times[0])), float(np.median(times[1]))


def _rate(clients: list[_Client], texts: list[str]) -> float:
    """Queries a second, each client asking one after the other."""
    shares = [texts[at :: len(clients)] for at in range(len(clients))]

    def ask(client: _Client, share: list[str]) -> None:
        for text in share:
            client.search(text)

    with ThreadPoolExecutor(len(clients)) as pool:
        began = time.perf_counter()
        list(pool.map(ask, clients, shares))
        return len(texts) / (time.perf_counter() - began)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    sizes = results["sizes"]
    return f"""\
## Served over HTTP

`mmsearch serve` on loopback, {results["processors"]} processors for the server and its clients together; median wall time of a query
beside the same search in one's own process, a query here and a query there. No query is asked twice. The bar is 1.2 times the other's time.

{table([size["row"] for size in sizes], "over HTTP", "in process")}
Queries a second, of one client that asks one after the other, and of {CLIENTS} clients at once. The bar is {THROUGHPUT_BAR:g}x where
cores allow: on two, what is computed for one query leaves little idle.

| index | one client | {CLIENTS} clients | ratio | bar |
|---|---|---|---|---|
{"".join(map(_throughput, sizes))}"""


def _throughput(size: dict[str, Any]) -> str:
    told = size["throughput"]
    bar = "held" if told["low"] >= THROUGHPUT_BAR else "missed"
    ratio = f"{told['ratio']:.2f}x [{told['low']:.2f}, {told['high']:.2f}]"
    alone, crowd = f"{told['alone_per_s']:.0f}", f"{told['crowd_per_s']:.0f}"
    return f"| {size['row']['name']} | {alone} | {crowd} | {ratio} | {THROUGHPUT_BAR:g}x: {bar} |\n"
