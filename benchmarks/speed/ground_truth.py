"""Exact results that recall is measured against."""

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
    """Return the k best rows by inner product in float32, by comparing all rows.

    Args:
        blocks: Ids and vectors, at least k rows in total.
        queries: Queries, float32 (q, dim).
        k: Number of results per query.

    Returns:
        Ids, int64 (q, k), and scores, float32 (q, k), best first.
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
    """Return `exact_top_k` of a collection, int64 (q, k), cached in the cache folder."""
    query_digest = hashlib.sha256(queries.tobytes()).hexdigest()[:12]
    file = cache / "truth" / f"{collection.name}-{query_digest}-{k}.npy"
    if not file.is_file():
        ids, _ = exact_top_k(collection.blocks(), queries, k)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, ids)
    answers: Ids = np.load(file)
    return answers


def recall(found_ids: Ids, true_ids: Ids) -> float:
    """Return the share of the true neighbours that were found; both are int64 (q, k)."""
    hits = (found_ids[:, :, None] == true_ids[:, None, :]).any(axis=1)
    return float(hits.mean())
