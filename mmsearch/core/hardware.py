"""Detection of CPUs and GPUs without loading a library."""

from __future__ import annotations

import os
from pathlib import Path


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_nvidia_gpu() -> bool:
    """Return True if an NVIDIA driver or device is present, even if no library can use it."""
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def gpu_memory_bytes() -> int:
    """Return the memory of the first NVIDIA GPU, as nvidia-smi reports it; 0 without a GPU."""
    import subprocess  # noqa: PLC0415 - queries only need the number of CPUs

    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return int(completed.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
