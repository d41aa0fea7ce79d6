"""JPEGs by libjpeg-turbo without a detour: bytes -> RGB, at a fraction of the size."""

from __future__ import annotations

from io import BufferedReader

import simplejpeg

from mmsearch.core.types import Pixels

MIN_REDUCTION = 2
"""Fractions between a half and the whole look worse than what is then scaled, and gain nothing."""


def decode(file: BufferedReader, short_side_px: int, edge_px: int) -> Pixels | None:
    """Pixels of a JPEG as it is stored, not yet upright.

    Args:
        file: Of a JPEG, anywhere in it.
        short_side_px: Its short side.
        edge_px: It is reduced by 2, 4 or 8, as far as the short side stays at least this; 0: not.

    Returns:
        None for what is damaged or unusual: Pillow knows better what to say of it.
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
