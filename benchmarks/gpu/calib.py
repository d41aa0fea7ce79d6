"""What this GPU reaches: the limits that the other parts are a share of."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.compare import machine

SQUARE, COPIED, SENT = 8192, 2**30, 2**28
"""Rows and columns of a product; bytes."""

ROUNDS = 11


class NoGpuError(Exception):
    """torch finds no NVIDIA GPU on this machine."""


def check_gpu() -> None:
    """Raises NoGpuError where torch can use none."""
    if not torch.cuda.is_available():
        raise NoGpuError("torch finds no NVIDIA GPU on this machine: nothing was measured.")


def gpu_clock() -> float:
    """Wall time, once the GPU has done all that it was given; seconds."""
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work: Callable[[], Any], times: int = 1) -> float:
    """The median time of a piece of work, done several times a round."""
    taken = []
    for turn in range(ROUNDS + 1):
        began = gpu_clock()
        for _ in range(times):
            work()
        if turn:
            taken.append((gpu_clock() - began) / times)
    return float(np.median(taken))


@cache
def limits() -> dict[str, float]:
    """Products in bfloat16 (TFLOP/s), copies in its memory (TB/s), and copies to it (GB/s)."""
    product = torch.randn((SQUARE, SQUARE), device="cuda", dtype=torch.bfloat16)
    into = torch.empty_like(product)
    product_s = seconds(lambda: torch.mm(product, product, out=into), times=8)
    source = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copy_s = seconds(lambda: target.copy_(source), times=8)
    pinned = torch.empty(SENT, dtype=torch.uint8, pin_memory=True)
    sent = torch.empty(SENT, dtype=torch.uint8, device="cuda")
    send_s = seconds(lambda: sent.copy_(pinned, non_blocking=True))
    return {
        "tflop_per_s": 2 * SQUARE**3 / product_s / 1e12,
        # A copy reads and writes.
        "memory_tb_per_s": 2 * COPIED / copy_s / 1e12,
        "to_gpu_gb_per_s": SENT / send_s / 1e9,
    }


def device() -> dict[str, Any]:
    """The GPU, its driver, and the machine around it."""
    own = torch.cuda.get_device_properties(0)
    driver = Path("/proc/driver/nvidia/version")
    return machine() | {
        "gpu": own.name,
        "gpu_memory_gib": round(own.total_memory / 2**30, 1),
        "driver": driver.read_text().splitlines()[0] if driver.is_file() else None,
        "cuda": torch.version.cuda,
        "limits": limits(),
    }


def measure(photos: Path, cache: Path) -> dict[str, Any]:
    """The limits."""
    check_gpu()
    return {"machine": device()}


def page(results: dict[str, Any]) -> str:
    """The section of the results."""
    own = results["machine"]
    found = own["limits"]
    return f"""\
## On a GPU

{own["gpu"]}, {own["gpu_memory_gib"]} GiB, CUDA {own["cuda"]}, torch {own["versions"]["torch"]}. {own["driver"]}.
It multiplies {found["tflop_per_s"]:.0f} TFLOP/s in bfloat16 ({SQUARE} squared), copies {found["memory_tb_per_s"]:.2f} TB/s within its memory (read and write
counted), and takes {found["to_gpu_gb_per_s"]:.1f} GB/s from pinned memory. What follows is a share of these.
"""
