"""Find the blocks of metadata in each file format: EXIF, IPTC and XMP.

Pillow finds most of them; this module adds those that it leaves out.
"""

from __future__ import annotations

import os
import re
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import BinaryIO, Final

from PIL import ExifTags, Image

from mmsearch.modalities._texts.dates import Moment, parse_date, utc_to_local

_XMP_TAG: Final = 700
_IPTC_TAG: Final = 33723
_PHOTOSHOP_TAG: Final = 34377
_IPTC_RESOURCE: Final = 0x0404

# One program writes "XMP" and NUL instead of "http".
_JPEG_XMP: Final = re.compile(rb"(?:http|XMP\0)://ns\.adobe\.com/xap/1\.0/\0")
_JPEG_EXTENDED_XMP: Final = b"http://ns.adobe.com/xmp/extension/\0"
_JPEG_PHOTOSHOP: Final = b"Photoshop 3.0\0"
# The packet is not divided into blocks; a sequence of falling bytes makes readers skip it.
_GIF_XMP: Final = re.compile(rb"!\xff\x0bXMP DataXMP(.*?)(?:\x01\xff\xfe|\Z)", re.DOTALL)

# Bytes of one value by type of an EXIF value.
_TYPE_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_UNKNOWN_TYPE: Final = 0xFFFF
_MAX_DIRECTORIES: Final = 8

# EXIF directories of CR3 files by the number of their box.
_CR3_DIRECTORIES: Final = {b"1": None, b"2": ExifTags.IFD.Exif, b"4": ExifTags.IFD.GPSInfo}
_CR3_EXIF: Final = re.compile(rb"CMT([124])(?=II\*\0|MM\0\*)")
_CR3_XMP_ID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MAX_CR3_HEADER_BYTES: Final = 2**20

_MAX_PACKETS: Final = 10
_MAX_BOXES: Final = 1000
_MAX_SCANNED_BYTES: Final = 64_000_000


def open_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF block; of a damaged one, the values that can be read."""
    # Pillow's parser raises many kinds of errors on a damaged block, but keeps the values it has
    # already read, and returns them from the second call on.
    with suppress(Exception):
        exif = image.getexif()
        block = image.info.get("exif")
        if isinstance(block, bytes) and (repaired := _repair_exif(block)) is not block:
            exif = Image.Exif()
            exif.load(repaired)
            return exif
        if not len(exif) and (profile := _raw_profile(image, "APP1")).startswith(b"Exif\0\0"):
            exif.load(profile)
    try:
        return image.getexif()
    except Exception:  # noqa: BLE001
        return Image.Exif()


def open_cr3_exif(content: bytes) -> Image.Exif:
    """Return the EXIF directories of a CR3 file (Canon), which are in boxes of their own."""
    exif = Image.Exif()
    for match in islice(_CR3_EXIF.finditer(content[:_MAX_CR3_HEADER_BYTES]), 10):
        size = int.from_bytes(content[match.start() - 4 : match.start()])
        directory = Image.Exif()
        with suppress(Exception):
            directory.load(_repair_exif(content[match.end() : match.start() - 4 + size]))
        number = _CR3_DIRECTORIES[match[1]]
        values = exif if number is None else exif.get_ifd(number)
        for tag in directory:
            with suppress(Exception):
                values[tag] = directory[tag]
    return exif


def find_cr3_xmp(content: bytes) -> bytes:
    """Return the XMP packet of a CR3 file, or b""."""
    start = content.find(b"uuid" + _CR3_XMP_ID, 0, _MAX_CR3_HEADER_BYTES)
    size = int.from_bytes(content[max(start - 4, 0) : max(start, 0)])
    return content[start + 20 : start - 4 + size] if start >= 0 else b""


def find_xmp_packets(
    image: Image.Image, exif: Image.Exif, file: BinaryIO | None
) -> Iterator[bytes]:
    """Yield the XMP packets, the main one first."""
    packets: list[bytes] = []
    segments = [data for name, data in getattr(image, "applist", ()) if name == "APP1"]
    packets += [data[match.end() :] for data in segments if (match := _JPEG_XMP.match(data))]
    packets += _extended_xmp(segments, b"".join(packets))
    for value in (
        image.info.get("xmp"),
        image.info.get("XML:com.adobe.xmp"),
        _raw_profile(image, "xmp"),
        _JPEG_XMP.sub(b"", _raw_profile(image, "APP1"), count=1),
        exif.get(_XMP_TAG),
    ):
        packet = value.encode("utf-8", "replace") if isinstance(value, str) else to_bytes(value)
        if packet:
            packets.append(packet)
    if file is not None and image.format == "GIF":
        file.seek(0)
        matches = _GIF_XMP.finditer(file.read(_MAX_SCANNED_BYTES))
        packets += (match[1] for match in islice(matches, _MAX_PACKETS))
    if file is not None and image.format == "JXL":
        packets += islice(_xml_boxes(file), _MAX_PACKETS)
    yield from islice(dict.fromkeys(packets), _MAX_PACKETS)


def find_iptc_block(image: Image.Image, exif: Image.Exif) -> bytes:
    """Return the IPTC-IIM block, or b""."""
    segments = [data for name, data in getattr(image, "applist", ()) if name == "APP13"]
    resources = b"".join(
        data[len(_JPEG_PHOTOSHOP) :] for data in segments if data.startswith(_JPEG_PHOTOSHOP)
    )
    for block in (
        resources,
        _tiff_iptc(image),
        to_bytes(exif.get(_IPTC_TAG)),
        to_bytes(exif.get(_PHOTOSHOP_TAG)),
        _raw_profile(image, "iptc"),
        _raw_profile(image, "8bim"),
    ):
        iptc = _iptc_resource(block)
        if iptc:
            return iptc
    return b""


def find_png_time(image: Image.Image, file: BinaryIO | None) -> Moment | None:
    """Return the time of the last change that a PNG file states, in local time."""
    if file is None or image.format != "PNG":
        return None
    for kind, data in _iter_chunks(file):
        if kind == b"tIME" and len(data) == 7:
            moment = parse_date("{}-{}-{} {}:{}:{}".format(*struct.unpack(">H5B", data)))
            return moment and utc_to_local(moment)
    return None


def to_bytes(value: object) -> bytes:
    """Return a value of an EXIF tag as bytes; b"" for other values."""
    if isinstance(value, tuple):
        value = [part for part in value if isinstance(part, int) and 0 <= part < 256]
    return bytes(value) if isinstance(value, (bytes, bytearray, list)) else b""


def _repair_exif(block: bytes) -> bytes:
    """Return an EXIF block without the values that lie outside it; Pillow stops at the first."""
    start = 6 if block.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(block[start : start + 2])
    if order is None or len(block) < start + 8:
        return block
    broken: list[int] = []
    directories = list(struct.unpack_from(order + "I", block, start + 4))
    for directory in directories:
        if len(directories) > _MAX_DIRECTORIES or start + directory + 2 > len(block):
            break
        (count,) = struct.unpack_from(order + "H", block, start + directory)
        for entry in range(start + directory + 2, len(block) - 11, 12)[:count]:
            tag, kind, length, value = struct.unpack_from(order + "HHII", block, entry)
            size = length * _TYPE_SIZES.get(kind, 0)
            if size > 4 and start + value + size > len(block):
                broken.append(entry)
            elif tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                directories.append(value)
    if not broken:
        return block
    repaired = bytearray(block)
    for entry in broken:
        struct.pack_into(order + "H", repaired, entry + 2, _UNKNOWN_TYPE)
    return bytes(repaired)


def _extended_xmp(segments: list[bytes], main_packets: bytes) -> Iterator[bytes]:
    """Yield the packets that are larger than a JPEG segment and therefore stored in several."""
    parts: dict[bytes, list[tuple[int, bytes]]] = {}
    for data in segments:
        if data.startswith(_JPEG_EXTENDED_XMP):
            # A digest, the total size and the offset of this part come before the content.
            part = data[len(_JPEG_EXTENDED_XMP) :]
            if len(part) > 40 and part[:32] in main_packets:
                offset = int.from_bytes(part[36:40])
                parts.setdefault(part[:32], []).append((offset, part[40:]))
    for pieces in parts.values():
        yield b"".join(part for _, part in sorted(pieces))


def _tiff_iptc(image: Image.Image) -> bytes:
    """Return the IPTC block of a TIFF file, whose type may be bytes or 32-bit numbers."""
    tags = getattr(image, "tag_v2", None)
    # Pillow's public interface returns only the first of the numbers.
    block = to_bytes(getattr(tags, "_tagdata", {}).get(_IPTC_TAG))
    if block[3:4] == b"\x1c" and block[:1] != b"\x1c":
        numbers = array("I", block[: len(block) // 4 * 4])
        numbers.byteswap()
        return numbers.tobytes()
    return block


def _iptc_resource(block: bytes) -> bytes:
    """Return the IPTC block in a block of Photoshop resources, or a bare IPTC block as it is."""
    if block.startswith(b"\x1c"):
        return block
    offset = 0
    while block[offset : offset + 4] == b"8BIM" and len(block) >= offset + 12:
        (number,) = struct.unpack_from(">H", block, offset + 4)
        # The name is padded to an even length, together with its own length.
        offset += 6 + (block[offset + 6] // 2 + 1) * 2
        if len(block) < offset + 4:
            break
        (size,) = struct.unpack_from(">I", block, offset)
        data = block[offset + 4 : offset + 4 + size]
        if number == _IPTC_RESOURCE and data:
            return data
        offset += 4 + size + size % 2
    return b""


def _raw_profile(image: Image.Image, name: str) -> bytes:
    """Return a block that ImageMagick wrote as hexadecimal text into a PNG file."""
    text = image.info.get(f"Raw profile type {name}")
    if isinstance(text, str):
        # An empty line, the name and the length come before the digits.
        digits = text.strip("\n").split("\n", 2)[2:]
        with suppress(ValueError):
            return bytes.fromhex("".join(digits))
    return b""


def _iter_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the short chunks of a PNG file: type and content."""
    file.seek(8)
    while len(header := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            break
        if size > 100:
            file.seek(size + 4, os.SEEK_CUR)
        else:
            yield kind, file.read(size)
            file.seek(4, os.SEEK_CUR)


def _xml_boxes(file: BinaryIO) -> Iterator[bytes]:
    """Yield the XML boxes of a JPEG XL file."""
    file.seek(0)
    for _ in range(_MAX_BOXES):
        header = file.read(8)
        if len(header) < 8:
            break
        size, kind = struct.unpack(">I4s", header)
        size -= 8
        if size == 1 - 8:
            (size,) = struct.unpack(">Q", file.read(8))
            size -= 16
        if size < 0:
            break
        if kind == b"xml ":
            yield file.read(min(size, _MAX_SCANNED_BYTES))
        else:
            file.seek(size, os.SEEK_CUR)
