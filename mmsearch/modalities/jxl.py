"""JPEG XL, read with pillow-jxl-plugin (extra ``jxl``)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BufferedReader
from typing import Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.protocols import Modality
from mmsearch.core.types import DecodedImage
from mmsearch.modalities._pillow import PillowReader
from mmsearch.modalities._reader import DEFAULT_MAX_PIXELS, FileReader

_CODESTREAM: Final = b"\xff\x0a"
_CONTAINER: Final = b"\0\0\0\x0cJXL \r\n\x87\n"

_PEAK_BYTES: Final = 12
"""Memory that decoding takes at its peak, in bytes for each pixel."""

_SIZE_BITS: Final = (9, 13, 18, 30)
_RATIOS: Final = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def build(max_pixels: int = DEFAULT_MAX_PIXELS) -> Modality:
    """Return the modality of JPEG XL.

    Args:
        max_pixels: Limit of width times height; larger pictures are rejected before decoding.
    """
    return JxlModality(max_pixels)


@dataclass(frozen=True)
class JxlModality(FileReader):
    """Reads JPEG XL; see `mmsearch.core.protocols.Modality`."""

    suffixes = frozenset([b".jxl"])
    package = "pillow_jxl"
    extra = "jxl"

    def recognizes(self, head: bytes) -> bool:
        """Return True if the first bytes of a file are those of JPEG XL."""
        return head.startswith((_CODESTREAM, _CONTAINER))

    def _decode(self, file: BufferedReader, head: bytes, edge_px: int) -> DecodedImage:
        if not self.recognizes(head):
            raise DecodeError("not a picture in a known format")
        import pillow_jxl  # noqa: F401, PLC0415 - registers the format; few files need it

        reader = PillowReader(("JXL",), self.max_pixels)
        # The plugin decodes a picture when it opens it.
        reader.check_size(*read_size(file.read()), _PEAK_BYTES)
        file.seek(0)
        return reader.decode(file, edge_px)


def read_size(content: bytes) -> tuple[int, int]:
    """Return width and height in pixels that the header of a JPEG XL states.

    Raises:
        DecodeError: It has no header.
    """
    codestream = _find_codestream(content)
    if not codestream.startswith(_CODESTREAM) or len(codestream) < 12:
        raise DecodeError("the file is truncated")
    bits = int.from_bytes(codestream[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << count) - 1, bits >> count
        return value

    def take_size() -> int:
        return (take(5) + 1) * 8 if is_small else take(_SIZE_BITS[take(2)]) + 1

    is_small = take(1)
    height = take_size()
    ratio = _RATIOS.get(take(3))
    width = height * ratio[0] // ratio[1] if ratio else take_size()
    return width, height


def _find_codestream(content: bytes) -> bytes:
    """Return the start of the codestream: the whole file, or the content of a box."""
    position = 0
    while content.startswith(_CONTAINER) and position + 16 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        start = position + 8
        if size == 1:
            size, start = struct.unpack_from(">Q", content, start)[0], start + 8
        if kind in (b"jxlc", b"jxlp"):
            # The parts of a codestream are numbered.
            return content[start + 4 * (kind == b"jxlp") :][:64]
        if size < 8:
            return b""
        position += size
    return content[:64]
