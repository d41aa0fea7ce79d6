"""GPU detection without a library, and retries with half the batch when a device is out of memory.

The libraries that share a GPU do not coordinate: memory that torch caches is missing in FAISS.
Modules that cache device memory therefore register a callback here that frees it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mmsearch.core.errors import DeviceMemoryError, Hint

Result = TypeVar("Result")

_OOM_PATTERNS = ("out of memory", "alloc_failed", "alloc fail")
"""Lower-case parts of the out-of-memory messages of CUDA, cuBLAS, cuDNN, torch and FAISS.

Those of FAISS are in StandardGpuResources.cpp.
"""

_release_callbacks: list[Callable[[], None]] = []


def on_low_memory(release: Callable[[], None]) -> None:
    """Register a callback that frees cached device memory."""
    _release_callbacks.append(release)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if a library error means that a device is out of memory."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return any(pattern in str(error).lower() for pattern in _OOM_PATTERNS)


def run_halving_on_oom(
    run: Callable[[slice], Result], count: int, *, device: str, item_name: str
) -> list[Result]:
    """Process items in one batch, or in smaller batches if the device runs out of memory.

    After each failure all cached device memory is freed and the batch size is halved; a single item
    is retried once.

    Args:
        run: Processes the items at a slice of positions.
        count: Number of items.
        device: Name of the device, for messages.
        item_name: Description of one item, for messages: ``one picture``.

    Returns:
        The results of ``run`` for the batches, in the order of the items.

    Raises:
        DeviceMemoryError: A single item does not fit.
    """
    results: list[Result] = []
    num_done, size, retried_single = 0, count, False
    while num_done < count:
        batch = slice(num_done, min(num_done + size, count))
        result = _run_or_none(run, batch)
        if result is not None:
            results.append(result[0])
            num_done, retried_single = batch.stop, False
            continue
        for release in _release_callbacks:
            release()
        size = batch.stop - batch.start
        if size == 1 and retried_single:
            raise DeviceMemoryError(
                f"The memory of device {device!r} is full: {item_name} does not fit.",
                Hint(
                    "Stop other programs that use it, or use the CPU: {}, or for a server"
                    " MMSEARCH_DEVICE=cpu.",
                    "device='cpu'",
                    "--device cpu",
                ),
                device=device,
            )
        retried_single = size == 1
        size = max(1, size // 2)
    return results


def _run_or_none(run: Callable[[slice], Result], batch: slice) -> tuple[Result] | None:
    """Return the result in a tuple, or None if the device is out of memory.

    On return the error is gone, and with it the frames that hold references to device memory.
    """
    try:
        return (run(batch),)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


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
