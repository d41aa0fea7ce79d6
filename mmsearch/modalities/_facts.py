"""What a picture's own metadata says. Damaged metadata says nothing; it never costs the picture."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Final

from PIL import ExifTags, Image

from mmsearch.core.types import Text

MAX_TEXT_CHARS: Final = 10_000

_XP_TITLE: Final = 0x9C9B

# What cameras and scanners write where a description belongs.
_BOILERPLATE: Final = frozenset(
    {
        "olympus digital camera",
        "sony dsc",
        "dcim",
        "dig",
        "jpeg",
        "minolta digital camera",
        "konica minolta digital camera",
        "samsung camera pictures",
        "samsung digital camera",
        "kodak digital still camera",
        "exif_jpeg_picture",
        "exif jpeg",
        "default",
        "untitled",
        "created with gimp",
    }
)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    value = _tag(image, ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def taken_at(image: Image.Image) -> str | None:
    """When the picture was taken, ISO 8601 local time without zone."""
    for value in (
        _tag(image, ExifTags.Base.DateTimeOriginal, ExifTags.IFD.Exif),
        _tag(image, ExifTags.Base.DateTimeDigitized, ExifTags.IFD.Exif),
        _tag(image, ExifTags.Base.DateTime),
    ):
        with suppress(ValueError):
            moment = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
            return moment.isoformat()
    return None


def texts(image: Image.Image) -> tuple[Text, ...]:
    """Descriptions and titles that a person wrote into the file."""
    found = [
        ("description", _text(_tag(image, ExifTags.Base.ImageDescription))),
        ("title", _text(_tag(image, _XP_TITLE), "utf-16-le")),
        ("description", _text(image.info.get("Description"))),
        ("title", _text(image.info.get("Title"))),
    ]
    unique: dict[str, str] = {}
    for kind, text in found:
        if any(char.isalpha() for char in text) and text.lower() not in _BOILERPLATE:
            unique.setdefault(text, kind)
    return tuple(Text(kind, text) for text, kind in unique.items())


def one_line(text: str) -> str:
    """Text without control characters and with single spaces."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())


def _tag(image: Image.Image, tag: int, block: int | None = None) -> object:
    """One EXIF value, or None; the others may be damaged."""
    # Pillow's parser raises whatever a damaged block makes it raise; what it read before, it keeps.
    with suppress(Exception):
        image.getexif()
    with suppress(Exception):
        exif = image.getexif()
        return (exif if block is None else exif.get_ifd(block)).get(tag)
    return None


def _text(value: object, encoding: str = "utf-8") -> str:
    if isinstance(value, tuple):
        value = bytes(part for part in value if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, bytes):
        value = value.decode(encoding, "replace")
    if not isinstance(value, str):
        return ""
    return one_line(value.partition("\0")[0])[:MAX_TEXT_CHARS].strip()
