"""Search servers beside the files of one host: writing, building, and searches at their recall.

Milvus runs in a network namespace only: ``scripts/in_namespace scripts/bench --only scale_search``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from benchmarks.speed.compare import machine
from benchmarks.speed.ground_truth import exact_top_k
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.plugins import load
from mmsearch.core.query import Compare, Condition, FieldName
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields
from mmsearch.core.types import Ids, IndexSpec, Ranking, Vectors
from mmsearch.core.vector_servers import VectorBlock, VectorServer
from mmsearch.vector_indexes import faiss_flat
from mmsearch.vector_stores.pgvector import PgvectorCollection
from tests.cluster.services import processes_of, service

ROWS, QUERIES, ROUNDS = 20_000, 20, 3
SHARES = (0.04, 0.5)
"""Shares of the pictures that pass the filters."""

SERVERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "pgvector": ("postgres_vector", "POSTGRES_URL", ("",)),
    "milvus": ("milvus", "MILVUS_URL", ("flat", "hnsw", "ivf_sq8")),
}
"""Service of tests, the name of its URL, and the kinds of index to build, by plugin."""

_MISSING = {name: () if kind == "texts" else None for name, kind in SEARCH_FIELDS.items()}
_WIDTHS = 1000
_BLOCK_ROWS = 5000


def measure(photos: Path, cache: Path, rows: int = ROWS) -> dict[str, Any]:
    """Measure each server and the files on the same vectors; a query is a call of its own."""
    collection = Collection("gap", rows)
    queries = collection.text_queries(QUERIES)
    widths = np.random.default_rng(1).integers(0, _WIDTHS, rows)
    truth = {
        share: _exact(collection, queries, widths < share * _WIDTHS) for share in (1.0, *SHARES)
    }
    lines = [_measure_files(collection, queries, widths, truth)]
    for name in SERVERS:
        try:
            lines += _measure_server(name, collection, queries, widths, truth)
        except pytest.skip.Exception as reason:
            print(f"{name} is not measured: {reason}", file=sys.stderr)
    return {"machine": machine(), "rows": rows, "dim": DIM, "queries": QUERIES, "lines": lines}


def _exact(collection: Collection, queries: Vectors, mask: NDArray[np.bool_]) -> Ids:
    """Return the 1,000 nearest ids of each query among the rows of a mask, int64 (q, 1000)."""
    masks = iter(np.split(mask, np.cumsum([len(ids) for ids, _ in collection.blocks()])[:-1]))
    passing = ((ids, rows, next(masks)) for ids, rows in collection.blocks())
    return exact_top_k(((ids[m], rows[m]) for ids, rows, m in passing), queries, 1000)[0]


def _measure_files(
    collection: Collection, queries: Vectors, widths: NDArray[np.int64], truth: dict[float, Ids]
) -> dict[str, Any]:
    ids = np.concatenate([ids for ids, _ in collection.blocks()])
    with tempfile.TemporaryDirectory() as folder:
        spec, path = IndexSpec("faiss_flat", DIM, "cpu"), Path(folder, "index.vectors")
        started_s = time.perf_counter()
        file_ref = faiss_flat.write(spec, collection.blocks(), path)
        build_s = time.perf_counter() - started_s
        index = faiss_flat.load(spec, path, file_ref)
        allowed = {share: np.sort(ids[widths < share * _WIDTHS]) for share in SHARES}

        def search(query: Vectors, k: int, share: float) -> Ranking:
            return index.search(query, k, None if share == 1.0 else allowed[share])

        return {
            "name": "files (faiss_flat)",
            "write_s": 0.0,
            "build_s": build_s,
            "mb": file_ref.bytes / 1e6,
            **_measure_searches(search, queries, truth),
        }


def _measure_server(
    name: str,
    collection: Collection,
    queries: Vectors,
    widths: NDArray[np.int64],
    truth: dict[float, Ids],
) -> list[dict[str, Any]]:
    """Measure each kind of index on a server that is started for them, one after another."""
    service_name, url_name, kinds = SERVERS[name]
    lines = []
    with (
        tempfile.TemporaryDirectory() as folder,
        service(service_name, Path(folder)) as state,
        patch.dict(
            os.environ,
            MMSEARCH_SEARCH_PASSWORD=state.get("POSTGRES_PASSWORD", ""),
            MMSEARCH_MILVUS_REPLICAS="1",
        ),
    ):
        url = state[url_name] + ("/benchmark" if name == "milvus" else "")
        for kind in kinds:
            os.environ["MMSEARCH_MILVUS_INDEX"] = kind
            server: VectorServer = load("vector_stores", name).build(url, "benchmark")
            line = _measure_collection(server, f"c0_{kind}", collection, queries, widths, truth)
            # Other processes of PostgreSQL share its memory, and the system keeps the rest.
            memory_mb = line.pop("table_mb", None) or _memory_mb(folder)
            lines.append({"name": f"{name} {kind}".strip(), "mb": memory_mb, **line})
            server.drop(f"c0_{kind}")
            server.close()
    return lines


def _memory_mb(folder: str) -> float:
    """Return the memory of the processes of a service, of which shared pages count once."""
    total_kb = 0
    for process_id in processes_of(folder):
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
        total_kb += int(rollup.split("Pss:")[1].split()[0])
    return total_kb / 1000


def _measure_collection(
    server: VectorServer,
    name: str,
    collection: Collection,
    queries: Vectors,
    widths: NDArray[np.int64],
    truth: dict[float, Ids],
) -> dict[str, Any]:
    written_s = 0.0
    started_s = time.perf_counter()

    def blocks() -> Iterator[VectorBlock]:
        nonlocal written_s
        first = 0
        for ids, vectors in collection.blocks(_BLOCK_ROWS):
            items = [
                ItemFields(item_id, _MISSING | {"width": int(width)})
                for item_id, width in zip(ids.tolist(), widths[first:].tolist(), strict=False)
            ]
            first += len(ids)
            yield VectorBlock(ids, vectors, items, np.ones(len(ids), np.int64))
        written_s = time.perf_counter() - started_s

    stored = server.create(name, DIM, blocks())
    ended_s = time.perf_counter() - started_s
    conditions: dict[float, Condition | None] = {1.0: None} | {
        share: Compare(FieldName("width"), "<", share * _WIDTHS) for share in SHARES
    }

    def search(query: Vectors, k: int, share: float) -> Ranking:
        return stored.search(query, k, condition=conditions[share])

    line = {
        "write_s": written_s,
        "build_s": ended_s - written_s,
        **_measure_searches(search, queries, truth),
    }
    if isinstance(stored, PgvectorCollection):
        line["table_mb"] = stored.pool.run(partial(_table_mb, stored))
    return line


def _table_mb(stored: PgvectorCollection, connection: psycopg.Connection[Any]) -> float:
    name = stored.table.as_string(connection)
    ((size,),) = connection.execute("SELECT pg_total_relation_size(%s::regclass)", [name])
    return float(size) / 1e6


def _measure_searches(
    search: Callable[[Vectors, int, float], Ranking], queries: Vectors, truth: dict[float, Ids]
) -> dict[str, Any]:
    """Return the median time of a query and the recall, by k and the share that passes."""
    found: dict[str, Any] = {"ms": {}, "recall": {}}
    for share, nearest in truth.items():
        for k in (10, 1000):
            times_ms, shares = [], []
            for _ in range(ROUNDS):
                for row in range(len(queries)):
                    started_s = time.perf_counter()
                    ranking = search(queries[row : row + 1], k, share)
                    times_ms.append(1000 * (time.perf_counter() - started_s))
                    shares.append(np.isin(nearest[row, :k], ranking.ids[0]).mean())
            key = f"{share:g}/{k}"
            found["ms"][key] = [float(np.median(times_ms)), float(np.percentile(times_ms, 95))]
            found["recall"][key] = float(np.mean(shares))
    return found


def page(results: dict[str, Any]) -> str:
    """Return the section of the page of results."""
    keys = [f"{share:g}/{k}" for share in (1.0, *SHARES) for k in (10, 1000)]
    shown = {share: "all" if share == 1.0 else f"{100 * share:g} %" for share in (1.0, *SHARES)}
    names = [f"{shown[share]}, k={k}" for share in shown for k in (10, 1000)]
    lines = [
        "## Search servers\n",
        f"{results['rows']:,} vectors of {results['dim']} dimensions with the modality gap,"
        f" {results['queries']} text queries, each asked {ROUNDS} times, one at a time, on"
        f" {results['machine']['processors']} processors with a load of"
        f" {results['machine']['load']}; servers on the same host. Memory: the file; table and"
        " graph of pgvector; all processes of Milvus, also what they need without vectors. Cells: median (95th percentile)"
        " in milliseconds, and recall against exact search, by the pictures that pass a filter.\n",
        "| store | write, s | build, s | memory, MB | " + " | ".join(names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for line in results["lines"]:
        cells = [
            f"{line['ms'][key][0]:.1f} ({line['ms'][key][1]:.1f}), {line['recall'][key]:.3f}"
            for key in keys
        ]
        lines.append(
            f"| {line['name']} | {line['write_s']:.1f} | {line['build_s']:.1f} | {line['mb']:.0f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines) + "\n"
