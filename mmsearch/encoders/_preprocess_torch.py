"""The same pixels by torch's kernels, for processes that prepare very many pictures.

Scaling bytes is two to three times as fast there, where the processor has AVX2. Loading torch takes
a second or two, and some hundred megabytes a process: only a GPU is fast enough to be kept waiting
by the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from mmsearch.core.types import Pixels, Prepared
from mmsearch.encoders._preprocess import PixelPreparation, Target

LONGEST = 4
"""Times the wanted part; of longer pictures too much would be scaled in vain."""


def is_fast_here() -> bool:
    """Whether torch's kernels for bytes exist for this processor."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@dataclass(frozen=True)
class TorchPreparation(PixelPreparation):
    """See `PixelPreparation`. For a process of its own: torch is held to one thread."""

    def _scaled(self, pixels: Pixels, target: Target) -> Prepared:
        scaled = target.width * target.height
        same = pixels.shape[:2] == (target.height, target.width)
        if same or scaled > LONGEST * target.columns * target.rows:
            return super()._scaled(pixels, target)
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)
        # In this order torch sees channels-last, and answers so: cutting is then a plain copy.
        planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
        whole = interpolate(planes, (target.height, target.width), mode=self._mode, antialias=True)
        return np.ascontiguousarray(target.cut(whole[0].permute(1, 2, 0).numpy()))

    @property
    def _mode(self) -> str:
        return "bilinear" if self.interpolation == "bilinear" else "bicubic"
