"""What this machine is made of, found without loading a library."""

from __future__ import annotations

import os
from pathlib import Path


def available_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver with a device is loaded, whatever libraries can use it."""
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))


def gpu_memory_bytes() -> int:
    """Memory of the first NVIDIA GPU, as its driver's nvidia-smi tells; 0 if there is none."""
    import subprocess  # noqa: PLC0415 - queries ask for processors alone

    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return int(completed.stdout.split()[0]) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0
