"""Catalogs in SQLite and in PostgreSQL: what their writers commit, reads, and imports of vectors.

Each writer is a process of its own that has made its shards before the time begins.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

import mmsearch
from benchmarks.speed import embeddings
from benchmarks.speed.compare import machine
from benchmarks.speed.random_index import fill_index
from mmsearch.core.catalog import CatalogReader, CatalogWriter
from mmsearch.core.records import (
    EncodedPicture,
    FileRef,
    IndexedFile,
    ScannedFile,
    Segment,
    ShardCommit,
)
from mmsearch.core.types import Picture, Text, select_encoded_texts, texts_digest
from mmsearch.storage.layout import IndexLayout
from tests.cluster.services import processes_of, service

PICTURES, PER_SHARD, ROUNDS = 12_000, 500, 3
"""Pictures that each writer commits, those of a shard, and repetitions."""

VECTORS, READS = 50_000, 200
METHODS = ("commit_shard", "commit_new")
WRITERS = {"SQLite": (1,), "PostgreSQL": (1, 3)}
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure both catalogs in turn, each round with new ones."""
    commits: dict[str, list[dict[str, float]]] = {}
    reads: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        service("postgres", Path(name, "server")) as state,
        patch.dict(os.environ, MMSEARCH_CATALOG_PASSWORD=state["POSTGRES_PASSWORD"]),
    ):
        folder, url = Path(name), state["POSTGRES_URL"]
        for number in range(ROUNDS):
            for kind, counts in WRITERS.items():
                for writers in counts:
                    for method in METHODS:
                        schema = f"{method}_{writers}_{number}"
                        place = (
                            str(folder / schema) if kind == "SQLite" else f"{url}?schema={schema}"
                        )
                        run = _measure_commits(place, method, writers, folder / "server")
                        commits.setdefault(f"{kind}/{writers}/{method}", []).append(run)
                        if writers == 1 and number == 0:
                            reads[kind] = _measure_reads(place)
        imports = _measure_imports(folder, url)
    return {
        "machine": machine(),
        "load": os.getloadavg()[1],
        "commits": commits,
        "reads": reads,
        "imports": imports,
    }


def _measure_commits(place: str, method: str, writers: int, server: Path) -> dict[str, float]:
    """Let writers commit at the same time; return their rate and the processor time of a picture."""
    _open(place, create=True).close()
    command = [sys.executable, "-m", __name__, place, method]
    processes = [
        subprocess.Popen(
            [*command, str(writer)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for writer in range(writers)
    ]
    for process in processes:
        _stream(process.stdout).readline()
    server_s, started_s = _server_time_s(server), time.monotonic()
    for process in processes:
        _stream(process.stdin).write("go\n")
        _stream(process.stdin).flush()
    times = [json.loads(_stream(process.stdout).readline()) for process in processes]
    wall_s = time.monotonic() - started_s
    server_s = _server_time_s(server) - server_s
    for process in processes:
        process.communicate()
    pictures = writers * PICTURES
    return {
        "bytes": _count_bytes(place) / pictures,
        "pictures_per_s": pictures / wall_s,
        "client_us": sum(times) / pictures * 1e6,
        "server_us": server_s / pictures * 1e6,
    }


def _stream(stream: Any) -> Any:
    if stream is None:
        raise RuntimeError("a writer has no stream")
    return stream


def _server_time_s(server: Path) -> float:
    """Return the processor time of the server, also of its processes that have ended."""
    # Those of connections have no environment by which to find them, but a parent that has.
    children: dict[int, list[int]] = {}
    times: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
            process = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(process)
            times[process] = sum(map(int, fields[11:15]))
    found, waiting = set[int](), processes_of(server)
    while waiting:
        process = waiting.pop()
        if process not in found:
            found.add(process)
            waiting += children.get(process, [])
    return sum(times.get(process, 0) for process in found) * _TICK_S


def _count_bytes(place: str) -> int:
    """Return the size of a catalog with its indexes."""
    if "://" not in place:
        return Path(place, "catalog.sqlite").stat().st_size
    from mmsearch.catalog.postgres import connect, parse_url  # noqa: PLC0415

    with connect(parse_url(place, Path("benchmark/catalog.sqlite"))) as connection:
        rows = connection.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = CAST(CAST(current_schema() AS TEXT) AS regnamespace)"
        ).fetchall()
    return int(rows[0][0])


def _open(place: str, *, create: bool = False) -> CatalogWriter:
    if "://" not in place:
        from mmsearch.catalog.open import open_writer  # noqa: PLC0415

        Path(place).mkdir(exist_ok=True)
        return open_writer(Path(place, "catalog.sqlite"), create=create)
    from mmsearch.catalog.postgres import parse_url  # noqa: PLC0415
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer  # noqa: PLC0415

    return open_postgres_writer(parse_url(place, Path("benchmark/catalog.sqlite")), create=create)


def _open_reader(place: str) -> CatalogReader:
    if "://" not in place:
        from mmsearch.catalog.reader import open_reader  # noqa: PLC0415

        return open_reader(Path(place, "catalog.sqlite"))
    from mmsearch.catalog.postgres import parse_url  # noqa: PLC0415
    from mmsearch.catalog.postgres_maintenance import open_postgres_reader  # noqa: PLC0415

    return open_postgres_reader(parse_url(place, Path("benchmark/catalog.sqlite")))


def _write(place: str, method: str, writer: int) -> None:
    """Commit the shards of a writer once its input says so; print its processor time."""
    with closing(_open(place)) as catalog:
        root, _ = catalog.ensure_root(b"/photos/%d" % writer)
        shards = list(_make_shards(catalog, root.id, writer))
        print("ready", flush=True)
        sys.stdin.readline()
        started_s = time.process_time()
        for shard in shards:
            getattr(catalog, method)(shard)
        print(time.process_time() - started_s, flush=True)
        # The server's process of an open connection can be asked for its time.
        sys.stdin.read()


def _make_shards(catalog: CatalogWriter, root_id: int, writer: int) -> Iterator[ShardCommit]:
    """Yield shards of new pictures, each with a caption of ten words and three keywords."""
    random = np.random.default_rng(writer)
    listed = files("mmsearch.core.language_data").joinpath("english.txt").read_text("utf-8")
    words = np.array(sorted(filter(str.isalpha, listed.split()))[:30_000])
    # The same words are frequent for all writers.
    np.random.default_rng(0).shuffle(words)

    def draw(count: int) -> list[str]:
        return list(words[np.minimum(random.zipf(1.3, count), len(words)) - 1])

    for _ in range(PICTURES // PER_SHARD):
        first_id, number = catalog.reserve_ids(PER_SHARD, 1)
        pictures, indexed = [], []
        for item_id in range(first_id, first_id + PER_SHARD):
            digest = hashlib.sha256(b"%d" % item_id).digest()
            texts = (Text("caption", " ".join(draw(10))), Text("keywords", "; ".join(draw(3))))
            picture = Picture(640, 480, "JPEG", taken_at="2020-05-17T10:11:12", texts=texts)
            encoded = texts_digest(select_encoded_texts(texts, ()))
            pictures.append(EncodedPicture(item_id, digest, picture, encoded))
            indexed.append(IndexedFile(ScannedFile(b"%d.jpg" % item_id, 24_000, 7), digest))
        sha256 = hashlib.sha256(b"%d" % number).hexdigest()
        file_ref = FileRef(f"segments/{number:06d}-{sha256[:16]}.vectors", 1000, sha256)
        segment = Segment(number, file_ref, PER_SHARD, 384)
        yield ShardCommit(root_id, 1, segment, pictures, indexed)


def _measure_reads(place: str) -> list[float]:
    """Return the median and the 95th percentile of snapshots that read 20 pictures, in ms."""
    random, times_ms = np.random.default_rng(0), []
    with closing(_open_reader(place)) as catalog:
        for _ in range(READS):
            ids = (1 + random.choice(PICTURES, 20, replace=False)).tolist()
            started_s = time.perf_counter()
            with catalog.snapshot() as snapshot:
                records = snapshot.records(ids)
            times_ms.append(1000 * (time.perf_counter() - started_s))
            if len(records) != len(ids):
                raise RuntimeError(f"{len(records)} of {len(ids)} pictures are in the catalog")
    return [float(np.median(times_ms)), float(np.percentile(times_ms, 95))]


def _measure_imports(folder: Path, url: str) -> dict[str, list[dict[str, float]]]:
    """Import the same vectors from .npy files, in turn, each time into a new index."""
    encoder: Any = embeddings.StandIn()
    fill_index(IndexLayout.for_name(folder, "exported"), encoder, VECTORS)
    exported = folder / "vectors"
    embeddings.run_step("export", folder, "exported", exported, "npy")
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in WRITERS}
    for number in range(ROUNDS):
        for kind, found in runs.items():
            name = f"imported-{kind.lower()}-{number}"
            if kind == "PostgreSQL":
                mmsearch.init_index(name, home=folder, catalog=url)
            found.append(embeddings.run_step("import", folder, name, exported, "npy"))
    return runs


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = []
    for key, runs in results["commits"].items():
        kind, writers, method = key.split("/")
        values = {name: median(run[name] for run in runs) for name in runs[0]}
        rates = [run["pictures_per_s"] for run in runs]
        server = f"{values['server_us']:.0f}" if kind == "PostgreSQL" else ""
        lines.append(
            f"| {kind} | {writers} | `{method}` | {values['pictures_per_s']:,.0f}"
            f" ({min(rates):,.0f} to {max(rates):,.0f}) | {values['client_us']:.0f} | {server}"
            f" | {values['bytes']:,.0f} |"
        )
    others = []
    for kind, (middle_ms, slow_ms) in results["reads"].items():
        runs = results["imports"][kind]
        wall_s, cpu_s = (
            median(run[k] for run in runs) for k in ("written_wall_s", "written_cpu_s")
        )
        others.append(
            f"| {kind} | {middle_ms:.2f} ({slow_ms:.2f}) | {VECTORS / wall_s:,.0f}"
            f" | {VECTORS / cpu_s:,.0f} |"
        )
    table, other_table = "\n".join(lines), "\n".join(others)
    return f"""\
## Catalogs

Commits of {PICTURES:,} new pictures a writer, each with a caption of ten words and three keywords, in shards of {PER_SHARD}, on
{results["machine"]["processors"]} processors; the server on the same host, with 64 MB of shared buffers. Medians of {ROUNDS} runs, with the lowest and the
highest; processor time and bytes, with indexes, are those of a picture. `commit_new` is what imports call, `commit_shard` what indexing calls.
Load of the machine: {results["load"]:.0f}.

| catalog | writers | method | pictures/s | writer, µs | server, µs | bytes |
|---|--:|---|--:|--:|--:|--:|
{table}

A snapshot that reads 20 pictures, median (95th percentile) of {READS}, and imports of {VECTORS:,} vectors of 384
dimensions from .npy files until the last commit, medians of {ROUNDS}:

| catalog | snapshot, ms | imported vectors/s | a second of the importer's processor time |
|---|--:|--:|--:|
{other_table}
"""


if __name__ == "__main__":
    _write(sys.argv[1], sys.argv[2], int(sys.argv[3]))
