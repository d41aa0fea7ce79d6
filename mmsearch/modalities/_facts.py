"""What a picture's own metadata says. Damaged metadata says nothing; it never costs the picture."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any, Final

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
    value = _exif(image).get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def taken_at(image: Image.Image) -> str | None:
    """When the picture was taken, ISO 8601 local time without zone."""
    exif = _exif(image)
    details: dict[int, Any] = {}
    # Pillow's parser raises whatever a damaged block makes it raise.
    with suppress(Exception):
        details = image.getexif().get_ifd(ExifTags.IFD.Exif)
    for value in (
        details.get(ExifTags.Base.DateTimeOriginal),
        details.get(ExifTags.Base.DateTimeDigitized),
        exif.get(ExifTags.Base.DateTime),
    ):
        with suppress(TypeError, ValueError):
            moment = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
            return moment.isoformat()
    return None


def texts(image: Image.Image) -> tuple[Text, ...]:
    """Descriptions and titles that a person wrote into the file."""
    exif = _exif(image)
    found = [
        ("description", _text(exif.get(ExifTags.Base.ImageDescription))),
        ("title", _text(exif.get(_XP_TITLE), "utf-16-le")),
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


def _exif(image: Image.Image) -> dict[int, Any]:
    # Pillow's parser raises whatever a damaged block makes it raise.
    with suppress(Exception):
        return dict(image.getexif())
    return {}


def _text(value: object, encoding: str = "utf-8") -> str:
    if isinstance(value, tuple):
        value = bytes(part for part in value if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, bytes):
        value = value.decode(encoding, "replace")
    if not isinstance(value, str):
        return ""
    return one_line(value.partition("\0")[0])[:MAX_TEXT_CHARS].strip()
