"""Run an image tower on a GPU with torch."""

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
"""Minimum free GPU memory, in bytes, for the large batch size."""


def choose_device(requested: str) -> str:
    """Return the torch device to use: ``cuda``, ``mps`` or ``cpu``.

    Args:
        requested: One of these, or ``auto`` for the first of them that is available.

    Raises:
        UsageError: torch cannot use the requested device.
    """
    with warnings.catch_warnings():
        # torch warns about an unsuitable driver; `TwoTowerEncoder.device` reports that itself.
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
    """Return unused memory in torch's caches to the device."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


on_low_memory(_empty_device_caches)


class TorchTower:
    """An image tower in torch; on CUDA it runs in half precision.

    Raises:
        DeviceMemoryError: The tower does not fit into the device's memory.
    """

    def __init__(self, tower: torch.nn.Module, device: str) -> None:
        self._tower = _move_to_device(tower, device).eval()
        self._device = device
        self._precision = torch.float32
        if device == "cuda":
            supported = torch.cuda.is_bf16_supported()
            self._precision = torch.bfloat16 if supported else torch.float16

    def close(self) -> None:
        """Move the model to the CPU and free the device's memory.

        The model object stays usable: the next tower may be built from it.
        """
        self._tower.to("cpu")
        _empty_device_caches()

    @property
    def batch_size(self) -> int:
        """Recommended number of pictures per batch, chosen by the device's free memory."""
        if self._device != "cuda":
            return 32
        free, _ = torch.cuda.mem_get_info()
        return 256 if free > LARGE_BATCH_MIN_FREE_BYTES else 64

    def run(self, batch: Sequence[ModelInput]) -> Vectors:
        """Encode n prepared pictures, uint8 (s, s, 3) each, as float32 (n, dim) with unit rows.

        Raises:
            DeviceMemoryError: The device's memory does not suffice for a single picture.
        """
        rows = run_halving_on_oom(
            lambda chunk: self._encode_rows(batch[chunk]),
            len(batch),
            device=self._device,
            item_name="one picture",
        )
        return as_unit_vectors(np.concatenate(rows))

    def _encode_rows(self, batch: Sequence[ModelInput]) -> NDArray[np.float32]:
        # The pixels are copied as bytes, a quarter of the size, and become floats on the device.
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
        # A model that was moved only in part would keep its share of the device's memory.
        tower.to("cpu")
        _empty_device_caches()
        raise
    return tower
