"""Upright 8-bit sRGB pixels from images of any mode and colour space."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from mmsearch.core.types import Pixels

FIRST_SWAPPED_ORIENTATION: Final = 5
"""First of the EXIF orientations (5 to 8) that swap width and height."""

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
    """Return an upright view of the pixels (orientation 1 to 8; other values mean upright)."""
    transform = _ORIENTATION_TRANSFORMS.get(orientation)
    return pixels if transform is None else transform(pixels)


def to_rgb(image: Image.Image) -> Pixels:
    """Return the pixels as uint8 sRGB (h, w, 3), with transparency blended over white.

    Args:
        image: A loaded image of any mode; an embedded ICC profile is applied.
    """
    mode, profile = image.mode, image.info.get("icc_profile")
    if mode.startswith(("I", "F")):
        return np.asarray(to_srgb(Image.fromarray(_high_depth_to_8bit(image)), profile))
    if mode == "LAB":
        return np.asarray(_lab_to_rgb(image))
    if image.has_transparency_data:
        rgba = (image.convert("LA") if mode == "La" else image).convert("RGBA")
        colours = to_srgb(rgba.convert("L" if mode in ("L", "LA", "La") else "RGB"), profile)
        colours.putalpha(rgba.getchannel("A"))
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, colours).convert("RGB"))
    return np.asarray(to_srgb(image, profile))


# --- colour spaces ---


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image without transparency as RGB in sRGB, as a new image or the same.

    Args:
        image: A loaded image. Without a profile, its values are taken for sRGB.
        profile: ICC profile of its values; one that is damaged, or of another kind of colours
            than the image has, is ignored, as viewers do.
    """
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    transform = _find_transform(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    return converted if converted is not None else image.convert("RGB")


# Most pictures of a collection have one of a few profiles; a transform takes milliseconds to build.
@lru_cache(maxsize=16)
def _find_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform of a profile to sRGB; None if it has no effect or is not usable."""
    try:
        source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), _srgb_profile()
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
    if mode == "RGB":
        # Most profiles are those of sRGB, and need no pass over the pixels.
        levels = np.linspace(0, 255, 9).astype(np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 9, 3)
        converted = ImageCms.applyTransform(Image.fromarray(colours), transform)
        if np.abs(np.asarray(converted, dtype=int) - colours).max() <= 1:
            return None
    return transform


def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")


# --- grey values of more than 8 bits ---


def _high_depth_to_8bit(image: Image.Image) -> NDArray[np.uint8]:
    """Convert grey values of more than 8 bits to 8 bits, applying TIFF tags that Pillow ignores."""
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
    """Scale grey values to 8 bits, guessing their range from the values.

    Unsigned integers of up to 16 bits are scaled by the range of their type. Other values above 255
    are read as 16-bit if they fit; floats up to 2 as the range 0 to 1; the rest as 8-bit values.
    Values below 0 or above 65535 are stretched from their minimum to their maximum.
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
