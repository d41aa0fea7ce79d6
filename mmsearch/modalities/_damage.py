"""Damaged pictures: what can still be read of them, and how much is missing.

Pillow and libjpeg-turbo read a picture up to the place where it is cut off. Decoders of WebP, AVIF
and HEIF refuse it, so the missing bytes are replaced. A picture is always decoded twice, with
different values for what is missing: the pixels that differ are those that were not in the file.
"""

from __future__ import annotations

import io
import math
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from mmsearch.core.errors import DecodeError
from mmsearch.modalities._pillow_globals import pillow_globals

END_MISSING: Final = "its end is missing"

MAX_REPAIR_BYTES: Final = 2**30
"""Size in bytes of the largest file that is repaired."""

_MAX_PADDING_BYTES: Final = 2**28
"""Largest number of bytes in place of those that a file lacks."""

FILL: Final = 128
"""Value of the pixels that are missing: a medium grey where values are levels."""

_OTHER_FILL: Final = 0

_MAX_COMPARED_PIXELS: Final = 8_000_000
"""Number of pixels from which only some of them are compared."""

_PADDINGS: Final = (
    *(b"\0", b"\xff", b"\x55", b"\x80", b"\x04", b"\x24", b"\x28", b"\x01"),
    *(b"\x9e\x37\x79\xb9", b"\xa5\x3c\x0f"),
)
"""Bytes in place of those that a file lacks. Not every decoder accepts each of them."""

_MIN_MISSING_ALL: Final = 0.995
"""Share of missing pixels from which a picture counts as unreadable."""

_MAX_MISSING_BYTES: Final = 0.97
_MIN_JPEG_DIFFERENCE: Final = 6
_JPEG_END: Final = b"\xff\xd9"
_JPEG_RESTART: Final = re.compile(rb"\xff[\xd0-\xd7]")

_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
BLOCK_BYTES: Final = 2**20
_MAX_GIF_BLOCKS: Final = 100_000
_GIF_TRAILER: Final = b"\x3b"
_WEBP_PIXEL_CHUNKS: Final = (b"VP8 ", b"VP8L")
_WEBP_FRAME_HEADER_BYTES: Final = 16

OpenImage = Callable[[BinaryIO], Image.Image]


@dataclass(frozen=True)
class Repair:
    """Content that can be decoded in place of a damaged file.

    Attributes:
        content: The content; to be loaded with `load_damaged`.
        damage: What is wrong with the file: a clause such as ``the last 3% are missing``.
    """

    content: bytes
    damage: str


def find_damage(file: BinaryIO) -> str | None:
    """Return what is wrong with a file whose pixels were all decoded without an error.

    Args:
        file: The file; only PNG and GIF are examined, because decoders check the others.
    """
    file.seek(0)
    head = file.read(len(_PNG_HEAD))
    if head == _PNG_HEAD:
        return _find_png_damage(file)
    if head.startswith(b"GIF8"):
        return None if _has_gif_trailer(file) else END_MISSING
    return None


def repair(content: bytes, open_image: OpenImage) -> Repair | None:
    """Return how to decode a file that could not be decoded; None if it has no readable pixels.

    Args:
        content: The content of the file.
        open_image: Opens a picture without decoding it.

    Raises:
        DecodeError: From ``open_image``: the picture may not be decoded because of its size.
    """
    try:
        if content.startswith(b"\xff\xd8\xff"):
            return _repair_jpeg(content, open_image)
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _repair_webp(content, open_image)
        if content[4:8] == b"ftyp":
            return _repair_boxes(content, open_image)
        return _repair_tiles(content, open_image)
    except (DecodeError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - decoders of damaged files raise errors of many kinds
        return None


def load_damaged(image: Image.Image, fill: int = FILL) -> None:
    """Load the pixels that a damaged image has.

    Args:
        image: An image that is not loaded yet.
        fill: Value of the pixels that are missing, in all channels.

    Raises:
        OSError: No pixels can be loaded; decoders raise other errors, too.
    """
    prepare = image.load_prepare if isinstance(image, ImageFile.ImageFile) else None

    def prepare_filled() -> None:
        extents = [tile[1] for tile in image.tile]  # type: ignore[attr-defined]
        prepare()  # type: ignore[misc]
        ink = (fill,) * image.im.bands if image.im.bands > 1 else fill
        for box in extents:
            image.im.paste(ink, box or (0, 0, *image.size))

    with pillow_globals.tolerating_damage():
        if prepare is not None:
            image.load_prepare = prepare_filled  # type: ignore[attr-defined]
        try:
            image.load()
        except OSError:
            # libtiff keeps the strips before the damaged one, and its reader clears the list.
            if getattr(image, "tile", True):
                raise


def _describe(missing: NDArray[np.bool_]) -> str | None:
    """Return a clause about pixels that are missing, bool (h, w); None if all are."""
    share = float(missing.mean())
    if share >= _MIN_MISSING_ALL:
        return None
    if not share:
        return END_MISSING
    percent = max(1, round(share * 100))
    return f"the last {percent}% {'is' if percent == 1 else 'are'} missing"


# --- formats that Pillow decodes up to the damage: PNG, GIF, BMP, TIFF and others ---


def _repair_tiles(content: bytes, open_image: OpenImage) -> Repair | None:
    def decode(fill: int) -> NDArray[Any]:
        with pillow_globals.tolerating_damage():
            image = open_image(io.BytesIO(content))
        load_damaged(image, fill)
        width, height = image.size
        step = math.isqrt(width * height // _MAX_COMPARED_PIXELS) + 1
        if step > 1:
            size = (max(1, width // step), max(1, height // step))
            return np.asarray(image.resize(size, Image.Resampling.NEAREST))
        return np.asarray(image)

    damage = _describe(_differs(decode(FILL), decode(_OTHER_FILL)))
    if damage == END_MISSING:
        damage = find_damage(io.BytesIO(content)) or "a pixel checksum is wrong"
    return None if damage is None else Repair(content, damage)


def _differs(first: NDArray[Any], second: NDArray[Any], threshold: int = 0) -> NDArray[np.bool_]:
    """Return which pixels of two arrays, (h, w) or (h, w, channels), differ, bool (h, w)."""
    if threshold:
        first, second = first.astype(np.int16), second.astype(np.int16)
        differences = np.asarray(np.abs(first - second) > threshold)
    else:
        differences = np.asarray(first != second)
    return np.asarray(differences.reshape(*differences.shape[:2], -1).any(axis=2))


def _find_png_damage(file: BinaryIO) -> str | None:
    """Return what the checksums of a PNG show; ``file`` is at its first chunk."""
    wrong_side_chunk: str | None = None
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return wrong_side_chunk
        checksum, left = zlib.crc32(kind), length
        while left and (block := file.read(min(left, BLOCK_BYTES))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        stored = file.read(4)
        if len(stored) < 4:
            break
        if checksum != int.from_bytes(stored, "big"):
            if kind in (b"IDAT", b"fdAT"):
                return "a pixel checksum is wrong"
            name = kind.decode("latin-1")
            wrong_side_chunk = f"the checksum of its {name} chunk is wrong"
            if not name.isascii() or not name.isalpha():
                return wrong_side_chunk if name.isprintable() else END_MISSING
    return END_MISSING


def _has_gif_trailer(file: BinaryIO) -> bool:
    """Return True if a GIF ends with its trailer, or has more blocks than are examined."""
    file.seek(-1, io.SEEK_END)
    if file.read(1) == _GIF_TRAILER:
        return True
    file.seek(10)
    _skip_gif_colours(file, file.read(3)[:1])
    for _ in range(_MAX_GIF_BLOCKS):
        kind = file.read(1)
        if kind == b",":
            _skip_gif_colours(file, file.read(9)[8:])
            file.read(1)
        elif kind == b"!":
            file.read(1)
        else:
            return kind == _GIF_TRAILER
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], io.SEEK_CUR)
    return True


def _skip_gif_colours(file: BinaryIO, flags: bytes) -> None:
    """Skip a colour table, which the flags before it describe."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, io.SEEK_CUR)


# --- JPEG ---


def lacks_jpeg_end(content: bytes) -> bool:
    """Return True if a JPEG has no marker of its end after its pixels.

    libjpeg does not always miss it. Interrupted downloads and recovered files often end in zeros,
    which it decodes as pixels.
    """
    if content.endswith(_JPEG_END):
        return False
    position = 2
    while content[position : position + 1] == b"\xff" and content[position + 1] != 0xDA:
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return content.find(_JPEG_END, position) < 0


def _repair_jpeg(content: bytes, open_image: OpenImage) -> Repair | None:
    """Repair a JPEG by appending the marker of its end, from which libjpeg fills it with grey."""
    body = content.rstrip(b"\0").removesuffix(b"\xff")

    def decode(end: bytes) -> tuple[NDArray[Any], tuple[int, int]]:
        image = open_image(io.BytesIO(body + end))
        size = image.size
        # At an eighth of its size, the brightness depends on the first scan of a progressive one.
        image.draft("L", (size[0] // 8, size[1] // 8))
        load_damaged(image)
        return np.asarray(image), size

    filled, size = decode(_JPEG_END)
    other, _ = decode(_jpeg_padding(body, *size) + _JPEG_END)
    missing = _differs(filled, other, _MIN_JPEG_DIFFERENCE)
    # Everything below the first place without data is missing, too.
    damage = _describe(np.maximum.accumulate(missing, axis=0))
    if damage == END_MISSING and re.search(rb"\xff\xc2\0.\x08", body, re.DOTALL):
        damage = "its end is missing, so it may lack detail"
    return None if damage is None else Repair(body + _JPEG_END, damage)


def _jpeg_padding(body: bytes, width: int, height: int) -> bytes:
    """Return data of random pixels for at least two rows of blocks of a JPEG that is cut off."""
    values = random.Random(0)  # noqa: S311 - not for secrets
    bytes_per_block = 32
    row_blocks = 12 * (width // 8 + 2)
    header, _, _ = body.partition(b"\xff\xda")
    interval = re.search(rb"\xff\xdd\0\x04(..)", header, re.DOTALL)
    restarts = _JPEG_RESTART.findall(body[-BLOCK_BYTES:])

    def data(blocks: int) -> bytes:
        return values.randbytes(blocks * bytes_per_block).replace(b"\xff", b"\x7f")

    units = int.from_bytes(interval[1], "big") if interval else 0
    if not units:
        return data(row_blocks)
    # A decoder goes on only at the markers that are due.
    number = restarts[-1][1] - 0xD0 if restarts else -1
    parts = [data(12 * units)]
    for _ in range(min(row_blocks // (6 * units) + 1, 4 * (height // 8 + 1))):
        number = (number + 1) % 8
        parts += [bytes((0xFF, 0xD0 + number)), data(12 * units)]
    return b"".join(parts)


# --- formats whose decoders need the whole file ---


def _repair_padded(
    missing_share: float, pad: Callable[[bytes], bytes], open_image: OpenImage
) -> Repair | None:
    """Repair a file by replacing the bytes that it lacks.

    Args:
        missing_share: Share of the bytes of the pixels that the file lacks.
        pad: Returns the content that is complete with repetitions of some bytes.
        open_image: See `repair`.
    """
    # Decoders make up pixels from a head alone.
    if missing_share > _MAX_MISSING_BYTES:
        return None
    decoded: list[tuple[bytes, NDArray[Any]]] = []
    for padding in _PADDINGS:
        content = pad(padding)
        try:
            decoded.append((content, np.asarray(open_image(io.BytesIO(content)).convert("RGB"))))
        except (DecodeError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S112 - decoders raise errors of many kinds
            continue
        if len(decoded) == 2:
            break
    if not decoded:
        return None
    content, pixels = decoded[0]
    if len(decoded) == 2:
        missing = _differs(pixels, decoded[1][1])
    else:
        missing = np.arange(1000)[:, None] >= 1000 * (1 - missing_share)
    damage = _describe(np.maximum.accumulate(missing, axis=0))
    return None if damage is None else Repair(content, damage)


def _repair_boxes(content: bytes, open_image: OpenImage) -> Repair | None:
    """Repair an AVIF or HEIF that ends inside the box of its pixels."""
    for position, end, kind in _boxes(content):
        lacking = end - len(content)
        if kind == b"mdat" and 0 < lacking <= _MAX_PADDING_BYTES:

            def pad(padding: bytes, lacking: int = lacking) -> bytes:
                return content + (padding * (lacking // len(padding) + 1))[:lacking]

            return _repair_padded(lacking / (end - position), pad, open_image)
    return None


def _boxes(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and kind of the outer boxes of an ISO media file."""
    position = 0
    while position + 16 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        if size == 1:
            size = struct.unpack_from(">Q", content, position + 8)[0]
        if size < 8:
            return
        yield position, position + size, kind
        position += size


def _repair_webp(content: bytes, open_image: OpenImage) -> Repair | None:
    """Repair a WebP that is cut off.

    The chunk of the pixels gets more bytes than it lacks, because decoders do not read all
    paddings in the same number of bytes. What is cut behind the pixels is left out.
    """
    position, frames = 12, 0
    parents: tuple[int, ...] = (4,)
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, position)
        end = position + 8 + size + size % 2
        if kind == b"ANMF" and not frames and end > len(content):
            # The pixels of the first frame are chunks inside this one.
            parents, frames = (*parents, position + 4), 1
            position += 8 + _WEBP_FRAME_HEADER_BYTES
            continue
        if end > len(content):
            if kind not in _WEBP_PIXEL_CHUNKS:
                break
            return _repair_webp_pixels(content, position, size, parents, open_image)
        frames += kind in (*_WEBP_PIXEL_CHUNKS, b"ANMF")
        position = end
    whole = _with_sizes(content[:position], (4,))
    image = open_image(io.BytesIO(whole))
    image.load()
    return Repair(whole, END_MISSING)


def _repair_webp_pixels(
    content: bytes, position: int, size: int, parents: tuple[int, ...], open_image: OpenImage
) -> Repair | None:
    lacking = position + 8 + size - len(content)
    if 4 * size > _MAX_PADDING_BYTES:
        return None

    def pad(padding: bytes) -> bytes:
        count = (4 * size + 2**16) // len(padding)
        padded = content + padding * count
        padded += b"\0" * (len(padded) % 2)
        return _with_sizes(padded, (*parents, position + 4))

    return _repair_padded(lacking / size, pad, open_image)


def _with_sizes(content: bytes, places: tuple[int, ...]) -> bytes:
    """Return a RIFF file in which the chunks with sizes at these places reach to its end."""
    changed = bytearray(content)
    for place in places:
        struct.pack_into("<I", changed, place, len(content) - place - 4)
    return bytes(changed)
