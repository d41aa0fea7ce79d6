"""Read the metadata of a picture. Damaged metadata is ignored and never fails the picture."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, cast

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import decode, make_keyword_texts, to_single_line
from mmsearch.modalities._texts.xmp import XmpMetadata, parse_xmp

_XP_TITLE: Final = 0x9C9B
_XP_COMMENT: Final = 0x9C9C
_XP_KEYWORDS: Final = 0x9C9E
_XP_SUBJECT: Final = 0x9C9F
_XMP_TAG: Final = 700

_PNG_TEXT_KINDS: Final = {"Description": "description", "Title": "title", "Comment": "description"}

# IPTC-IIM, second record: object name, headline, caption.
_IPTC_TEXT_KINDS: Final = {5: "title", 105: "title", 120: "description"}
_IPTC_KEYWORDS: Final = 25

# Texts that cameras and scanners write into description fields by default.
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
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    value = _tag(image, ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def taken_at(image: Image.Image) -> str | None:
    """Return the time the picture was taken, as ISO 8601 local time without time zone."""
    for value in (
        _tag(image, ExifTags.Base.DateTimeOriginal, ExifTags.IFD.Exif),
        _tag(image, ExifTags.Base.DateTimeDigitized, ExifTags.IFD.Exif),
        _tag(image, ExifTags.Base.DateTime),
    ):
        with suppress(ValueError):
            moment = datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
            return moment.isoformat()
    return None


def camera(image: Image.Image) -> str | None:
    """Return the camera's maker and model, without repeating the maker."""
    maker = _text(_tag(image, ExifTags.Base.Make))
    model = _text(_tag(image, ExifTags.Base.Model))
    first_word = maker.split(" ")[0]
    if model and first_word and not model.lower().startswith(first_word.lower()):
        return f"{maker} {model}"
    return model or maker or None


def gps(image: Image.Image) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees, or None for both unless both are valid."""
    gps_ifd = ExifTags.IFD.GPSInfo
    latitude = _degrees(
        _tag(image, ExifTags.GPS.GPSLatitude, gps_ifd),
        _tag(image, ExifTags.GPS.GPSLatitudeRef, gps_ifd),
    )
    longitude = _degrees(
        _tag(image, ExifTags.GPS.GPSLongitude, gps_ifd),
        _tag(image, ExifTags.GPS.GPSLongitudeRef, gps_ifd),
    )
    if (
        latitude is not None
        and longitude is not None
        and abs(latitude) <= 90
        and abs(longitude) <= 180
    ):
        return latitude, longitude
    xmp = _xmp(image)
    return xmp.latitude, xmp.longitude


def texts(image: Image.Image) -> tuple[Text, ...]:
    """Return the texts written into the file by people: EXIF, IPTC, XMP and PNG text chunks."""
    xmp = _xmp(image)
    iptc_texts, iptc_words = _iptc(image)
    candidates = [
        ("description", _text(_tag(image, ExifTags.Base.ImageDescription))),
        ("title", _text(_tag(image, _XP_TITLE), "utf-16-le")),
        ("title", _text(_tag(image, _XP_SUBJECT), "utf-16-le")),
        ("description", _text(_tag(image, _XP_COMMENT), "utf-16-le")),
        ("description", _user_comment(image)),
        *iptc_texts,
        *((kind, _text(image.info.get(name))) for name, kind in _PNG_TEXT_KINDS.items()),
    ]
    unique: dict[str, Text] = {}
    for kind, text in candidates:
        if any(char.isalpha() for char in text) and text.lower() not in _BOILERPLATE:
            unique.setdefault(text.casefold(), Text(kind, text))
    for xmp_text in xmp.texts:
        if xmp_text.kind != "keywords" and xmp_text.text.lower() not in _BOILERPLATE:
            # XMP states the language of a text that other fields repeat without it.
            existing = unique.get(xmp_text.text.casefold())
            if existing is None or existing.language is None:
                unique[xmp_text.text.casefold()] = (
                    xmp_text if existing is None else replace(xmp_text, kind=existing.kind)
                )
    words = [
        *_text(_tag(image, _XP_KEYWORDS), "utf-16-le").split(";"),
        *iptc_words,
        *(
            word
            for xmp_text in xmp.texts
            if xmp_text.kind == "keywords"
            for word in xmp_text.text.split(";")
        ),
    ]
    return (*unique.values(), *make_keyword_texts(words, TextSource.METADATA))


def _tag(image: Image.Image, tag: int, ifd: int | None = None) -> object:
    """Return one EXIF value, or None; other values may be damaged."""
    # Pillow's parser raises many kinds of errors on a damaged block, but keeps the values it has
    # already read.
    with suppress(Exception):
        image.getexif()
    with suppress(Exception):
        exif = image.getexif()
        return (exif if ifd is None else exif.get_ifd(ifd)).get(tag)
    return None


def _text(value: object, encoding: str = "utf-8") -> str:
    if isinstance(value, tuple):
        value = bytes(part for part in value if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, bytes):
        value = value.decode(encoding, "replace")
    if not isinstance(value, str):
        return ""
    return to_single_line(value.partition("\0")[0])


def _degrees(dms: object, hemisphere: object) -> float | None:
    """Return the coordinate that EXIF stores as degrees, minutes and seconds."""
    # A damaged value makes float() raise many kinds of errors.
    with suppress(Exception):
        degrees, minutes, seconds = (float(component) for component in dms)  # type: ignore[attr-defined]
        value = degrees + minutes / 60 + seconds / 3600
        letter = _text(hemisphere).upper()[:1]
        if math.isfinite(value) and letter in "NSEW":
            return -value if letter in ("S", "W") else value
    return None


def _user_comment(image: Image.Image) -> str:
    """Return the EXIF user comment, whose first 8 bytes name its encoding."""
    value = _tag(image, ExifTags.Base.UserComment, ExifTags.IFD.Exif)
    if not isinstance(value, bytes):
        return _text(value)
    name, content = value[:8].rstrip(b"\0 "), value[8:]
    if name == b"UNICODE":
        is_little_endian = content[1::2].count(0) >= content[::2].count(0)
        return _text(content, "utf-16-le" if is_little_endian else "utf-16-be")
    return _text(content) if name == b"ASCII" else ""


def _xmp(image: Image.Image) -> XmpMetadata:
    """Return the XMP metadata in the file; a damaged packet is ignored."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or _tag(image, _XMP_TAG)
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    if isinstance(packet, bytes):
        with suppress(DecodeError):
            return parse_xmp(packet, TextSource.METADATA)
    return XmpMetadata()


def _iptc(image: Image.Image) -> tuple[list[tuple[str, str]], list[str]]:
    """Return IPTC texts with their kind, and keywords; a damaged block is ignored."""
    # The reader raises many kinds of errors on a damaged block.
    with suppress(Exception):
        block = IptcImagePlugin.getiptcinfo(cast("ImageFile.ImageFile", image)) or {}
        encoding = "utf-8" if block.get((1, 90)) == b"\x1b%G" else None

        def texts(number: int) -> list[str]:
            value = block.get((2, number), [])
            parts = value if isinstance(value, list) else [value]
            return [_text(part, encoding) if encoding else _decode_guessed(part) for part in parts]

        notes = [
            (kind, text) for number, kind in _IPTC_TEXT_KINDS.items() for text in texts(number)
        ]
        return notes, texts(_IPTC_KEYWORDS)
    return [], []


def _decode_guessed(value: bytes) -> str:
    """Decode a text of unknown encoding."""
    return _text(decode(value))
