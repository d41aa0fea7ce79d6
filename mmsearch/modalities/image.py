"""Still pictures: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, HEIC/HEIF and AVIF.

Pictures are decoded with Pillow to RGB with 8 bits per channel. The EXIF orientation is applied,
and transparent pixels are blended over white.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from threading import Lock
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import decode_error_from_os, open_source_file
from mmsearch.core.protocols import Modality
from mmsearch.core.types import DecodedImage, Picture, Pixels
from mmsearch.modalities import _metadata
from mmsearch.modalities._texts.normalize import to_single_line

JPEG_FORMATS: Final = ("JPEG", "MPO")
"""Pillow's names of the formats that libjpeg-turbo decodes."""

MIN_REDUCTION: Final = 2
"""Smallest factor by which a JPEG is reduced.

Smaller factors look worse than scaling the full picture, and save no time.
"""

DEFAULT_MAX_PIXELS: Final = 300_000_000
"""Default limit of a picture's width times height."""

BOMB_MIN_BYTES: Final = 48_000_000
BOMB_MIN_RATIO: Final = 200
"""Limits on the decoded size and its ratio to the file size.

A picture above both is rejected as a decompression bomb. A photograph stored as PNG decodes to
2 to 10 times its size.
"""

SUFFIXES: Final = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .hif .avif".split()
)

# Pillow supports some forty formats, some of which start other programs; only these are tried.
# Pillow opens MPO files, which some cameras write, through JPEG.
FORMATS: Final = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    WebPImagePlugin.WebPImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    AvifImagePlugin.AvifImageFile.format,
)
HEIF: Final = "HEIF"

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

_AVIF_BRANDS: Final = (b"avif", b"avis")

# Signatures of the formats, to distinguish damaged pictures from other files.
_SIGNATURES: Final = {
    "a JPEG": re.compile(rb"\xff\xd8\xff"),
    "a PNG": re.compile(rb"\x89PNG"),
    "a GIF": re.compile(rb"GIF8"),
    "a WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "a TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "a HEIF or AVIF": re.compile(rb"....ftyp(?:hei|hev|mif|msf|avi)", re.DOTALL),
}

# Messages of these decoder errors are passed on unless they contain programmers' jargon.
_DECODER_ERRORS: Final = (OSError, RuntimeError, SyntaxError, ValueError)
_JARGON_PATTERN: Final = re.compile(
    r"[<>_'\"=\\\[\]{}]|decoder (error|object)|unpack|argument|byte string|this image|codec|buffer"
)
_TRUNCATED_PATTERN: Final = re.compile("truncated|end of file|not enough image data|read too short")
_UNSUPPORTED_PATTERN: Final = re.compile("unsupported|not supported|not implemented|unknown")


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of still pictures.

    Args:
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.
    """
    return ImageModality(max_pixels)


@dataclass(frozen=True)
class ImageModality:
    """Reads still pictures; see `mmsearch.core.protocols.Modality`."""

    max_pixels: int

    @property
    def missing_extra(self) -> None:
        """None, because all libraries are installed with mmsearch."""
        return None

    def can_read(self, path: bytes) -> bool:
        """Return True if the file name has the suffix of a supported format."""
        return path[path.rfind(b".") :].lower() in SUFFIXES

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of a supported format."""
        return any(signature.match(head) for signature in _SIGNATURES.values())

    def read(self, path: bytes, edge_px: int) -> DecodedImage:
        """Decode a picture and read its metadata.

        Args:
            path: Absolute path of the file.
            edge_px: Minimum short side in pixels: a JPEG may be decoded at a fraction of its size
                that is still at least this large. 0 decodes the full size.

        Raises:
            DecodeError: The picture cannot be read; the message is a clause with the reason.
        """
        with open_source_file(path) as file, _map_decode_errors(), _pillow_limits_lifted:
            return self._decode(file, edge_px)

    def thumbnail(self, path: bytes, edge_px: int, file_format: str = "JPEG") -> bytes:
        """Return an encoded thumbnail whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The picture cannot be read; the message is a clause with the reason.
        """
        decoded = self.read(path, edge_px)
        image = Image.fromarray(decoded.pixels)
        image.thumbnail((edge_px, edge_px), Image.Resampling.BICUBIC, reducing_gap=3.0)
        buffer = io.BytesIO()
        image.save(buffer, file_format, quality=85)
        return buffer.getvalue()

    def _decode(self, file: BufferedReader, edge_px: int) -> DecodedImage:
        head = file.read(12)
        file.seek(0)
        if not head:
            raise DecodeError("the file is empty")
        with _open_image(file, head) as image:
            width, height = image.size
            if width * height > self.max_pixels:
                raise DecodeError(
                    f"{width * height / 1e6:.1f} megapixels, over the limit of "
                    f"{self.max_pixels / 1e6:g} (raise it with the setting max_pixels)"
                )
            is_reduced = bool(edge_px) and image.draft("RGB", (edge_px, edge_px)) is not None
            if not is_reduced:
                _reject_bomb(image, os.fstat(file.fileno()).st_size)
            pixels = _decode_pixels(image, file, min(width, height), edge_px)
            # After loading, because Pillow rotates some formats itself and then removes the tag.
            orientation = _metadata.orientation(image)
            pixels = np.ascontiguousarray(apply_orientation(pixels, orientation))
            if is_reduced and orientation >= FIRST_SWAPPED_ORIENTATION:
                width, height = height, width
            elif not is_reduced:
                height, width = pixels.shape[:2]
            picture = Picture(
                width=width,
                height=height,
                format="JPEG" if image.format == "MPO" else image.format or "",
                **vars(_metadata.read_metadata(image, file)),
            )
        return DecodedImage(picture, pixels)


def _decode_pixels(
    image: Image.Image, file: BufferedReader, short_side_px: int, edge_px: int
) -> Pixels:
    """Return the RGB pixels as stored, before the orientation is applied.

    A JPEG is reduced by the largest factor (2, 8/3, 4 or 8) that keeps its short side at least
    ``edge_px`` pixels long; 0 means no reduction.
    """
    if image.format in JPEG_FORMATS and image.mode in ("RGB", "L"):
        file.seek(0)
        min_side_px = edge_px if short_side_px >= MIN_REDUCTION * edge_px else 0
        # Pillow reports the error of a damaged or unusual file better.
        with suppress(ValueError):
            pixels: Pixels = simplejpeg.decode_jpeg(
                file.read(),
                "RGB",
                min_height=min_side_px,
                min_width=min_side_px,
                min_factor=MIN_REDUCTION,
                strict=True,
            )
            return pixels
    image.load()
    return to_rgb(image)


def _reject_bomb(image: Image.Image, size: int) -> None:
    """Reject a picture whose decoded size is out of proportion to its file size.

    Photographs never reach the limits; blank pages can.
    """
    width, height = image.size
    unpacked_bytes = width * height * max(len(image.getbands()), 1)
    if unpacked_bytes > BOMB_MIN_BYTES and unpacked_bytes > BOMB_MIN_RATIO * size:
        raise DecodeError(
            f"it unpacks to {unpacked_bytes / 1e6:,.0f} MB, "
            f"{unpacked_bytes // max(size, 1):,} times its size: "
            "a decompression bomb or a blank page"
        )


def _open_image(file: BufferedReader, head: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=_candidate_formats(head))
    except UnidentifiedImageError as error:
        for name, signature in _SIGNATURES.items():
            if signature.match(head):
                raise DecodeError(f"{name} that is damaged or of an unsupported kind") from error
        raise DecodeError("not a picture in a known format") from error


def _candidate_formats(head: bytes) -> tuple[str, ...]:
    """Return the formats to try; the HEIF reader is loaded only for files that look like HEIF."""
    if head[4:8] != b"ftyp" or head[8:12] in _AVIF_BRANDS:
        return FORMATS
    import pillow_heif  # noqa: PLC0415 - takes 30 ms and few files need it

    pillow_heif.register_heif_opener()
    return (*FORMATS, HEIF)


class _PillowLimitsLifted:
    """Context manager that lifts Pillow's pixel limit and suppresses its warnings.

    Pillow's limit is lower than `ImageModality.max_pixels`. These settings are global to the
    process and belong to the host program: the first thread to enter saves them, and the last one
    to leave restores them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._active_count = 0
        self._saved_state = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._active_count:
                self._saved_state.callback(
                    setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS
                )
                self._saved_state.callback(
                    setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", ImageFile.LOAD_TRUNCATED_IMAGES
                )
                self._saved_state.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                Image.MAX_IMAGE_PIXELS = None
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._active_count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._active_count -= 1
            if not self._active_count:
                self._saved_state.close()


_pillow_limits_lifted = _PillowLimitsLifted()


@contextmanager
def _map_decode_errors() -> Iterator[None]:
    """Turn any exception of a decoder into a `DecodeError` with a readable clause."""
    try:
        yield
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory to decode it") from error
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
    if "max_text" in lower:
        return "it holds more text than is safe to unpack"
    if isinstance(error, _DECODER_ERRORS) and not _JARGON_PATTERN.search(lower):
        return (
            f"it is "
            f"{'of an unsupported kind' if _UNSUPPORTED_PATTERN.search(lower) else 'damaged'}"
            f" ({text})"
        )
    return "it is damaged or of an unsupported kind"


# --- upright 8-bit RGB from images of any mode ---


def apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Return an upright view of the pixels (orientation 1 to 8; other values mean upright)."""
    transform = _ORIENTATION_TRANSFORMS.get(orientation)
    return pixels if transform is None else transform(pixels)


def to_rgb(image: Image.Image) -> Pixels:
    """Return the pixels as uint8 (h, w, 3), with transparency blended over white.

    Args:
        image: A loaded image of any mode.
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


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")
