"""How many threads FAISS takes for a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss

BYTES_PER_THREAD = 128_000_000
"""A thread reads them in about 4 ms: so long OpenMP's threads spin when nothing is left to do, and
keep a processor from whoever has work for it."""


def useful_threads(queries: int, nbytes: int) -> int:
    """So many threads are worth their while where each query is work for one.

    Those without work would be waited for all the same, and would then wait for more: where the
    processors are busy, both take far longer than the search.

    Args:
        queries: How many are searched for.
        nbytes: What is read for each.
    """
    return max(1, min(queries, queries * nbytes // BYTES_PER_THREAD))


@contextmanager
def limit_omp_threads(threads: int) -> Iterator[None]:
    """Let FAISS take no more threads, and no more than it may anyway."""
    # OpenMP keeps this number for each calling thread.
    previous = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(threads, previous))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(previous)
