"""How many threads FAISS takes for a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss

BYTES_A_THREAD = 128_000_000
"""A thread reads them in about 4 ms: so long do OpenMP's threads spin when they have nothing left to
do, and keep a processor from whoever has."""


@contextmanager
def threads_for(queries: int, nbytes: int) -> Iterator[None]:
    """Let FAISS take as many threads as there is work for; each query is work for one.

    Those without work would be waited for all the same, and would then wait for more: where the
    processors are busy, both take far longer than the search.

    Args:
        queries: How many are searched for.
        nbytes: What is read for each.
    """
    # OpenMP keeps this number for each calling thread.
    before = faiss.omp_get_max_threads()
    worth = queries * nbytes // BYTES_A_THREAD
    faiss.omp_set_num_threads(max(1, min(queries, worth, before)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
