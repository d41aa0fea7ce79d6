"""Vector indexes of peers with common parameters, and the setting that trades recall for speed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np

from benchmarks.speed.peer_environments import PeerUnavailableError, ensure_peer_python
from benchmarks.speed.recall_curves import geometric_steps
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.types import Ids, Vectors

HNSW_LINKS, EF_CONSTRUCTION = 32, 200
EF_SEARCH_VALUES = geometric_steps(10, 10_000)
TRAINING_ROWS_PER_CENTROID = 64
"""Training vectors per centroid."""

AUTOFAISS_REQUIREMENTS = ("autofaiss==2.18.0", "faiss-cpu==1.15.1", "pyarrow==19.0.1")
AUTOFAISS_SCRIPT = """
import json, sys
from autofaiss.external.optimize import get_optimal_index_keys_v2
print(json.dumps(get_optimal_index_keys_v2(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])[0]))
"""
AUTOFAISS_MEMORY = "16G"
"""Memory limit for autofaiss; this is its default."""


class Contender(Protocol):
    """A built index, searched by a single thread."""

    @property
    def settings(self) -> Sequence[Any]:
        """Settings, from cheap to expensive."""

    def apply_setting(self, setting: Any) -> None:
        """Use a setting for all further searches."""

    def search(self, queries: Vectors, k: int) -> Ids:
        """Return the ids of the k best rows, int64 (q, k), for queries, float32 (q, dim)."""


@dataclass
class FaissContender:
    """A FAISS index and the name of its setting."""

    index: Any
    parameter: str
    settings: Sequence[int]

    def apply_setting(self, setting: Any) -> None:
        """See `Contender`."""
        faiss.ParameterSpace().set_index_parameter(self.index, self.parameter, setting)

    def search(self, queries: Vectors, k: int) -> Ids:
        """See `Contender`."""
        found: Ids = self.index.search(queries, k)[1]
        return found


@dataclass
class HnswlibContender:
    """An index of hnswlib."""

    index: Any
    settings: Sequence[int] = tuple(EF_SEARCH_VALUES)

    def apply_setting(self, setting: Any) -> None:
        """See `Contender`."""
        self.index.set_ef(setting)

    def search(self, queries: Vectors, k: int) -> Ids:
        """See `Contender`."""
        return self.index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)


@dataclass
class UsearchContender:
    """An index of usearch."""

    index: Any
    settings: Sequence[int] = tuple(EF_SEARCH_VALUES)

    def apply_setting(self, setting: Any) -> None:
        """See `Contender`."""
        self.index.expansion_search = setting

    def search(self, queries: Vectors, k: int) -> Ids:
        """See `Contender`."""
        keys = self.index.search(queries, k, threads=1).keys
        return keys.reshape(len(queries), k).astype(np.int64)


def num_lists(rows: int) -> int:
    """Return the number of inverted lists: a power of 2 near 4 sqrt(rows), as FAISS advises."""
    return int(2 ** np.round(np.log2(4 * np.sqrt(rows))))


def train_and_add(index: Any, collection: Collection) -> None:
    """Train on as many of the first rows as the centroids need, and add all rows."""
    if not index.is_trained:
        num_training_rows = max(TRAINING_ROWS_PER_CENTROID * num_lists(collection.rows), 65_536)
        _, sample = next(collection.blocks(min(collection.rows, num_training_rows)))
        index.train(sample)
    for _, vectors in collection.blocks():
        index.add(vectors)


def ivf_flat(collection: Collection, cache: Path) -> Contender:
    """Build FAISS's inverted file of float32 rows."""
    count = num_lists(collection.rows)
    return _build_faiss(collection, cache, f"IVF{count},Flat", "nprobe", geometric_steps(1, count))


def faiss_hnsw(collection: Collection, cache: Path) -> Contender:
    """Build FAISS's HNSW graph."""
    return _build_faiss(
        collection, cache, f"HNSW{HNSW_LINKS}", "efSearch", EF_SEARCH_VALUES, EF_CONSTRUCTION
    )


def autofaiss_pick(rows: int) -> str:
    """Return the index that autofaiss chooses, as determined in its own environment.

    autofaiss needs faiss-cpu, which cannot be installed beside faiss-gpu, so the chosen index is
    built with the FAISS of this environment.

    Raises:
        PeerUnavailableError: autofaiss cannot be installed or does not respond.
    """
    python = ensure_peer_python("autofaiss", AUTOFAISS_REQUIREMENTS)
    command = [python, "-c", AUTOFAISS_SCRIPT, str(rows), str(DIM), AUTOFAISS_MEMORY]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["it said nothing"]
        raise PeerUnavailableError(f"autofaiss does not run: {lines[-1]}")
    return str(json.loads(process.stdout.splitlines()[-1]))


def autofaiss(collection: Collection, cache: Path) -> Contender:
    """Build the index that autofaiss chooses, with FAISS's defaults, as autofaiss does."""
    key = autofaiss_pick(collection.rows)
    if key.startswith("HNSW"):
        return _build_faiss(collection, cache, key, "efSearch", EF_SEARCH_VALUES)
    return _build_faiss(
        collection, cache, key, "nprobe", geometric_steps(1, num_lists(collection.rows))
    )


def hnswlib(collection: Collection, cache: Path) -> Contender:
    """Build hnswlib's graph, the implementation by the authors of HNSW."""
    try:
        import hnswlib as library  # noqa: PLC0415 - optional
    except ImportError as error:
        raise PeerUnavailableError(f"hnswlib is not installed: {error}") from error
    index = library.Index(space="ip", dim=DIM)
    file = cache / "peers" / f"{collection.name}-hnswlib"

    def build() -> None:
        index.init_index(collection.rows, EF_CONSTRUCTION, HNSW_LINKS, random_seed=0)
        for ids, vectors in collection.blocks():
            index.add_items(vectors, ids)

    _build_or_load(
        file, build, lambda: index.save_index(str(file)), lambda: index.load_index(str(file))
    )
    return HnswlibContender(index)


def usearch(collection: Collection, cache: Path) -> Contender:
    """Build usearch's graph over float16 rows, which halves the memory traffic."""
    try:
        from usearch.index import Index  # noqa: PLC0415 - optional
    except ImportError as error:
        raise PeerUnavailableError(f"usearch is not installed: {error}") from error
    index = Index(
        ndim=DIM, metric="ip", dtype="f16", connectivity=HNSW_LINKS, expansion_add=EF_CONSTRUCTION
    )
    file = cache / "peers" / f"{collection.name}-usearch"

    def build() -> None:
        for ids, vectors in collection.blocks():
            index.add(ids.astype(np.uint64), vectors, threads=os.cpu_count() or 1)

    _build_or_load(file, build, lambda: index.save(str(file)), lambda: index.load(str(file)))
    return UsearchContender(index)


PEERS: dict[str, Callable[[Collection, Path], Contender]] = {
    f"FAISS HNSW{HNSW_LINKS}": faiss_hnsw,
    "FAISS IVF,Flat": ivf_flat,
    "hnswlib": hnswlib,
    "usearch": usearch,
    "autofaiss' pick": autofaiss,
}


def build_seconds(collection: Collection, cache: Path) -> dict[str, float]:
    """Return the CPU seconds of each build by name, as measured when the index was built."""
    stored = (cache / "peers").glob(f"{collection.name}-*.json")
    return {
        file.stem.removeprefix(f"{collection.name}-"): json.loads(file.read_text())["seconds"]
        for file in sorted(stored)
    }


def _build_faiss(
    collection: Collection,
    cache: Path,
    key: str,
    parameter: str,
    settings: Sequence[int],
    construction: int | None = None,
) -> Contender:
    index = faiss.index_factory(DIM, key, faiss.METRIC_INNER_PRODUCT)
    if construction:
        index.hnsw.efConstruction = construction
    name = key.replace(",", "-") + (f"-{construction}" if construction else "")
    file = cache / "peers" / f"{collection.name}-{name}"
    _build_or_load(
        file,
        lambda: train_and_add(index, collection),
        lambda: faiss.write_index(index, str(file)),
        lambda: None,
    )
    return FaissContender(faiss.read_index(str(file)), parameter, settings)


def _build_or_load(
    file: Path, build: Callable[[], None], save: Callable[[], None], load: Callable[[], None]
) -> None:
    """Build an index once and cache its file, because a graph takes minutes to build."""
    marker = file.with_name(file.name + ".json")
    if marker.is_file():
        load()
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    started_s = time.process_time()
    build()
    seconds = time.process_time() - started_s
    save()
    marker.write_text(json.dumps({"seconds": round(seconds, 1)}) + "\n", encoding="utf-8")
