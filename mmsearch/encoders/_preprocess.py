"""The CPU half of an image encoder: resize and crop, without torch.

The same pixels as open_clip's own transform for inference makes, up to the point where they become
floats: those steps are inside the compiled towers, so that a picture travels as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from mmsearch.core.types import ModelInput, Pixels


@dataclass(frozen=True)
class PixelPreprocessor:
    """See `mmsearch.core.protocols.ImagePreprocessor`.

    Attributes:
        size_px: Edge of the square that the tower sees.
        resize_mode: ``shortest`` (short side to the size, middle cut out), ``longest`` (long side
            to the size, the rest filled) or ``squash`` (both sides to the size).
        interpolation: ``bicubic`` or ``bilinear``.
        fill: Grey level around a picture in mode ``longest``.
    """

    size_px: int
    resize_mode: str = "shortest"
    interpolation: str = "bicubic"
    fill: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The preparation that `values` describes."""
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for an encoder's spec."""
        return asdict(self)

    @property
    def edge_px(self) -> int:
        """The short side that a picture needs before it is scaled down."""
        return self.size_px

    def __call__(self, pixels: Pixels) -> ModelInput:
        """uint8 (h, w, 3) -> uint8 (size, size, 3)."""
        height, width = pixels.shape[:2]
        size = self.size_px
        if self.resize_mode == "squash":
            return self._resize(pixels, ResizeTarget(size, size, 0, 0, size, size))
        if self.resize_mode == "longest":
            ratio = max(width, height) / size
            width, height = (max(1, round(side / ratio)) for side in (width, height))
            return self._pad_to_square(
                self._resize(pixels, ResizeTarget(width, height, 0, 0, width, height))
            )
        long_side = int(size * max(width, height) / min(width, height))
        width, height = (long_side, size) if width > height else (size, long_side)
        left, top = round((width - size) / 2), round((height - size) / 2)
        return self._resize(pixels, ResizeTarget(width, height, left, top, size, size))

    def _resize(self, pixels: Pixels, target: ResizeTarget) -> ModelInput:
        """Scale a picture, but only the part that is wanted."""
        height, width = pixels.shape[:2]
        if (width, height) == (target.width, target.height):
            return np.ascontiguousarray(target.crop(pixels))
        # Only columns are left out beforehand: with a box that begins below the first row, Pillow
        # 13.0 was seen to be off by up to 17 of 255 levels.
        x_scale = width / target.width
        right = min((target.left + target.crop_width) * x_scale, width)
        from PIL import Image  # noqa: PLC0415 - a query in words reads no picture

        resampling = {
            "bicubic": Image.Resampling.BICUBIC,
            "bilinear": Image.Resampling.BILINEAR,
            "random": Image.Resampling.BICUBIC,
        }
        image = Image.fromarray(pixels).resize(
            (target.crop_width, target.height),
            resampling[self.interpolation],
            (target.left * x_scale, 0, right, height),
        )
        return np.asarray(image)[target.top : target.top + target.crop_height]

    def _pad_to_square(self, pixels: Pixels) -> ModelInput:
        """A picture in the middle of a square of the fill colour."""
        square = np.full((self.size_px, self.size_px, 3), self.fill, dtype=np.uint8)
        height, width = pixels.shape[:2]
        top, left = (self.size_px - height) // 2, (self.size_px - width) // 2
        square[top : top + height, left : left + width] = pixels
        return square


@dataclass(frozen=True)
class ResizeTarget:
    """A picture scaled to a width and height, and the part of that which is wanted."""

    width: int
    height: int
    left: int
    top: int
    crop_width: int
    crop_height: int

    def crop(self, pixels: Pixels) -> Pixels:
        """The part, of pixels of that width and height."""
        return pixels[
            self.top : self.top + self.crop_height, self.left : self.left + self.crop_width
        ]
