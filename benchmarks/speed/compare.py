"""Paired timing of alternatives for the same work, and the ratio of their times."""

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
    """Times per item, in milliseconds, and the ratio of theirs to ours.

    ``low`` and ``high`` are a 95% bootstrap interval of the median ratio of the rounds.
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
    """Run both alternately after a warm-up round; each goes first in every second round.

    Args:
        ours: Function that does all of the work with mmsearch.
        theirs: Function that does the same work with the peer.
        items: Number of items in the work; times are per item.
        rounds: Number of rounds, at least 7.
        clock: CPU time, which other programs disturb least, or wall time.
    """
    times = time_alternating({"ours": ours, "theirs": theirs}, rounds, clock)
    return compare_times(times["ours"] / items, times["theirs"] / items)


def time_alternating(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, NDArray[np.float64]]:
    """Run each once per round, in alternating order; the first round is a warm-up.

    Returns:
        Seconds of each round, float64 (rounds,), by name.
    """
    return time_alternating_by_clock(contenders, {"": clock}, rounds)[""]


def time_alternating_by_clock(
    contenders: Mapping[str, Callable[[], Any]],
    clocks: Mapping[str, Callable[[], float]],
    rounds: int = ROUNDS,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Do the same as `time_alternating` with several clocks; results are by clock and by name."""
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
    """Return the CPU seconds of all finished descendant processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def peak_memory_kib() -> int:
    """Return the peak resident memory of this process, in KiB.

    getrusage is not suitable: its value is at least the peak of the parent process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def compare_times(ours_s: NDArray[np.float64], theirs_s: NDArray[np.float64]) -> Comparison:
    """Compare the seconds that each took per round, float64 (rounds,)."""
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
    """Return a 95% bootstrap interval of the median."""
    resampled = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(values[resampled], axis=1), [2.5, 97.5])
    return float(low), float(high)


def row(name: str, result: Comparison, bar: float | None, guard: str) -> dict[str, Any]:
    """Return a table row: the name of the comparison, its result, the target, and the guard."""
    return {"name": name, **asdict(result), "bar": bar, "guard": guard}


def single_thread() -> threadpool_limits:
    """Return a context in which matrix products and searches use only the calling thread."""
    return threadpool_limits(1)


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of the libraries."""
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
    """Measure float32 products and memory reads on one core; each is the best of several trials."""
    square = np.ones((1024, 1024), dtype=np.float32)
    long = np.ones(2**26, dtype=np.float32)
    with single_thread():
        product_s = min(_cpu_seconds(lambda: square @ square) for _ in range(5))
        read_s = min(_cpu_seconds(lambda: long @ long) for _ in range(3))
    return {
        "gflop_per_s": round(2 * 1024**3 / product_s / 1e9, 1),
        # The same array is both factors, so it is read only once.
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
    import faiss  # noqa: PLC0415 - the import is slow, and some parts do not need it

    return {
        "options": faiss.get_compile_options().strip(),
        "simd": faiss.SIMDConfig.get_level_name(),
    }


def table(rows: Sequence[dict[str, Any]], ours: str, theirs: str) -> str:
    """Return the rows as a Markdown table."""
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
