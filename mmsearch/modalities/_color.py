"""Any mode of Pillow -> upright 8-bit RGB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from mmsearch.core.types import Pixels

FIRST_SWAPPED_ORIENTATION: Final = 5
"""EXIF orientations from here on exchange width and height."""

_SAMPLE_FORMAT_TAG: Final = 339

_ORIENTATION_TRANSFORMS: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


def apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (1 to 8; anything else means upright); a view."""
    transform = _ORIENTATION_TRANSFORMS.get(orientation)
    return pixels if transform is None else transform(pixels)


def to_rgb(image: Image.Image) -> Pixels:
    """Pixels as uint8 (h, w, 3); transparent ones over white.

    Args:
        image: Loaded, of any mode.
    """
    mode = image.mode
    if mode.startswith(("I", "F")):
        return np.repeat(_high_depth_to_8bit(image)[:, :, None], 3, axis=2)
    if mode == "LAB":
        return np.asarray(_lab_to_rgb(image))
    if image.has_transparency_data:
        rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))


def _high_depth_to_8bit(image: Image.Image) -> NDArray[np.uint8]:
    """Grey of more than 8 bits as 8 bits; what Pillow leaves undone of a TIFF's tags is done."""
    values = np.asarray(image)
    transparent = values == image.info.get("transparency")
    white_is_zero = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        if bits == 12:
            values = (values.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
        if bits == 32 and values.dtype.kind == "i" and tags.get(_SAMPLE_FORMAT_TAG, (1,))[0] == 1:
            values = values.view(np.uint32)
    grey = _scale_to_8bit(values)
    return np.where(transparent, np.uint8(255), 255 - grey if white_is_zero else grey)


def _scale_to_8bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey scaled by the range that its values show.

    Whole numbers are 16-bit where they fit 16 bits. Floats are read as 0 to 1 where they hardly go
    beyond it, else as 8-bit or 16-bit values, else stretched from their least to their greatest.
    """
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return _to_uint8(values / (np.iinfo(values.dtype).max / 255))
    grey = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    minimum, maximum = grey.min(initial=0.0), grey.max(initial=0.0)
    if minimum < 0 or maximum > 65535:
        return _to_uint8((grey - minimum) / max(maximum - minimum, 1e-12) * 255)
    if values.dtype.kind == "f" and maximum <= 2:
        return _to_uint8(grey * 255)
    return _to_uint8(grey if maximum <= 255 else grey / 257)


def _to_uint8(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")
