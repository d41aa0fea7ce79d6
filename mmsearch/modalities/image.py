"""Still pictures: JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, HEIC/HEIF and AVIF, by Pillow.

What comes out is upright (EXIF orientation applied), RGB, 8 bits a channel, on white where the
picture is transparent.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from threading import Lock
from typing import Final

import numpy as np
from PIL import (
    AvifImagePlugin,
    Image,
    ImageFile,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import decode_error_from_os, open_source_file
from mmsearch.core.protocols import Modality
from mmsearch.core.types import DecodedImage, Picture, Pixels
from mmsearch.modalities import _color, _jpeg, _metadata
from mmsearch.modalities._texts.normalize import to_single_line

JPEG_FORMATS: Final = ("JPEG", "MPO")

DEFAULT_MAX_PIXELS: Final = 300_000_000

BOMB_MIN_BYTES: Final = 48_000_000
BOMB_MIN_RATIO: Final = 200
"""Beyond both, a picture is taken for a bomb; a photograph as PNG unpacks to 2 to 10 times."""

SUFFIXES: Final = frozenset(
    b".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .hif .avif".split()
)

# Pillow knows some forty formats, among them ones that start other programs: only these are tried.
# Files of the MPO format, which some cameras write, come in through JPEG.
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

_AVIF_BRANDS: Final = (b"avif", b"avis")

# How a file of each format begins, to tell a damaged picture from a file that is none.
_SIGNATURES: Final = {
    "a JPEG": re.compile(rb"\xff\xd8\xff"),
    "a PNG": re.compile(rb"\x89PNG"),
    "a GIF": re.compile(rb"GIF8"),
    "a WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "a TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "a HEIF or AVIF": re.compile(rb"....ftyp(?:hei|hev|mif|msf|avi)", re.DOTALL),
}

# What the decoders say on purpose is passed on, unless it speaks to programmers.
_DECODER_ERRORS: Final = (OSError, RuntimeError, SyntaxError, ValueError)
_JARGON_PATTERN: Final = re.compile(
    r"[<>_'\"=\\\[\]{}]|decoder (error|object)|unpack|argument|byte string|this image|codec|buffer"
)
_TRUNCATED_PATTERN: Final = re.compile("truncated|end of file|not enough image data|read too short")
_UNSUPPORTED_PATTERN: Final = re.compile("unsupported|not supported|not implemented|unknown")


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """The modality of still pictures.

    Args:
        max_pixels: Larger pictures are refused before they are decoded.
    """
    return ImageModality(max_pixels)


@dataclass(frozen=True)
class ImageModality:
    """See `mmsearch.core.protocols.Modality`."""

    max_pixels: int

    def can_read(self, path: bytes) -> bool:
        """Whether the name ends like a picture's."""
        return path[path.rfind(b".") :].lower() in SUFFIXES

    def read(self, path: bytes, edge_px: int) -> DecodedImage:
        """Pixels and facts of a picture.

        Args:
            path: Absolute.
            edge_px: A JPEG may be decoded at a fraction of its size whose short side is still at
                least this; 0 decodes all of it.

        Raises:
            DecodeError: One clause that says why it cannot be read.
        """
        with open_source_file(path) as file, _map_decode_errors(), _pillow_limits_lifted:
            return self._decode(file, edge_px)

    def thumbnail(self, path: bytes, edge_px: int, file_format: str = "JPEG") -> bytes:
        """The picture made small, as a file: its long side is at most ``edge_px``.

        Raises:
            DecodeError: One clause that says why it cannot be read.
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
                    f"{self.max_pixels / 1e6:g} (raise it with --max-pixels)"
                )
            is_reduced = bool(edge_px) and image.draft("RGB", (edge_px, edge_px)) is not None
            if not is_reduced:
                _reject_bomb(image, os.fstat(file.fileno()).st_size)
            pixels = _decode_pixels(image, file, min(width, height), edge_px)
            # After loading: Pillow turns some formats itself and then takes the mark away.
            orientation = _metadata.orientation(image)
            pixels = np.ascontiguousarray(_color.apply_orientation(pixels, orientation))
            if is_reduced and orientation >= _color.FIRST_SWAPPED_ORIENTATION:
                width, height = height, width
            elif not is_reduced:
                height, width = pixels.shape[:2]
            latitude, longitude = _metadata.gps(image)
            picture = Picture(
                width=width,
                height=height,
                format="JPEG" if image.format == "MPO" else image.format or "",
                taken_at=_metadata.taken_at(image),
                texts=_metadata.texts(image),
                camera=_metadata.camera(image),
                latitude=latitude,
                longitude=longitude,
            )
        return DecodedImage(picture, pixels)


def _decode_pixels(
    image: Image.Image, file: BufferedReader, short_side_px: int, edge_px: int
) -> Pixels:
    """Colours as they are stored, not yet upright."""
    if image.format in JPEG_FORMATS and image.mode in ("RGB", "L"):
        pixels = _jpeg.decode(file, short_side_px, edge_px)
        if pixels is not None:
            return pixels
    image.load()
    return _color.to_rgb(image)


def _reject_bomb(image: Image.Image, size: int) -> None:
    """Refuse what grows out of all proportion: pictures of things do not, empty pages do."""
    width, height = image.size
    unpacked_bytes = width * height * max(len(image.getbands()), 1)
    if unpacked_bytes > BOMB_MIN_BYTES and unpacked_bytes > BOMB_MIN_RATIO * size:
        raise DecodeError(
            f"it unpacks to {unpacked_bytes / 1e6:,.0f} MB, {unpacked_bytes // max(size, 1):,} times its size:"
            " a decompression bomb, or an empty page"
        )


def _open_image(file: BufferedReader, head: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(file, formats=_candidate_formats(head))
    except UnidentifiedImageError as error:
        for name, signature in _SIGNATURES.items():
            if signature.match(head):
                raise DecodeError(f"{name} that is damaged, or of a rare kind") from error
        raise DecodeError("not a picture in a known format") from error


def _candidate_formats(head: bytes) -> tuple[str, ...]:
    """The formats to try; the HEIF reader is loaded for files that begin like HEIF only."""
    if head[4:8] != b"ftyp" or head[8:12] in _AVIF_BRANDS:
        return FORMATS
    import pillow_heif  # noqa: PLC0415 - 30 ms that few files need

    pillow_heif.register_heif_opener()
    return (*FORMATS, HEIF)


class _PillowLimitsLifted:
    """Lift Pillow's own limit of pixels, which is lower than ours, and keep its warnings quiet.

    All of that is global to the process and belongs to the program around us: the last of our
    threads to leave puts back what the first one found.
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
    """Whatever a decoder throws becomes one clause that a person understands."""
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
        return f"it is {'of a rare kind' if _UNSUPPORTED_PATTERN.search(lower) else 'damaged'} ({text})"
    return "it is damaged, or of a rare kind"
