"""Number of threads that FAISS uses for a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss

BYTES_PER_THREAD = 128_000_000
"""Bytes of rows that justify one more thread. A thread reads them in about 4 ms, which is how long
an idle OpenMP thread spins and keeps a CPU from other work."""


def useful_threads(queries: int, nbytes: int) -> int:
    """Return the number of threads that speed up a search in which each query runs on one thread.

    FAISS waits for idle threads, too, and they then spin. On busy CPUs both take far longer than
    the search itself.

    Args:
        queries: Number of queries.
        nbytes: Bytes read per query.
    """
    return max(1, min(queries, queries * nbytes // BYTES_PER_THREAD))


@contextmanager
def limit_omp_threads(threads: int) -> Iterator[None]:
    """Limit FAISS to at most ``threads`` threads, without raising the current limit."""
    # OpenMP stores this limit per calling thread.
    previous = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(threads, previous))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(previous)
