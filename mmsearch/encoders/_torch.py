"""An image tower on a GPU, through torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mmsearch.core.errors import DeviceMemoryError, UsageError
from mmsearch.core.gpu_memory import in_halves, when_short
from mmsearch.core.types import Prepared, Vectors
from mmsearch.core.vectors import as_unit_vectors

MANY_BYTES = 8 * 2**30


def choose_device(wanted: str) -> str:
    """``cuda``, ``mps`` or ``cpu``.

    Args:
        wanted: One of these, or ``auto`` for the first of them that works.

    Raises:
        UsageError: torch cannot use what is wanted.
    """
    with warnings.catch_warnings():
        # Of a driver that does not fit: `device()` says it in our words.
        warnings.simplefilter("ignore")
        works = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
    if wanted == "auto":
        return next(device for device, usable in works.items() if usable)
    if not works[wanted]:
        usable = ", ".join(device for device, usable in works.items() if usable)
        raise UsageError(
            f"torch finds no {wanted} device on this machine.", f"Usable here: {usable}, auto."
        )
    return wanted


def _empty_caches() -> None:
    """Hand back what torch keeps of memory that nothing uses any more."""
    torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


when_short(_empty_caches)


class TorchTower:
    """Runs a tower in half precision where the device has it.

    Raises:
        DeviceMemoryError: The tower does not fit into the memory of the device.
    """

    def __init__(self, tower: torch.nn.Module, device: str) -> None:
        self._tower = _moved(tower, device).eval()
        self._device = device
        self._precision = torch.float32
        if device == "cuda":
            supported = torch.cuda.is_bf16_supported()
            self._precision = torch.bfloat16 if supported else torch.float16

    def close(self) -> None:
        """Take the model off the device: the next tower begins with it."""
        self._tower.to("cpu")
        _empty_caches()

    @property
    def batch_size(self) -> int:
        """As many pictures as keep the device busy and fit its free memory."""
        if self._device != "cuda":
            return 32
        free, _ = torch.cuda.mem_get_info()
        return 256 if free > MANY_BYTES else 64

    def run(self, batch: Sequence[Prepared]) -> Vectors:
        """Prepared pictures (n), uint8 -> float32 (n, dim), unit rows.

        Raises:
            DeviceMemoryError: The memory of the device does not suffice for one of them.
        """
        rows = in_halves(
            lambda part: self._rows(batch[part]),
            len(batch),
            device=self._device,
            what="one picture",
        )
        return as_unit_vectors(np.concatenate(rows))

    def _rows(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        # Bytes travel to the device; floats are made there.
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)
        half = self._precision is not torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self._device, dtype=self._precision, enabled=half),
        ):
            vectors = self._tower(pixels)
        rows: NDArray[np.float32] = vectors.float().cpu().numpy()
        return rows


def _moved(tower: torch.nn.Module, device: str) -> torch.nn.Module:
    try:
        in_halves(lambda _: tower.to(device), 1, device=device, what="the model")
    except DeviceMemoryError:
        # Half of it would stay there.
        tower.to("cpu")
        _empty_caches()
        raise
    return tower
