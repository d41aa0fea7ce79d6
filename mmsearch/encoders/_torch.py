"""An image tower on a GPU, through torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmsearch.core.errors import DeviceMemoryError, UsageError
from mmsearch.core.gpu_memory import on_low_memory, run_halving_on_oom
from mmsearch.core.types import ModelInput, Vectors
from mmsearch.core.vectors import as_unit_vectors

LARGE_BATCH_MIN_FREE_BYTES = 8 * 2**30


def choose_device(requested: str) -> str:
    """``cuda``, ``mps`` or ``cpu``.

    Args:
        requested: One of these, or ``auto`` for the first of them that works.

    Raises:
        UsageError: torch cannot use what is wanted.
    """
    with warnings.catch_warnings():
        # Of a driver that does not fit: `device()` says it in our words.
        warnings.simplefilter("ignore")
        available = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
    if requested == "auto":
        return next(device for device, usable in available.items() if usable)
    if not available[requested]:
        usable = ", ".join(device for device, usable in available.items() if usable)
        raise UsageError(
            f"torch finds no {requested} device on this machine.", f"Usable here: {usable}, auto."
        )
    return requested


def _empty_device_caches() -> None:
    """Hand back what torch keeps of memory that nothing uses any more."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


on_low_memory(_empty_device_caches)


class TorchTower:
    """Runs a tower in half precision where the device has it.

    Raises:
        DeviceMemoryError: The tower does not fit into the memory of the device.
    """

    def __init__(self, tower: torch.nn.Module, device: str) -> None:
        self._tower = _move_to_device(tower, device).eval()
        self._device = device
        self._precision = torch.float32
        if device == "cuda":
            supported = torch.cuda.is_bf16_supported()
            self._precision = torch.bfloat16 if supported else torch.float16

    def close(self) -> None:
        """Take the model off the device: the next tower begins with it."""
        self._tower.to("cpu")
        _empty_device_caches()

    @property
    def batch_size(self) -> int:
        """As many pictures as keep the device busy and fit its free memory."""
        if self._device != "cuda":
            return 32
        free, _ = torch.cuda.mem_get_info()
        return 256 if free > LARGE_BATCH_MIN_FREE_BYTES else 64

    def run(self, batch: Sequence[ModelInput]) -> Vectors:
        """Prepared pictures (n), uint8 -> float32 (n, dim), unit rows.

        Raises:
            DeviceMemoryError: The memory of the device does not suffice for one of them.
        """
        rows = run_halving_on_oom(
            lambda chunk: self._encode_rows(batch[chunk]),
            len(batch),
            device=self._device,
            item_name="one picture",
        )
        return as_unit_vectors(np.concatenate(rows))

    def _encode_rows(self, batch: Sequence[ModelInput]) -> NDArray[np.float32]:
        # Bytes travel to the device; floats are made there.
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)
        use_half = self._precision is not torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self._device, dtype=self._precision, enabled=use_half),
        ):
            vectors = self._tower(pixels)
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        return rows


def _move_to_device(tower: torch.nn.Module, device: str) -> torch.nn.Module:
    try:
        run_halving_on_oom(lambda _: tower.to(device), 1, device=device, item_name="the model")
    except DeviceMemoryError:
        # Half of it would stay there.
        tower.to("cpu")
        _empty_device_caches()
        raise
    return tower
