"""An image tower on a GPU, through torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from mmsearch.core.errors import UsageError
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


class TorchTower:
    """Runs a tower in half precision where the device has it."""

    def __init__(self, tower: torch.nn.Module, device: str) -> None:
        self._tower = tower.to(device).eval()
        self._device = device
        self._precision = torch.float32
        if device == "cuda":
            supported = torch.cuda.is_bf16_supported()
            self._precision = torch.bfloat16 if supported else torch.float16

    @property
    def batch_size(self) -> int:
        """As many pictures as keep the device busy and fit its free memory."""
        if self._device != "cuda":
            return 32
        free, _ = torch.cuda.mem_get_info()
        return 256 if free > MANY_BYTES else 64

    def run(self, batch: Sequence[Prepared]) -> Vectors:
        """Prepared pictures (n), uint8 -> float32 (n, dim), unit rows."""
        # Bytes travel to the device; floats are made there.
        pixels = torch.from_numpy(np.stack(batch)).to(self._device)
        half = self._precision is not torch.float32
        with (
            torch.inference_mode(),
            torch.autocast(self._device, dtype=self._precision, enabled=half),
        ):
            vectors = self._tower(pixels)
        return as_unit_vectors(vectors.float().cpu().numpy())
