"""Exact search on a GPU, as a share of the limit set by its memory bandwidth and arithmetic."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.calib import check_gpu, device, gpu_clock, limits
from benchmarks.speed.compare import compare
from benchmarks.speed.mmsearch_contender import NAME
from benchmarks.speed.synthetic import DIM, Collection
from mmsearch.core.types import IndexSpec, Ranking
from mmsearch.vector_indexes import faiss_flat

SIZES = (1_000_000, 10_000_000)
QUERY_COUNTS = (1, 32, 256, 1024)
K, ROUNDS, CHUNK_ROWS = 10, 7, 2**20
BYTES_PER_ROW = DIM * 2
MIN_SHARES = {
    (1_000_000, 1): 1 / 2,
    (10_000_000, 1): 1 / 1.25,
    (1_000_000, 1024): 0.5,
    (10_000_000, 1024): 0.5,
}
"""Required shares of the limit, by numbers of rows and queries."""

MEMORY_FACTOR = 3
"""Required memory as a multiple of the rows' bytes: the index, torch's copy of the rows, and
workspace."""


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the time of a call by numbers of vectors and queries."""
    check_gpu()
    free, _ = torch.cuda.mem_get_info()
    fitting_sizes = [size for size in SIZES if size * BYTES_PER_ROW * MEMORY_FACTOR < free]
    return {
        "machine": device(),
        "rows": [line for size in fitting_sizes for line in _measure_size(size)],
    }


def _measure_size(size: int) -> list[dict[str, Any]]:
    collection = Collection("gap", size)
    index = faiss_flat.build(IndexSpec("faiss_flat", DIM, "cuda"), collection.blocks())
    rows = torch.empty((size, DIM), dtype=torch.float16, device="cuda")
    for ids, vectors in collection.blocks():
        rows[ids[0] : ids[0] + len(ids)] = torch.from_numpy(vectors).cuda().half()
    queries = collection.text_queries(max(QUERY_COUNTS))
    lines = []
    for count in QUERY_COUNTS:
        query_batch = queries[:count]
        theirs = partial(_torch, rows, torch.from_numpy(query_batch))
        result = compare(
            partial(index.search, query_batch, K), theirs, rounds=ROUNDS, clock=gpu_clock
        )
        line = asdict(result) | {"size": size, "queries": count}
        line["share"] = limit_s(size, count) * 1e3 / result.ours_ms
        line["off"] = _max_score_error(index.search(query_batch, K), rows, query_batch)
        lines.append(line)
    return lines


def limit_s(size: int, count: int) -> float:
    """Return the shortest possible time of a search, in seconds.

    It assumes that rows are read once and multiplied, and that float32 scores are written to memory
    and read back.
    """
    gpu_limits = limits()
    read = size * BYTES_PER_ROW / (gpu_limits["memory_tb_per_s"] * 1e12)
    if count == 1:
        return read
    product = 2 * DIM * size * count / (gpu_limits["tflop_per_s"] * 1e12)
    return max(read, product) + 8 * size * count / (gpu_limits["memory_tb_per_s"] * 1e12)


def _torch(rows: torch.Tensor, queries: torch.Tensor) -> Any:
    """Search with torch: the top k of each chunk, then of all chunks, copied to host memory."""
    queries_gpu = queries.cuda().half()
    scores, positions = [], []
    for start in range(0, len(rows), CHUNK_ROWS):
        best = torch.topk(queries_gpu @ rows[start : start + CHUNK_ROWS].T, K)
        scores.append(best.values)
        positions.append(best.indices + start)
    merged = torch.topk(torch.hstack(scores), K)
    return merged.values.cpu(), torch.hstack(positions).gather(1, merged.indices).cpu()


def _max_score_error(ranking: Ranking, rows: torch.Tensor, queries: Any) -> float:
    """Return the largest difference, rank by rank, from float32 products with the float16 rows."""
    queries_gpu = torch.from_numpy(queries).cuda()
    best = torch.full((len(queries_gpu), K), -torch.inf, device="cuda")
    # The chunks are small because these products are float32.
    for start in range(0, len(rows), CHUNK_ROWS // 8):
        products = queries_gpu @ rows[start : start + CHUNK_ROWS // 8].float().T
        best = torch.topk(torch.hstack([best, products]), K).values
    return float((torch.from_numpy(ranking.scores).cuda() - best).abs().max())


def _bar(line: dict[str, Any]) -> str:
    bar = MIN_SHARES.get((line["size"], line["queries"]))
    if bar is None:
        return ""
    return f"{bar:.0%}: {'held' if line['share'] >= bar and line['off'] <= 1e-3 else 'missed'}"


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = "".join(
        f"| {r['size']:,} | {r['queries']} | {r['ours_ms']:.3g} ms | {r['theirs_ms']:.3g} ms"
        f" | {r['ratio']:.2f}x [{r['low']:.2f}, {r['high']:.2f}] | {r['share']:.0%} | {r['off']:.0e}"
        f" | {_bar(r)} |\n"
        for r in results["rows"]
    )
    return f"""\
### Exact search

The {K} best of all by `faiss_flat` on the GPU, from queries to answers in host memory, beside torch (products and `topk` in
chunks, float16). The limit of one query is reading {BYTES_PER_ROW} bytes a vector at the speed of a copy; of more, that or their
products, and scores that go to memory and come back. The guard: how far scores are from exact ones.

| vectors | queries | {NAME} | torch | faster, 95% interval | share of the limit | guard | bar |
|--:|--:|--:|--:|--:|--:|--:|---|
{lines}"""
