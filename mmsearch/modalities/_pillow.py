"""Decoding of pictures with Pillow, for all modalities whose formats it reads."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, UnidentifiedImageError

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import decode_error_from_os
from mmsearch.core.texts import to_single_line
from mmsearch.core.types import DecodedImage, Picture, Pixels
from mmsearch.modalities import _damage
from mmsearch.modalities._pillow_globals import pillow_globals
from mmsearch.modalities._pixels import (
    FIRST_SWAPPED_ORIENTATION,
    apply_orientation,
    to_rgb,
    to_srgb,
)

UNKNOWN_FORMAT: Final = "not a picture in a known format"

JPEG_FORMATS: Final = ("JPEG", "MPO")
"""Pillow's names of the formats that libjpeg-turbo decodes."""

MIN_REDUCTION: Final = 2
"""Smallest factor by which a JPEG is reduced.

Smaller factors look worse than scaling the full picture, and save no time.
"""

BYTES_PER_PIXEL: Final = 12
"""Memory in bytes for each of the pixels that `max_pixels` allows.

A picture is refused before it is decoded if it needs more. Most need less than 8 bytes; only those
with transparency or more than 8 bits per channel reach the limit before their number of pixels.
"""

# Memory that decoding takes at its peak, in bytes for each pixel: Pillow's copy, the intermediate
# copies, and the result.
_PEAK_BYTES: Final = 8
_PEAK_BYTES_PROFILE: Final = 4
_PEAK_BYTES_TRANSPARENT: Final = 20
_PEAK_BYTES_HIGH_DEPTH: Final = 32

_FORMAT_NAMES: Final = {"MPO": "JPEG"}

# Messages of these decoder errors are passed on unless they contain programmers' jargon.
_DECODER_ERRORS: Final = (OSError, RuntimeError, SyntaxError, ValueError)
_JARGON_PATTERN: Final = re.compile(
    r"[<>_'\"=\\\[\]{}]|decoder (error|object)|unpack|argument|byte string|this image|codec|buffer"
    "|libjxl"
)
_TEXT_LIMIT: Final = "MAX_TEXT"
_TRUNCATED_PATTERN: Final = re.compile("truncated|end of file|not enough image data|read too short")
_UNSUPPORTED_PATTERN: Final = re.compile("unsupported|not supported|not implemented|unknown")


@dataclass(frozen=True)
class PillowReader:
    """Reader of the pictures of some of Pillow's formats. Thread-safe and picklable.

    Args:
        formats: Pillow's names of the formats to try.
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.
    """

    formats: tuple[str, ...]
    max_pixels: int

    def decode(self, file: BinaryIO, edge_px: int) -> DecodedImage:
        """Decode a picture and read its metadata; of a damaged one, decode what can be read.

        Args:
            file: The file, open for reading.
            edge_px: Minimum short side in pixels: a JPEG may be decoded at a fraction of its size
                that is still at least this large. 0 decodes the full size.

        Raises:
            DecodeError: The picture cannot be read; the message is a clause with the reason.
        """
        with map_decode_errors(), pillow_globals:
            try:
                with self._open(file) as image:
                    decoded = self._decode(image, file, edge_px)
                damage = _damage.find_damage(file)
            except (DecodeError, MemoryError):
                raise
            except Exception as error:
                is_system_error = isinstance(error, OSError) and error.errno is not None
                if is_system_error or _TEXT_LIMIT in str(error):
                    raise
                decoded, damage = self._decode_damaged(file, edge_px, error)
        if damage is None:
            return decoded
        return replace(decoded, picture=replace(decoded.picture, damage=damage))

    def check_size(self, width: int, height: int, bytes_per_pixel: int = 0) -> None:
        """Check that a picture may be decoded.

        Args:
            width: Width in pixels.
            height: Height in pixels.
            bytes_per_pixel: Memory that decoding takes at its peak, for each pixel.

        Raises:
            DecodeError: It has too many pixels, or needs too much memory.
        """
        if width * height > self.max_pixels:
            raise DecodeError(
                f"{width * height / 1e6:.1f} megapixels, over the limit of "
                f"{self.max_pixels / 1e6:g} (raise it with the setting max_pixels)"
            )
        needed_mb = width * height * bytes_per_pixel / 1e6
        limit_mb = self.max_pixels * BYTES_PER_PIXEL / 1e6
        if needed_mb > limit_mb:
            raise DecodeError(
                f"it needs {needed_mb:,.0f} MB of memory to decode, over the limit of "
                f"{limit_mb:,.0f} (raise it with the setting max_pixels)"
            )

    def _open(self, file: BinaryIO) -> ImageFile.ImageFile:
        """Open a picture without decoding it, if it is small enough."""
        image = Image.open(file, formats=self.formats)
        # A JPEG takes no more in any mode, and less if it is reduced.
        is_jpeg = image.format in JPEG_FORMATS
        self.check_size(*image.size, 0 if is_jpeg else _peak_bytes(image))
        return image

    def _decode_damaged(
        self, file: BinaryIO, edge_px: int, error: Exception
    ) -> tuple[DecodedImage, str]:
        """Return what can be decoded of a damaged picture and its damage, or raise its error."""
        if file.seek(0, io.SEEK_END) > _damage.MAX_REPAIR_BYTES:
            raise error
        file.seek(0)
        repaired = _damage.repair(file.read(), self._open)
        if repaired is None:
            raise error
        content = io.BytesIO(repaired.content)
        with pillow_globals.tolerating_damage():
            image = self._open(content)
        with image:
            return self._decode(image, content, edge_px, is_damaged=True), repaired.damage

    def _decode(
        self, image: ImageFile.ImageFile, file: BinaryIO, edge_px: int, *, is_damaged: bool = False
    ) -> DecodedImage:
        from mmsearch.modalities import _metadata  # noqa: PLC0415 - only workers decode

        width, height = image.size
        is_reduced = bool(edge_px) and image.draft("RGB", (edge_px, edge_px)) is not None
        pixels = _decode_pixels(image, file, min(width, height), edge_px, is_damaged)
        # After loading, because Pillow rotates some formats itself and then removes the tag.
        orientation = _orientation(image)
        pixels = np.ascontiguousarray(apply_orientation(pixels, orientation))
        if is_reduced and orientation >= FIRST_SWAPPED_ORIENTATION:
            width, height = height, width
        elif not is_reduced:
            height, width = pixels.shape[:2]
        picture = Picture(
            width=width,
            height=height,
            format=_FORMAT_NAMES.get(image.format or "", image.format or ""),
            **vars(_metadata.read_metadata(image, file)),
        )
        return DecodedImage(picture, pixels)


def make_thumbnail(pixels: Pixels, edge_px: int, file_format: str) -> bytes:
    """Return an image file of pixels, uint8 (h, w, 3), with a long side of at most ``edge_px``."""
    image = Image.fromarray(pixels)
    image.thumbnail((edge_px, edge_px), Image.Resampling.BICUBIC, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, file_format, quality=85)
    return buffer.getvalue()


def _orientation(image: Image.Image) -> int:
    # The decoder of JPEG XL applies the orientation in the codestream, and that of EXIF does not
    # count, unless the plugin returns the pixels of the JPEG that the file was made of.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    from mmsearch.modalities import _metadata  # noqa: PLC0415 - only workers decode

    return _metadata.orientation(image)


def _peak_bytes(image: Image.Image) -> int:
    """Return the memory that decoding an image takes at its peak, in bytes for each pixel."""
    if image.mode.startswith(("I", "F")):
        return _PEAK_BYTES_HIGH_DEPTH
    if image.has_transparency_data:
        return _PEAK_BYTES_TRANSPARENT
    return _PEAK_BYTES + _PEAK_BYTES_PROFILE * ("icc_profile" in image.info)


def _decode_pixels(
    image: Image.Image, file: BinaryIO, short_side_px: int, edge_px: int, is_damaged: bool
) -> Pixels:
    """Return the sRGB pixels as stored, before the orientation is applied.

    A JPEG is reduced by the largest factor (2, 8/3, 4 or 8) that keeps its short side at least
    ``edge_px`` pixels long; 0 means no reduction.
    """
    if image.format in JPEG_FORMATS:
        file.seek(0)
        content = file.read()
        if not is_damaged and _damage.lacks_jpeg_end(content):
            raise EOFError
    if image.format in JPEG_FORMATS and image.mode in ("RGB", "L"):
        profile = image.info.get("icc_profile")
        min_side_px = edge_px if short_side_px >= MIN_REDUCTION * edge_px else 0
        # Pillow reports the error of a damaged or unusual file better.
        with suppress(ValueError):
            pixels: Pixels = simplejpeg.decode_jpeg(
                content,
                "GRAY" if profile and image.mode == "L" else "RGB",
                min_height=min_side_px,
                min_width=min_side_px,
                min_factor=MIN_REDUCTION,
                strict=not is_damaged,
            )
            if not profile:
                return pixels
            stored = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            return np.asarray(to_srgb(stored, profile))
    if is_damaged:
        _damage.load_damaged(image)
    else:
        image.load()
    return to_rgb(image)


@contextmanager
def map_decode_errors() -> Iterator[None]:
    """Turn any exception of a decoder into a `DecodeError` with a readable clause."""
    try:
        yield
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory to decode it") from error
    except UnidentifiedImageError as error:
        raise DecodeError(UNKNOWN_FORMAT) from error
    except OSError as error:
        if error.errno is not None:
            raise decode_error_from_os(error) from error
        raise DecodeError(_describe_error(error)) from error
    except Exception as error:
        raise DecodeError(_describe_error(error)) from error


def _describe_error(error: Exception) -> str:
    text = to_single_line(str(error))[:200]
    lower = text.lower()
    if isinstance(error, (EOFError, struct.error)) or _TRUNCATED_PATTERN.search(lower):
        return "the file is truncated"
    if _TEXT_LIMIT.lower() in lower:
        return "it holds more text than is safe to unpack"
    if isinstance(error, _DECODER_ERRORS) and not _JARGON_PATTERN.search(lower):
        return (
            f"it is "
            f"{'of an unsupported kind' if _UNSUPPORTED_PATTERN.search(lower) else 'damaged'}"
            f" ({text})"
        )
    return "it is damaged or of an unsupported kind"
