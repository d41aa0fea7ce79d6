"""Read EXIF, the metadata that cameras write."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from PIL import ExifTags, Image

from mmsearch.core.texts import to_single_line
from mmsearch.core.types import Text
from mmsearch.modalities._texts.dates import Moment, Precision, Role, parse_date, utc_to_local
from mmsearch.modalities._texts.facts import (
    Facts,
    clean_lens,
    combine_degrees,
    describe_lens,
    join_camera,
    parse_coordinate,
    percent_to_rating,
    to_position,
    to_rating,
)

_XP_TITLE: Final = 0x9C9B
_XP_COMMENT: Final = 0x9C9C
_XP_KEYWORDS: Final = 0x9C9E
_XP_SUBJECT: Final = 0x9C9F
_RATING: Final = 0x4746
_RATING_PERCENT: Final = 0x4749

# Pillow decodes text tags as Latin-1; a text with bytes above 127 is mostly UTF-8.
_COMMENT_ENCODINGS: Final = {b"JIS": "iso2022_jp", b"ASCII": None, b"": None}


def read_exif(exif: Image.Exif) -> Facts:
    """Return the statements of an EXIF block; damaged values are left out."""
    exif_directory = _directory(exif, ExifTags.IFD.Exif)
    gps_directory = _directory(exif, ExifTags.IFD.GPSInfo)
    if not (len(exif) or exif_directory or gps_directory):
        return Facts()
    gps = gps_directory.get

    def tag(number: int) -> Any:
        # Damaged values raise many kinds of errors.
        with suppress(Exception):
            return exif.get(number)
        return None

    def exif_tag(number: int) -> Any:
        # Some programs write tags of the Exif directory into the main one.
        value = exif_directory.get(number)
        return tag(number) if value is None else value

    def text(number: int, encoding: str | None = None) -> str:
        return decode_text(exif_tag(number), encoding)

    facts = Facts(
        camera=join_camera(text(ExifTags.Base.Make), text(ExifTags.Base.Model)),
        lens=clean_lens(text(ExifTags.Base.LensModel)),
        lens_range=describe_lens(
            [_to_float(part) for part in _iterate(exif_tag(ExifTags.Base.LensSpecification))]
        ),
        position=to_position(
            _degrees(gps(ExifTags.GPS.GPSLatitude), gps(ExifTags.GPS.GPSLatitudeRef), "NS"),
            _degrees(gps(ExifTags.GPS.GPSLongitude), gps(ExifTags.GPS.GPSLongitudeRef), "EW"),
        ),
        rating=to_rating(_to_float(tag(_RATING))),
        keywords=text(_XP_KEYWORDS, "utf-16-le").split(";"),
    )
    if facts.rating is None:
        facts.rating = percent_to_rating(_to_float(tag(_RATING_PERCENT)))
    for number, role in (
        (ExifTags.Base.DateTimeOriginal, Role.ORIGINAL),
        (ExifTags.Base.DateTimeDigitized, Role.DIGITIZED),
        (ExifTags.Base.DateTime, Role.MODIFIED),
    ):
        moment = parse_date(text(number)) or parse_date(decode_text(tag(number)))
        facts.add_date(role, "exif", moment)
    facts.add_date(
        Role.GPS, "exif", _gps_time(gps(ExifTags.GPS.GPSDateStamp), gps(ExifTags.GPS.GPSTimeStamp))
    )
    candidates = (
        ("description", text(ExifTags.Base.ImageDescription)),
        ("title", text(_XP_TITLE, "utf-16-le")),
        ("title", text(_XP_SUBJECT, "utf-16-le")),
        ("description", text(_XP_COMMENT, "utf-16-le")),
        ("description", _user_comment(exif_tag(ExifTags.Base.UserComment))),
    )
    facts.texts = [Text(kind, value) for kind, value in candidates if value]
    return facts


def _directory(exif: Image.Exif, number: int) -> dict[int, Any]:
    with suppress(Exception):
        return exif.get_ifd(number)
    return {}


def decode_text(value: object, encoding: str | None = None) -> str:
    """Return a text of metadata on one line, up to its first NUL; "" for other values.

    Args:
        value: Bytes, a tuple of bytes, or a text that Pillow decoded as Latin-1.
        encoding: Encoding of bytes; None or a wrong one: UTF-16 or UTF-8 if it looks like it, else
            Windows-1252.
    """
    if isinstance(value, tuple):
        parts = [part for part in value if isinstance(part, (int, str))]
        if parts and isinstance(parts[0], str):
            value = parts[0]
        else:
            value = bytes(part for part in parts if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, str):
        text, encoding = value, None
        try:
            value = text.encode("latin-1")
        except UnicodeEncodeError:
            return to_single_line(text.partition("\0")[0])
    if not isinstance(value, bytes):
        return ""
    return to_single_line(_decode(value, encoding).partition("\0")[0])


def _decode(value: bytes, encoding: str | None) -> str:
    # Texts of at least two ASCII characters in UTF-16.
    zeros = [byte == 0 for byte in value[:4]]
    if value.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif zeros == [False, True, False, True]:
        encoding = "utf-16-le"
    elif zeros == [True, False, True, False]:
        encoding = "utf-16-be"
    if encoding is not None and encoding.startswith("utf-16"):
        # The last zero may be cut off.
        padded = value + b"\0" * (len(value) % 2)
        return padded.decode(encoding, "replace").removeprefix("\ufeff")
    value = value.partition(b"\0")[0].removeprefix(b"\xef\xbb\xbf")
    for candidate in (encoding, "utf-8", "cp1252"):
        if candidate:
            with suppress(UnicodeDecodeError):
                return value.decode(candidate)
    return value.decode("latin-1")


def _user_comment(value: object) -> str:
    """Return the EXIF user comment, whose first 8 bytes name its encoding."""
    if not isinstance(value, bytes):
        return decode_text(value)
    name, content = value[:8].rstrip(b"\0 ").upper(), value[8:]
    if name == b"UNICODE":
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            return decode_text(content)
        is_little_endian = content[1::2].count(0) >= content[::2].count(0)
        return decode_text(content, "utf-16-le" if is_little_endian else "utf-16-be")
    if name in _COMMENT_ENCODINGS:
        return decode_text(content, _COMMENT_ENCODINGS[name])
    return decode_text(value)


def _iterate(value: object) -> Iterable[object]:
    return value if isinstance(value, (tuple, list)) else () if value is None else (value,)


def _to_float(value: Any) -> float | None:
    """Return a number, or None for other values and for fractions with the denominator 0."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    with suppress(TypeError, ValueError, OverflowError, ZeroDivisionError):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _degrees(value: object, reference: object, axis: str) -> float | None:
    """Return a coordinate of degrees, minutes and seconds, or of degrees alone."""
    hemisphere = decode_text(reference).upper()[:1]
    if isinstance(value, (str, bytes)):
        return parse_coordinate(decode_text(value), hemisphere, axis)
    parts = [_to_float(part) for part in _iterate(value)]
    # Minutes and seconds of 0/0 are unknown, because the parts before them are decimal.
    while len(parts) > 1 and parts[-1] is None:
        parts.pop()
    return combine_degrees(parts, hemisphere, axis)


def _gps_time(date: object, time: object) -> Moment | None:
    """Return the time of the GPS receiver in local time; it is stored in UTC."""
    moment = parse_date(decode_text(date))
    if moment is None or moment.precision < Precision.DAY:
        return None
    if isinstance(time, str):
        moment = parse_date(f"{decode_text(date)} {decode_text(time)}") or moment
        return utc_to_local(moment)
    parts = [_to_float(part) for part in _iterate(time)]
    if len(parts) != 3 or any(part is None for part in parts):
        return moment
    hours, minutes, seconds = (part or 0.0 for part in parts)
    if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds <= 60):
        return moment
    since_midnight = timedelta(seconds=int(hours * 3600 + minutes * 60 + seconds))
    return utc_to_local(Moment(moment.start + since_midnight))
