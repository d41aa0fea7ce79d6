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

from mmsearch.core.types import ModelInput, Pixels
from mmsearch.encoders._preprocess import PixelPreprocessor, ResizeTarget

MAX_SCALED_AREA_RATIO = 4
"""Times the wanted part; of longer pictures too much would be scaled in vain."""


def is_fast_on_this_cpu() -> bool:
    """Whether torch's kernels for bytes exist for this processor."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


@dataclass(frozen=True)
class TorchPixelPreprocessor(PixelPreprocessor):
    """See `PixelPreprocessor`. For a process of its own: torch is held to one thread."""

    def _resize(self, pixels: Pixels, target: ResizeTarget) -> ModelInput:
        scaled_area = target.width * target.height
        is_same_size = pixels.shape[:2] == (target.height, target.width)
        if (
            is_same_size
            or scaled_area > MAX_SCALED_AREA_RATIO * target.crop_width * target.crop_height
        ):
            return super()._resize(pixels, target)
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)
        # In this order torch sees channels-last, and answers so: cutting is then a plain copy.
        batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
        resized = interpolate(
            batch, (target.height, target.width), mode=self._interpolation_mode, antialias=True
        )
        return np.ascontiguousarray(target.crop(resized[0].permute(1, 2, 0).numpy()))

    @property
    def _interpolation_mode(self) -> str:
        return "bilinear" if self.interpolation == "bilinear" else "bicubic"
