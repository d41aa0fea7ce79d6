"""Pixels of frames: upright, in the shape in which they are shown, and in sRGB.

Frames with a high dynamic range (PQ and HLG, as of phones and televisions) are converted by
FFmpeg's scaler to the primaries and the transfer of sRGB, which maps their highlights.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, Final

import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from mmsearch.core.types import Pixels
from mmsearch.modalities._pixels import FIRST_SWAPPED_ORIENTATION, apply_orientation

HIGH_RANGE: Final = frozenset({int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)})
"""Transfers of frames with a high dynamic range."""

_UNKNOWN_COLORS: Final = (0, 2, 3)
_HD_HEIGHT: Final = 720
_SHAPES: Final = (Fraction(1, 8), Fraction(8))
# Signs of the numbers of a display matrix, and the orientation of EXIF that turns alike.
_ORIENTATIONS: Final = {
    "+00+": 1,
    "-00+": 2,
    "-00-": 3,
    "+00-": 4,
    "0++0": 5,
    "0+-0": 6,
    "0--0": 7,
    "0-+0": 8,
}


class FrameScaler:
    """Converter of the frames of one film; it keeps its tables from frame to frame.

    Args:
        aspect: Width of a pixel divided by its height; None if it is not known.
    """

    def __init__(self, aspect: Fraction | None = None) -> None:
        is_known = aspect is not None and _SHAPES[0] <= aspect <= _SHAPES[1]
        self._aspect = aspect if is_known and aspect is not None else Fraction(1)
        self._scaler = VideoReformatter()

    def upright_size(self, frame: Any) -> tuple[int, int]:
        """Return width and height of a frame as it is shown."""
        width, height = self._shown_size(frame)
        is_turned = orientation_of(frame) >= FIRST_SWAPPED_ORIENTATION
        return (height, width) if is_turned else (width, height)

    def scale(self, frame: Any, edge_px: int) -> Pixels:
        """Return upright pixels, uint8 (h, w, 3), with a short side of ``edge_px`` at least.

        A frame is not enlarged; 0 keeps its size.
        """
        width, height = self._shown_size(frame)
        short = min(width, height)
        scale = min(1.0, edge_px / short) if edge_px else 1.0
        pixels = self._to_rgb(frame, _scale(width, scale), _scale(height, scale))
        return np.ascontiguousarray(apply_orientation(pixels, orientation_of(frame)))

    def _shown_size(self, frame: Any) -> tuple[int, int]:
        """Return the size of a frame before it is turned, with square pixels."""
        return max(1, round(frame.width * self._aspect)), frame.height

    def _to_rgb(self, frame: Any, width: int, height: int) -> Pixels:
        options: dict[str, Any] = {}
        if frame.color_trc in HIGH_RANGE:
            options = {
                "dst_color_trc": ColorTrc.IEC61966_2_1,
                "dst_color_primaries": ColorPrimaries.BT709,
            }
        elif frame.colorspace in _UNKNOWN_COLORS and frame.height >= _HD_HEIGHT:
            options = {"src_colorspace": Colorspace.ITU709}
        converted = self._scaler.reformat(
            frame,
            width,
            height,
            "rgb24",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.JPEG,
            threads=1,
            **options,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)


def orientation_of(frame: Any) -> int:
    """Return the orientation of EXIF that turns a frame as its display matrix does."""
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None or len(bytes(matrix)) < 20:
        return 1
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return _ORIENTATIONS.get("".join(map(_sign, (a, b, c, d))), 1)


def _sign(value: int) -> str:
    """Return the sign of a number of 16.16 bits, or 0 if it is near zero."""
    return "0" if abs(value) < 1 << 14 else "+" if value > 0 else "-"


def _scale(side: int, scale: float) -> int:
    return max(1, -int(-side * scale // 1))
