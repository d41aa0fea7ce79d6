"""Decode JPEGs directly with libjpeg-turbo, optionally at a fraction of their size."""

from __future__ import annotations

from io import BufferedReader

import simplejpeg

from mmsearch.core.types import Pixels

MIN_REDUCTION = 2
"""Smallest factor by which a JPEG is reduced.

Smaller factors look worse than scaling the full picture, and save no time.
"""


def decode(file: BufferedReader, short_side_px: int, edge_px: int) -> Pixels | None:
    """Return the pixels of a JPEG as stored, before its orientation is applied.

    Args:
        file: An open JPEG file, at any position.
        short_side_px: Short side of the picture.
        edge_px: Minimum short side of the result: the picture is reduced by the largest factor (2,
            8/3, 4 or 8) that keeps it. 0 means no reduction.

    Returns:
        The pixels, or None for a damaged or unusual file: Pillow reports the error better.
    """
    file.seek(0)
    min_side_px = edge_px if short_side_px >= MIN_REDUCTION * edge_px else 0
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(
            file.read(),
            "RGB",
            min_height=min_side_px,
            min_width=min_side_px,
            min_factor=MIN_REDUCTION,
            strict=True,
        )
    except ValueError:
        return None
    return pixels
