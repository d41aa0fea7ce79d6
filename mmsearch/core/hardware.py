"""What this machine is made of, found without loading a library."""

from __future__ import annotations

import os
from pathlib import Path


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver with a device is loaded, whatever libraries can use it."""
    return Path("/proc/driver/nvidia/version").exists() or any(Path("/dev").glob("nvidia[0-9]*"))
