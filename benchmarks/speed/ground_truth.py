"""The exact answers that recall is measured by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.synthetic import Collection
from mmsearch.core.types import Ids, Vectors


def exact_top_k(
    blocks: Iterable[tuple[Ids, Vectors]], queries: Vectors, k: int
) -> tuple[Ids, NDArray[np.float32]]:
    """The k best rows by inner product in float32, looking at all of them.

    Args:
        blocks: Ids and vectors, at least k rows in all.
        queries: float32 (q, dim).
        k: Length of the answer.

    Returns:
        int64 (q, k) and float32 (q, k), best first.
    """
    ids = np.empty((len(queries), 0), dtype=np.int64)
    scores = np.empty((len(queries), 0), dtype=np.float32)
    for block_ids, vectors in blocks:
        products = queries @ vectors.T
        positions = np.arange(len(block_ids))[None].repeat(len(queries), axis=0)
        if k < len(block_ids):
            positions = np.argpartition(products, -k, axis=1)[:, -k:]
        scores = np.hstack([scores, np.take_along_axis(products, positions, axis=1)])
        ids = np.hstack([ids, block_ids[positions]])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        ids = np.take_along_axis(ids, order, axis=1)
        scores = np.take_along_axis(scores, order, axis=1)
    return ids, scores


def load_ground_truth(collection: Collection, queries: Vectors, k: int, cache: Path) -> Ids:
    """`exact_top_k` of a collection's pictures, int64 (q, k), kept in the cache folder."""
    query_digest = hashlib.sha256(queries.tobytes()).hexdigest()[:12]
    file = cache / "truth" / f"{collection.name}-{query_digest}-{k}.npy"
    if not file.is_file():
        ids, _ = exact_top_k(collection.blocks(), queries, k)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, ids)
    answers: Ids = np.load(file)
    return answers


def recall(found_ids: Ids, true_ids: Ids) -> float:
    """Share of the true neighbours that are among the found, both int64 (q, k)."""
    hits = (found_ids[:, :, None] == true_ids[:, None, :]).any(axis=1)
    return float(hits.mean())
