"""A whole process, from its start to the first hit, beside torch and open_clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch import assembly
from mmsearch.core.layout import IndexLayout
from mmsearch.core.records import EncodedPicture, Identity, PlacedFile, SeenFile, ShardCommit
from mmsearch.core.segment_facts import SegmentFacts
from mmsearch.core.segments import SegmentVectors, no_texts, write_segment
from mmsearch.core.settings import Settings, load_settings
from mmsearch.core.types import EncoderSpec, FusionSpec, Picture, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.engine.build_index import save_index

ARCHITECTURE = "ViT-B-32"
SIZES = (1_000, 100_000, 1_000_000)
BLOCK, ROUNDS, BAR, K = 65_536, 7, 1 / 0.15, 10
QUERY = "a red car"
VECTOR_INDEX = "faiss_flat"

THEIRS = """
import sys
import numpy as np, open_clip, torch
from safetensors.torch import load_file
weights, vectors, query = sys.argv[1:]
model = open_clip.create_model("ViT-B-32").eval()
model.load_state_dict(load_file(weights))
with torch.inference_mode():
    tokens = open_clip.get_tokenizer("ViT-B-32")([query])
    wanted = model.encode_text(tokens, normalize=True).numpy()[0]
scores = np.load(vectors, mmap_mode="r") @ wanted
best = np.argpartition(-scores, 10)[:10]
print(*best[np.argsort(-scores[best])])
"""


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Times of a process, of which most is spent before the search."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "random.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
        settings = replace(load_settings(), cache=folder / "cache", offline=True)
        variant = f"open_clip:{ARCHITECTURE}@{weights}"
        encoder = assembly.make_encoder(variant, settings, lambda line: None)
        for size in SIZES:
            home = folder / str(size)
            vectors = folder / f"{size}.npy"
            _fill(IndexLayout.of(home, "default"), encoder.spec, vectors, size)
            rows.append(_row(size, home, weights, vectors, settings))
    return {"machine": machine(), "rows": rows}


def _row(size: int, home: Path, weights: Path, vectors: Path, settings: Settings) -> dict[str, Any]:
    query = [sys.executable, "-m", "mmsearch", "query", QUERY, "--home", home, "-k", str(K)]
    environment = os.environ | {"MMSEARCH_CACHE": str(settings.cache), "MMSEARCH_OFFLINE": "1"}
    other = [sys.executable, "-c", THEIRS, weights, vectors, QUERY]

    def ours() -> str:
        return _output([*query, "--json"], environment)

    def theirs() -> str:
        return _output(other, environment)

    result = compare(ours, theirs, rounds=ROUNDS, clock=time.perf_counter)
    found = {int(Path(hit["path"]).stem) for hit in json.loads(ours())["hits"]}
    same = len(found & {int(number) for number in theirs().split()})
    return row(f"{size:,} vectors", result, BAR, f"{same} of {K} the same")


def _output(command: list[Any], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return done.stdout


def _fill(layout: IndexLayout, encoder: EncoderSpec, copy: Path, size: int) -> None:
    """An index of random vectors, and the same vectors as an array of float32."""
    fusion = assembly.make_fusion(FusionSpec())
    plugin = assembly.vector_index_plugin(VECTOR_INDEX)
    whole = np.lib.format.open_memmap(copy, mode="w+", dtype=np.float32, shape=(size, encoder.dim))
    with assembly.writing(layout, 0, create=True) as catalog:
        catalog.bind(Identity(encoder, fusion.spec, VECTOR_INDEX, ()))
        root, _ = catalog.ensure_root(b"/nowhere")
        for number, (first, vectors) in enumerate(_blocks(size, encoder.dim), start=1):
            whole[first : first + len(vectors)] = vectors
            ids = np.arange(first, first + len(vectors), dtype=np.int64) + 1
            pictures = [
                EncodedPicture(int(i), int(i).to_bytes(32, "big"), Picture(640, 480, "JPEG"))
                for i in ids
            ]
            held = SegmentVectors(ids, vectors, [no_texts(encoder.dim)] * len(ids))
            segment = write_segment(layout, number, held, SegmentFacts(encoder, pictures))
            placed = [
                PlacedFile(SeenFile(b"%d.jpg" % (item.id - 1), 1, 1), item.digest)
                for item in pictures
            ]
            catalog.commit_shard(ShardCommit(root.id, 1, segment, pictures, placed))
        built = save_index(
            layout, catalog.segments(), fusion, VECTOR_INDEX, plugin, np.empty(0, np.int64)
        )
        catalog.publish(built)
    whole.flush()


def _blocks(size: int, dim: int) -> Iterator[tuple[int, Vectors]]:
    random = np.random.default_rng(0)
    for first in range(0, size, BLOCK):
        rows = random.standard_normal((min(BLOCK, size - first), dim), dtype=np.float32)
        yield first, as_unit_vectors(rows)


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    return f"""\
## From the command to the first hit

`mmsearch query "{QUERY}"` as a whole process, wall time, beside one that loads the same {ARCHITECTURE} with
torch and open_clip and multiplies its vector with an array mapped into memory, which knows no files, texts,
filters or confidence. Random weights and vectors. The bar is 0.15 of the other's time. The guard: hits that both find
among {K}, mmsearch's from a text tower in int8 and vectors in float16.

{table(results["rows"], "mmsearch", "torch + open_clip")}"""
