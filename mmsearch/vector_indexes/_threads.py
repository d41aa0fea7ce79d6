"""How many threads FAISS takes for a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss


@contextmanager
def threads_for(queries: int) -> Iterator[None]:
    """Let FAISS take as many threads as it has queries, for each is work for one.

    Those without work would be waited for all the same: where the processors are busy, that takes
    far longer than the search.
    """
    # OpenMP keeps this number for each calling thread.
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, min(queries, before)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
