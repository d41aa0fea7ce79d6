"""The CPU half of an image encoder: resize and crop, without torch.

The same pixels as open_clip's own transform for inference makes, up to the point where they become
floats: those steps are inside the compiled towers, so that a picture travels as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from mmsearch.core.types import Pixels, Prepared

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "random": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class PixelPreparation:
    """See `mmsearch.core.protocols.ImagePreparation`.

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
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The preparation that `facts` describes."""
        return cls(**facts)

    def facts(self) -> dict[str, Any]:
        """Plain values, for an encoder's spec."""
        return asdict(self)

    @property
    def edge_px(self) -> int:
        """The short side that a picture needs before it is scaled down."""
        return self.size_px

    def __call__(self, pixels: Pixels) -> Prepared:
        """uint8 (h, w, 3) -> uint8 (size, size, 3)."""
        image = Image.fromarray(pixels)
        if self.resize_mode == "squash":
            return np.asarray(self._resized(image, self.size_px, self.size_px))
        if self.resize_mode == "longest":
            ratio = max(image.width, image.height) / self.size_px
            image = self._resized(
                image, *(max(1, round(side / ratio)) for side in (image.width, image.height))
            )
            return self._middle(image)
        short, long = sorted((image.width, image.height))
        other = int(self.size_px * long / short)
        wide = image.width > image.height
        width, height = (other, self.size_px) if wide else (self.size_px, other)
        return self._middle(self._resized(image, width, height))

    def _resized(self, image: Image.Image, width: int, height: int) -> Image.Image:
        if image.size == (width, height):
            return image
        return image.resize((width, height), _FILTERS[self.interpolation])

    def _middle(self, image: Image.Image) -> Prepared:
        """The middle square, filled where the picture is smaller."""
        size = self.size_px
        if image.width < size or image.height < size:
            canvas = Image.new("RGB", (max(image.width, size), max(image.height, size)), self._grey)
            canvas.paste(
                image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2)
            )
            image = canvas
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return np.asarray(image.crop((left, top, left + size, top + size)))

    @property
    def _grey(self) -> tuple[int, int, int]:
        return (self.fill, self.fill, self.fill)
