"""Collect what a picture states about itself in several places, and merge it into one `Metadata`.

EXIF, XMP and IPTC often hold the same facts. Each reader returns its own `Facts`; `merge` takes
single values from the first that has one, and joins texts and keywords without duplicates.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from mmsearch.core.texts import make_keyword_texts, make_value_texts
from mmsearch.core.types import Metadata, Text, TextSource
from mmsearch.modalities._texts.dates import DateFact, Moment, Role, choose_date, parse_date

MIN_RATING: Final = -1
MAX_RATING: Final = 5

# Texts that cameras, scanners and programs write into fields for people.
_BOILERPLATE: Final = re.compile(
    r"""
      (?:olympus|(?:konica\ )?minolta|samsung|kodak|vivitar)\ (?:digital|still|\ )*\ ?camera
        (?:\ pictures)?
    | sony\ dsc | samsung\ camera\ pictures | dcim | dig | jpeg | default | untitled | applemark
    | exif[_\ ]jpeg(?:_picture)? | hdr | my\ picture | ole\ picture | charset="?[a-z]+"?
    | (?:created|made|generated|processed|edited|compressed|optimized|written|file\ written)
        \ (?:with|by|in|using)\ (?:the\ )?
        (?:adobe|acdsee|canva|corel|ebay|ezgif|ffmpeg|gd|gimp|imagemagick|inkscape|irfanview|jpeg
        |libjpeg|mozjpeg|paint|photoshop|picasa|snapseed|ulead|xnview)\b.*
    | (?:acd\ systems|adobe\ photoshop|creator:\ gd-|file\ source:|imagemagick|intel\(r\)\ jpeg
        |jpegmini|lavc\d|lead\ technologies|x264\ -).*
    """,
    re.VERBOSE,
)
_NO_LENS: Final = re.compile(
    r"[\W_0]*|(?:unknown|none|n/?a|no lens|manual lens)\b.*|(?:0(?:\.0+)? ?mm)? ?f/?0(?:\.0+)?",
    re.IGNORECASE,
)

# ``48,51.5N``, ``48,51,30N``, ``48.8583``, ``N 48 51' 30"``, ``48/1 51/1 30/1``.
_NUMBER: Final = r"\d+(?:\.\d*)?(?:\s*/\s*\d+(?:\.\d*)?)?"
_SEPARATOR: Final = r"(?:deg|[\s,;:°º'\"\u2032\u2033])"
_COORDINATE: Final = re.compile(
    rf"([NSEW])?\s*([+-]?)({_NUMBER}(?:{_SEPARATOR}+{_NUMBER}){{0,2}}){_SEPARATOR}*([NSEW])?",
    re.IGNORECASE,
)

_T = TypeVar("_T")


@dataclass
class Facts:
    """The statements of one source, such as an XMP packet.

    Attributes:
        dates: Dates with their meaning.
        camera: Maker and model.
        lens: Name of the lens.
        lens_range: Focal lengths and apertures of the lens, for pictures without its name.
        position: Latitude and longitude in degrees.
        rating: -1 (rejected) to 5.
        label: Colour label.
        texts: Titles and descriptions.
        keywords: Keywords; the levels of hierarchical ones are separated by ``|``.
        people: Names of the people that are shown.
        places: Names of places, the narrowest first.
    """

    dates: list[DateFact] = field(default_factory=list)
    camera: str | None = None
    lens: str | None = None
    lens_range: str | None = None
    position: tuple[float, float] | None = None
    rating: int | None = None
    label: str | None = None
    texts: list[Text] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add_date(self, role: Role, source: str, value: str | Moment | None) -> None:
        """Add a date, unless it is None or not a date."""
        moment = parse_date(value) if isinstance(value, str) else value
        if moment is not None:
            self.dates.append(DateFact(role, source, moment))


def merge(facts: Sequence[Facts], source: TextSource) -> Metadata:
    """Merge the statements about one picture.

    Args:
        facts: Statements in the order of preference.
        source: Source to record for the texts.
    """
    taken_at, taken_from = choose_date(date for part in facts for date in part.dates)
    latitude, longitude = _first(part.position for part in facts) or (None, None)
    return Metadata(
        taken_at=taken_at,
        taken_from=taken_from,
        camera=_first(part.camera for part in facts),
        lens=_first(part.lens for part in facts) or _first(part.lens_range for part in facts),
        latitude=latitude,
        longitude=longitude,
        rating=_first(part.rating for part in facts),
        label=_first(part.label for part in facts),
        texts=(
            *_unique_texts(text for part in facts for text in part.texts),
            *make_keyword_texts((word for part in facts for word in part.keywords), source),
            *make_value_texts("people", (name for part in facts for name in part.people), source),
            *make_value_texts("place", (name for part in facts for name in part.places), source),
        ),
    )


def join_camera(maker: str, model: str) -> str | None:
    """Return a camera's maker and model, without repeating the maker."""
    first_word = maker.partition(" ")[0]
    if model and first_word and not model.lower().startswith(first_word.lower()):
        return f"{maker} {model}"
    return model or maker or None


def clean_lens(name: str) -> str | None:
    """Return the name of a lens, or None for the names that cameras write without a known lens."""
    return None if _NO_LENS.fullmatch(name) else name


def describe_lens(values: Sequence[float | None]) -> str | None:
    """Return a text such as ``24-70mm f/2.8``.

    Args:
        values: Shortest and longest focal length in millimetres, and the smallest f-number at each;
            None or 0 if unknown.
    """
    if len(values) != 4 or not values[0]:
        return None

    def span(low: float | None, high: float | None) -> str:
        return f"{low:g}" if not high or high == low else f"{low:g}-{high:g}"

    aperture = f" f/{span(values[2], values[3])}" if values[2] else ""
    return f"{span(values[0], values[1])}mm{aperture}"


def to_number(text: str) -> float | None:
    """Return the value of a decimal number or a fraction such as ``28/10``, or None."""
    numerator, slash, denominator = text.strip().partition("/")
    try:
        value = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def to_rating(value: float | None) -> int | None:
    """Return a rating of -1 (rejected) to 5 stars, rounded down, or None for other numbers."""
    if value is None or not MIN_RATING <= value <= MAX_RATING:
        return None
    return math.floor(value)


def percent_to_rating(percent: float | None) -> int | None:
    """Return the stars that Windows writes as 1, 25, 50, 75 and 99 percent; 0 is unrated."""
    if percent is None or not 0 <= percent <= 100:
        return None
    return 0 if percent < 1 else 1 + int((percent + 12) // 25)


def parse_coordinate(text: str, reference: str, axis: str) -> float | None:
    """Return the degrees of a coordinate as written in XMP or by a program.

    Args:
        text: Degrees, optionally minutes and seconds, and optionally the hemisphere.
        reference: The hemisphere if it is stored apart; "" if not.
        axis: The letters of the two hemispheres, the positive first: ``NS`` or ``EW``.

    Returns:
        Degrees, or None if the text is no coordinate of this axis. A number without a hemisphere is
        a coordinate only in decimal degrees, where the sign says it.
    """
    match = _COORDINATE.fullmatch(text.strip().strip("\0").strip())
    if not match:
        return None
    parts = [to_number(number) for number in re.findall(_NUMBER, match[3])]
    letter = (match[1] or match[4] or reference.strip()[:1]).upper()
    return combine_degrees(parts, letter, axis, is_negative=match[2] == "-")


def combine_degrees(
    parts: Sequence[float | None], letter: str, axis: str, *, is_negative: bool = False
) -> float | None:
    """Return degrees, minutes and seconds as signed degrees; see `parse_coordinate`."""
    if not 1 <= len(parts) <= 3 or any(part is None for part in parts):
        return None
    degrees, minutes, seconds = (*(part or 0.0 for part in parts), 0.0, 0.0)[:3]
    if degrees < 0:
        degrees, is_negative = -degrees, True
    if letter not in axis or not (0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    if not letter and len(parts) > 1 and not is_negative:
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if value > (90 if axis == "NS" else 180):
        return None
    return -value if letter == axis[1] or is_negative else value


def to_position(latitude: float | None, longitude: float | None) -> tuple[float, float] | None:
    """Return both coordinates, or None without one of them or for 0, 0, which is no place."""
    if latitude is None or longitude is None or not (latitude or longitude):
        return None
    return latitude, longitude


def _unique_texts(texts: Iterable[Text]) -> Iterator[Text]:
    unique: dict[str, Text] = {}
    for text in texts:
        key = text.text.casefold()
        if not any(char.isalpha() for char in key) or _BOILERPLATE.fullmatch(key):
            continue
        existing = unique.setdefault(key, text)
        # XMP states the language of a text that other fields repeat without it.
        if existing.language is None and text.language is not None:
            unique[key] = replace(existing, language=text.language)
    return iter(unique.values())


def _first(values: Iterable[_T | None]) -> _T | None:
    return next((value for value in values if value is not None), None)
