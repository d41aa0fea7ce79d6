"""Ways of doing the same work, in turns, and the ratio of their times."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

ROUNDS = 11
RESAMPLES = 5000
LIBRARIES = (
    "numpy",
    "faiss-gpu",
    "faiss-cpu",
    "onnxruntime",
    "torch",
    "open_clip_torch",
    "hnswlib",
    "usearch",
)


@dataclass(frozen=True)
class Comparison:
    """Times of a piece of work, in milliseconds, and theirs divided by ours.

    ``low`` and ``high`` enclose the median of the ratios of rounds: a bootstrap interval of 95%.
    """

    ours_ms: float
    theirs_ms: float
    ratio: float
    low: float
    high: float
    rounds: int


def compare(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    items: int = 1,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> Comparison:
    """Run both in turns, each first in every second round, after a round that does not count.

    Args:
        ours: Does all of the work.
        theirs: The same.
        items: Pieces in it; times are of one.
        rounds: At least 7.
        clock: Processor time, which other programs disturb least; or wall time.
    """
    times = time_alternating({"ours": ours, "theirs": theirs}, rounds, clock)
    return compare_times(times["ours"] / items, times["theirs"] / items)


def time_alternating(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, NDArray[np.float64]]:
    """Run each once a round, in one order and then in the other; the first round does not count.

    Returns:
        By name, float64 (rounds,): seconds.
    """
    return time_alternating_by_clock(contenders, {"": clock}, rounds)[""]


def time_alternating_by_clock(
    contenders: Mapping[str, Callable[[], Any]],
    clocks: Mapping[str, Callable[[], float]],
    rounds: int = ROUNDS,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """As `time_alternating`, by several clocks at once: by name of the clock, by name."""
    times: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for round_number in range(rounds + 1):
        for name in contenders if round_number % 2 else reversed(contenders):
            start_times = [clock() for clock in clocks.values()]
            contenders[name]()
            end_times = [clock() for clock in clocks.values()]
            if round_number:
                times[name].append(
                    [end - start for start, end in zip(start_times, end_times, strict=True)]
                )
    return {
        clock: {name: np.array(values)[:, position] for name, values in times.items()}
        for position, clock in enumerate(clocks)
    }


def child_cpu_time_s() -> float:
    """Seconds that finished child processes, and theirs, have computed."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory_kib() -> int:
    """The most memory that this process has had resident, in KiB.

    Not getrusage: what that says is at least the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def compare_times(ours_s: NDArray[np.float64], theirs_s: NDArray[np.float64]) -> Comparison:
    """The ratios of rounds, from the seconds that each took, float64 (rounds,)."""
    ratios = theirs_s / ours_s
    low, high = bootstrap_interval(ratios)
    return Comparison(
        float(np.median(ours_s)) * 1e3,
        float(np.median(theirs_s)) * 1e3,
        float(np.median(ratios)),
        low,
        high,
        len(ratios),
    )


def bootstrap_interval(values: np.ndarray) -> tuple[float, float]:
    """A 95% bootstrap interval of the median."""
    resampled = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[resampled], axis=1), [2.5, 97.5])
    return float(low), float(high)


def row(name: str, result: Comparison, bar: float | None, guard: str) -> dict[str, Any]:
    """A line of a table: what was compared, how it ended, what had to be reached, and the guard."""
    return {"name": name, **asdict(result), "bar": bar, "guard": guard}


def single_thread() -> threadpool_limits:
    """Within it, matrix products and searches stay on the thread that asks."""
    return threadpool_limits(1)


def machine() -> dict[str, Any]:
    """Where it was measured, and with what."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "processor": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: installed for name in LIBRARIES if (installed := _version(name))},
        "faiss": _faiss(),
        "calibration": calibration(),
    }


@cache
def calibration() -> dict[str, float]:
    """What one core does: float32 products, and reading of memory; best of some trials."""
    square = np.ones((1024, 1024), dtype=np.float32)
    long = np.ones(2**26, dtype=np.float32)
    with single_thread():
        product_s = min(_cpu_seconds(lambda: square @ square) for _ in range(5))
        read_s = min(_cpu_seconds(lambda: long @ long) for _ in range(3))
    return {
        "gflop_per_s": round(2 * 1024**3 / product_s / 1e9, 1),
        # The same array is both factors, and is read once.
        "read_gb_per_s": round(long.nbytes / read_s / 1e9, 1),
    }


def _cpu_seconds(work: Callable[[], Any]) -> float:
    started_s = time.process_time()
    work()
    return time.process_time() - started_s


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _faiss() -> dict[str, str]:
    import faiss  # noqa: PLC0415 - costs time that parts without it need not pay

    return {
        "options": faiss.get_compile_options().strip(),
        "simd": faiss.SIMDConfig.get_level_name(),
    }


def table(rows: Sequence[dict[str, Any]], ours: str, theirs: str) -> str:
    """Rows as Markdown."""
    head = (
        f"| what | {ours} | {theirs} | faster, 95% interval | bar | guard |\n"
        "|---|--:|--:|--:|--:|---|\n"
    )
    return head + "".join(
        f"| {r['name']} | {r['ours_ms']:.3g} ms | {r['theirs_ms']:.3g} ms"
        f" | {r['ratio']:.2f}x [{r['low']:.2f}, {r['high']:.2f}]"
        f" | {_bar(r)} | {r['guard']} |\n"
        for r in rows
    )


def _bar(row: dict[str, Any]) -> str:
    if row["bar"] is None:
        return ""
    return f"{row['bar']:.3g}x: {'held' if row['low'] >= row['bar'] else 'missed'}"
