"""Still pictures: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, HEIC/HEIF, AVIF and others.

Pictures are decoded with Pillow to sRGB with 8 bits per channel. The EXIF orientation is applied,
and transparent pixels are blended over white.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BufferedReader
from typing import Final

from PIL import (
    AvifImagePlugin,
    Jpeg2KImagePlugin,
    PsdImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.types import DecodedImage
from mmsearch.modalities._pillow import UNKNOWN_FORMAT, PillowReader
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

SUFFIXES: Final = frozenset(
    b".jpg .jpeg .jpe .jfif .jfi .jpg_large .jpeg_large .mpo .png .apng .webp .gif .bmp .dib"
    b" .tif .tiff .heic .heif .hif .heics .heifs .avif .avifs .jp2 .j2k .j2c .jpc .jpf .jpx"
    b" .psd .ppm .pgm .pbm .pnm".split()
)

# Pillow supports some forty formats, some of which start other programs; only these are tried.
# Pillow opens MPO files, which some cameras write, through JPEG.
FORMATS: Final = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "PPM",
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
    Jpeg2KImagePlugin.Jpeg2KImageFile.format,
    PsdImagePlugin.PsdImageFile.format,
)
HEIF: Final = "HEIF"

_AVIF_BRANDS: Final = (b"avif", b"avis")

# Signatures of the formats, with their names in error messages.
_SIGNATURES: Final = {
    "a JPEG": re.compile(rb"\xff\xd8\xff"),
    "a PNG": re.compile(rb"\x89PNG"),
    "a GIF": re.compile(rb"GIF8"),
    "a WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    # CR2, a RAW format, is a TIFF with a mark.
    "a TIFF": re.compile(rb"(?:II[*+]\0|MM\0[*+])(?!....CR)", re.DOTALL),
    "a HEIF or AVIF": re.compile(rb"....ftyp(?:hei|hev|mif|msf|avi)", re.DOTALL),
    "a BMP": re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "a JPEG 2000": re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    "a Photoshop file": re.compile(rb"8BPS\x00\x01"),
    "a PPM": re.compile(rb"P[1-6]\s+(?:#|\d+\s)"),
}


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of still pictures.

    Args:
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.
    """
    return ImageModality(max_pixels)


@dataclass(frozen=True)
class ImageModality(FileReader):
    """Reads still pictures; see `mmsearch.core.protocols.Modality`."""

    suffixes = SUFFIXES

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a supported format."""
        return any(signature.match(head) for signature in _SIGNATURES.values())

    def _decode(self, file: BufferedReader, head: bytes, edge_px: int) -> DecodedImage:
        try:
            return PillowReader(_candidate_formats(head), self.max_pixels).decode(file, edge_px)
        except DecodeError as error:
            if error.message != UNKNOWN_FORMAT:
                raise
            for name, signature in _SIGNATURES.items():
                if signature.match(head):
                    reason = f"{name} that is damaged or of an unsupported kind"
                    raise DecodeError(reason) from error
            raise


def _candidate_formats(head: bytes) -> tuple[str, ...]:
    """Return the formats to try; the HEIF reader is loaded only for files that look like HEIF."""
    if head[4:8] != b"ftyp" or head[8:12] in _AVIF_BRANDS:
        return FORMATS
    import pillow_heif  # noqa: PLC0415 - takes 30 ms and few files need it

    pillow_heif.register_heif_opener()
    return (*FORMATS, HEIF)
