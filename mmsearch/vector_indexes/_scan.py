"""Exact search among many float16 rows: each thread searches a part of them.

FAISS reads the rows where they lie (IndexScalarQuantizer, QT_fp16, over a view): half the memory
traffic of float32, and no copy. Many queries are compared by matrix products (`_products`).
See https://github.com/facebookresearch/faiss/wiki/Faiss-indexes.

The threads are not OpenMP's: those share out queries, of which there may be one, and spin for
milliseconds when they have nothing left to do.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from mmsearch.core.hardware import processors
from mmsearch.core.threads import shared
from mmsearch.core.types import Vectors
from mmsearch.vector_indexes._products import FEWEST, best_by_products
from mmsearch.vector_indexes._threads import at_most

PART_BYTES = 32_000_000
"""Of rows that are worth a thread: one query takes a millisecond for them."""

ALIKE = 4
"""So many of many queries take no longer than one alone."""

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""float32 (q, count) scores and int64 (q, count) places, best first."""


class Scan:
    """Looks at all of some rows, with no more threads than OpenMP may take for the caller.

    Args:
        rows: float16 (n, dim), C-order; kept.
    """

    def __init__(self, rows: NDArray[np.float16]) -> None:
        self._rows = rows
        self._cuts: dict[int, list[_Part]] = {}

    def best(self, queries: Vectors, count: int, allowed: NDArray[np.int64] | None = None) -> Found:
        """The best rows for each query, up to rounding.

        Args:
            queries: float32 (q, dim).
            count: How many; no more than there are.
            allowed: int64 (m,), ascending: places of those that may be found; None: all.
        """
        search = partial(_Part.best, queries=queries, count=count, allowed=allowed)
        return best_of(shared(search, self._parts(len(queries))), count)

    def _parts(self, queries: int) -> list[_Part]:
        most = min(processors(), faiss.omp_get_max_threads(), len(self._rows))
        worth = max(1, queries // ALIKE) * self._rows.nbytes // PART_BYTES
        count = max(1, min(most, worth))
        if count not in self._cuts:
            bounds = np.linspace(0, len(self._rows), count + 1).astype(int).tolist()
            self._cuts[count] = [_Part(self._rows[a:b], a) for a, b in pairwise(bounds)]
        return self._cuts[count]


class _Part:
    def __init__(self, rows: NDArray[np.float16], start: int) -> None:
        self._rows = rows
        self._start = start
        self._flat = over(rows)

    def best(self, queries: Vectors, count: int, allowed: NDArray[np.int64] | None) -> Found:
        own = None if allowed is None else self._own(allowed)
        count = min(count, len(self._rows) if own is None else len(own))
        with at_most(1):
            if not count:
                scores, places = (np.empty((len(queries), 0), t) for t in (np.float32, np.int64))
            elif len(queries) >= FEWEST:
                scores, places = best_by_products(self._rows, queries, count, own)
            else:
                scores, places = self._flat.search(queries, count, params=self._only(own))
        return scores, places + self._start

    def _own(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        first, end = np.searchsorted(places, (self._start, self._start + len(self._rows)))
        return places[first:end] - self._start

    def _only(self, own: NDArray[np.int64] | None) -> faiss.SearchParameters | None:
        if own is None:
            return None
        allowed = np.zeros(len(self._rows), dtype=bool)
        allowed[own] = True
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return faiss.SearchParameters(sel=selector)


def best_of(found: list[Found], count: int) -> Found:
    """Several answers to the same queries, of different rows, as one."""
    if len(found) == 1:
        return found[0]
    scores, places = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)


def over(rows: NDArray[np.float16]) -> Any:
    """A FAISS index that reads rows where they lie, and does not keep them alive."""
    flat = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    if len(rows):
        codes = rows.view(np.uint8).reshape(-1)
        nobody = faiss.MaybeOwnedVectorUInt8().owner
        flat.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(codes), codes.size, nobody
        )
        flat.ntotal = len(rows)
    return flat
