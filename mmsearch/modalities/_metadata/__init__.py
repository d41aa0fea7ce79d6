"""Read the metadata of a picture. Damaged metadata is ignored and never fails the picture."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import BinaryIO, Final

from PIL import ExifTags, Image

from mmsearch.core.types import Metadata, Text, TextSource
from mmsearch.modalities._metadata.blocks import (
    find_cr3_xmp,
    find_iptc_block,
    find_png_time,
    find_xmp_packets,
    open_cr3_exif,
    open_exif,
)
from mmsearch.modalities._metadata.exif import decode_text, read_exif
from mmsearch.modalities._metadata.iptc import read_iptc
from mmsearch.modalities._texts.dates import Role
from mmsearch.modalities._texts.facts import Facts, merge
from mmsearch.modalities._texts.xmp import read_xmp

# Names of PNG texts in lower case, and of the comments of JPEG and GIF files.
_TEXT_KINDS: Final = {
    "description": "description",
    "title": "title",
    "comment": "description",
    "caption": "description",
}
# ImageMagick copies EXIF and XMP into PNG texts. Its date:create and date:modify are the times of
# the file.
_DATES: Final = {
    "exif:datetimeoriginal": Role.ORIGINAL,
    "photoshop:datecreated": Role.ORIGINAL,
    "exif:datetimedigitized": Role.DIGITIZED,
    "xmp:createdate": Role.DIGITIZED,
    "creation time": Role.PNG_TEXT,
    "creationtime": Role.PNG_TEXT,
    "date": Role.PNG_TEXT,
    "exif:datetime": Role.MODIFIED,
    "xmp:modifydate": Role.MODIFIED,
}


def read_metadata(image: Image.Image, file: BinaryIO | None = None) -> Metadata:
    """Return everything that a picture file says about the picture.

    Args:
        image: The picture, loaded, because metadata can be stored after the pixels.
        file: The file that the picture was opened from, for what Pillow does not read: XMP in GIF
            and JPEG XL, the time in PNG. None reads the rest.
    """
    exif, iptc, text_chunks = Facts(), Facts(), Facts()
    block = open_exif(image)
    with suppress(Exception):
        exif = read_exif(block)
    with suppress(Exception):
        iptc = read_iptc(find_iptc_block(image, block))
    with suppress(Exception):
        text_chunks = _read_text_chunks(image)
        text_chunks.add_date(Role.MODIFIED, "png", find_png_time(image, file))
    packets: list[Facts] = []
    with suppress(Exception):
        for packet in find_xmp_packets(image, block, file):
            with suppress(Exception):
                packets.append(read_xmp(packet))
    # Programs that know XMP keep the rating there, while EXIF may have the camera's 0.
    ratings = [Facts(rating=facts.rating) for facts in packets]
    return merge([*ratings, exif, iptc, text_chunks, *packets], TextSource.METADATA)


def read_cr3_metadata(content: bytes) -> Metadata:
    """Return everything that a CR3 file (RAW of Canon) says about the picture."""
    exif, xmp = Facts(), Facts()
    with suppress(Exception):
        exif = read_exif(open_cr3_exif(content))
    with suppress(Exception):
        xmp = read_xmp(find_cr3_xmp(content))
    return merge([Facts(rating=xmp.rating), exif, xmp], TextSource.METADATA)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    value = open_exif(image).get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _read_text_chunks(image: Image.Image) -> Facts:
    """Return the statements of PNG text chunks, and of comments in JPEG and GIF files."""
    chunks = {
        name.lower(): decode_text(value)
        for name, value in image.info.items()
        if isinstance(name, str) and isinstance(value, (str, bytes)) and len(name) < 80
        if name.lower() in _TEXT_KINDS or name.lower() in _DATES or name.lower() == "keywords"
    }
    facts = Facts(keywords=re.split("[,;]", chunks.get("keywords", "")))
    for name, kind in _TEXT_KINDS.items():
        if text := chunks.get(name):
            facts.texts.append(Text(kind, text))
    for name, role in _DATES.items():
        facts.add_date(role, "png", chunks.get(name))
    return facts
