"""Perceptual hash of a picture: 64 bits that hardly change with its size and its compression.

The method is that of pHash (https://www.phash.org) in the form of ImageHash's `phash`: the signs of
the 8 x 8 lowest frequencies of the cosine transform of 32 x 32 grey values, relative to their
median. ImageHash itself needs SciPy and PyWavelets, which every decode worker would have to import.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from mmsearch.core.types import Pixels

_EDGE_PX: Final = 32
_FREQUENCIES: Final = 8

PLAIN: Final = 0
"""Hash of a picture without a look of its own: noise would decide the bits of any other value."""

MIN_CONTRAST: Final = 2.0
"""Standard deviation of the grey values, of 255, from which a picture shows something."""

MIN_COARSE_SHARE: Final = 0.4
"""Share of the contrast that must be left in the grey values: those of pages of text and of tables,
which have less, look alike whatever is written on them."""

_SAMPLED_EDGE_PX: Final = 128

BACKGROUND_SHARE: Final = 0.5
_BACKGROUND_LEVELS: Final = 9

# Rows are the basis vectors of the type II cosine transform, up to a factor.
_COSINES: Final = np.cos(
    np.pi / _EDGE_PX * np.outer(np.arange(_FREQUENCIES), np.arange(_EDGE_PX) + 0.5)
)


def perceptual_hash(pixels: Pixels) -> int:
    """Return the perceptual hash of a picture, uint8 (h, w, 3), as a signed 64-bit integer.

    Hashes of the same picture differ in few bits. That of a plain area, of a page of text or of a
    table is `PLAIN`. The first bit, that of the mean, would be 1 for nearly all pictures. Here it
    is 1, and the hash negative, if at least `BACKGROUND_SHARE` of the picture has one grey level:
    windows and things on a background differ in fewer bits than photographs.
    """
    # Colours are dropped after scaling, because that leaves few pixels to convert.
    small = Image.fromarray(pixels).resize(
        (_EDGE_PX, _EDGE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    levels = np.asarray(small.convert("L"))
    grey = levels.astype(np.float64)
    step = max(1, min(pixels.shape[:2]) // _SAMPLED_EDGE_PX)
    contrast = max(MIN_CONTRAST, MIN_COARSE_SHARE * float(pixels[::step, ::step, 1].std()))
    if grey.std() < contrast:
        return PLAIN
    low = _COSINES @ grey @ _COSINES.T
    is_high = low > np.median(low)
    histogram = np.bincount(levels.reshape(-1), minlength=256)
    widest = np.convolve(histogram, np.ones(_BACKGROUND_LEVELS), "same").max()
    is_high[0, 0] = widest >= BACKGROUND_SHARE * grey.size
    return int.from_bytes(np.packbits(is_high).tobytes(), signed=True)
