"""Number of processes that need much memory."""

import pytest

from mmsearch.core.settings import Settings
from mmsearch.factories import warm_parts


@pytest.mark.parametrize(
    ("workers", "memory_mb", "expected"),
    [(0, 6400, 4), (0, 3200, 2), (0, 100, 1), (0, None, 0), (0, 10**6, 16), (7, 3200, 7)],
)
def test_processes_use_half_of_the_memory_unless_their_number_is_set(
    monkeypatch, workers, memory_mb, expected
):
    monkeypatch.setattr(warm_parts, "available_cpus", lambda: 16)
    monkeypatch.setattr(warm_parts, "available_memory_mb", lambda: memory_mb)
    monkeypatch.setattr(warm_parts, "_build_executor", lambda settings, count: count)
    settings = Settings(workers=workers)
    assert warm_parts.make_decode_executor(settings, worker_memory_mb=800) == expected
    assert warm_parts.make_decode_executor(settings) == workers
