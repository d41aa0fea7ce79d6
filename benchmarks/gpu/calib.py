"""Measured limits of this GPU, which the other parts compare their results with."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.compare import machine

MATRIX_SIZE, COPY_BYTES, UPLOAD_BYTES = 8192, 2**30, 2**28
"""Rows and columns of the matrices, and bytes of a copy on the GPU and of one to the GPU."""

ROUNDS = 11


class NoGpuError(Exception):
    """Error for a machine on which torch finds no NVIDIA GPU."""


def check_gpu() -> None:
    """Raise NoGpuError if torch can use no GPU."""
    if not torch.cuda.is_available():
        raise NoGpuError("torch finds no NVIDIA GPU on this machine: nothing was measured.")


def gpu_clock() -> float:
    """Wait for the GPU to finish all work and return the wall time, in seconds."""
    torch.cuda.synchronize()
    return time.perf_counter()


def median_seconds(work: Callable[[], Any], times: int = 1) -> float:
    """Return the median time of a call in seconds; each round makes ``times`` calls."""
    durations = []
    for round_number in range(ROUNDS + 1):
        started_s = gpu_clock()
        for _ in range(times):
            work()
        if round_number:
            durations.append((gpu_clock() - started_s) / times)
    return float(np.median(durations))


@cache
def limits() -> dict[str, float]:
    """Measure bfloat16 products (TFLOP/s), copies on the GPU (TB/s) and copies to it (GB/s)."""
    product = torch.randn((MATRIX_SIZE, MATRIX_SIZE), device="cuda", dtype=torch.bfloat16)
    product_out = torch.empty_like(product)
    product_s = median_seconds(lambda: torch.mm(product, product, out=product_out), times=8)
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = median_seconds(lambda: target.copy_(source), times=8)
    pinned = torch.empty(UPLOAD_BYTES, dtype=torch.uint8, pin_memory=True)
    upload_target = torch.empty(UPLOAD_BYTES, dtype=torch.uint8, device="cuda")
    upload_s = median_seconds(lambda: upload_target.copy_(pinned, non_blocking=True))
    return {
        "tflop_per_s": 2 * MATRIX_SIZE**3 / product_s / 1e12,
        # A copy reads and writes each byte.
        "memory_tb_per_s": 2 * COPY_BYTES / copy_s / 1e12,
        "to_gpu_gb_per_s": UPLOAD_BYTES / upload_s / 1e9,
    }


def device() -> dict[str, Any]:
    """Describe the GPU, its driver, and the machine."""
    properties = torch.cuda.get_device_properties(0)
    driver = Path("/proc/driver/nvidia/version")
    return machine() | {
        "gpu": properties.name,
        "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
        "driver": driver.read_text().splitlines()[0] if driver.is_file() else None,
        "cuda": torch.version.cuda,
        "limits": limits(),
    }


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """Measure the limits."""
    check_gpu()
    return {"machine": device()}


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    machine_facts = results["machine"]
    limit_figures = machine_facts["limits"]
    return f"""\
## On a GPU

{machine_facts["gpu"]}, {machine_facts["gpu_memory_gib"]} GiB, CUDA {machine_facts["cuda"]}, torch {machine_facts["versions"]["torch"]}. {machine_facts["driver"]}.
It multiplies {limit_figures["tflop_per_s"]:.0f} TFLOP/s in bfloat16 ({MATRIX_SIZE} squared), copies {limit_figures["memory_tb_per_s"]:.2f} TB/s within its memory (read and write
counted), and takes {limit_figures["to_gpu_gb_per_s"]:.1f} GB/s from pinned memory. What follows is a share of these.
"""
