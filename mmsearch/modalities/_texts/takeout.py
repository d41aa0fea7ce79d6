"""Read the JSON files that Google Takeout writes beside the pictures of Google Photos."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from mmsearch.core.texts import make_texts, make_value_texts
from mmsearch.core.types import Metadata, TextSource
from mmsearch.modalities._texts.dates import from_unix_time
from mmsearch.modalities._texts.facts import to_position
from mmsearch.modalities._texts.filenames import is_generated_name

_FIELDS: Final = frozenset({"phototakentime", "geodataexif", "googlephotosorigin"})
# The title is almost always the name of the uploaded file.
_FILE_NAME: Final = re.compile(r".*\.[A-Za-z]\w{1,4}", re.DOTALL)


def is_takeout(fields: Mapping[str, Any]) -> bool:
    """Return True if these are the fields of a picture in Google Takeout, in lower case."""
    return not _FIELDS.isdisjoint(fields)


def parse_takeout(fields: Mapping[str, Any]) -> Metadata:
    """Return the date, the place and the texts of a picture; invalid values are ignored.

    Args:
        fields: The fields of the JSON object, with names in lower case.
    """
    seconds = _number(_member(fields.get("phototakentime"), "timestamp"))
    # Pictures without a date have 0.
    moment = from_unix_time(seconds) if seconds else None
    latitude, longitude = (
        _position(fields.get("geodata")) or _position(fields.get("geodataexif")) or (None, None)
    )
    people = fields.get("people")
    names = [_member(person, "name") for person in people] if isinstance(people, list) else []
    title = _text(fields.get("title"))
    if _FILE_NAME.fullmatch(title) or is_generated_name(title):
        title = ""
    return Metadata(
        taken_at=moment.start.isoformat() if moment else None,
        taken_from="takeout" if moment else None,
        latitude=latitude,
        longitude=longitude,
        texts=(
            *make_texts("title", title, TextSource.SIDECAR),
            *make_texts("description", _text(fields.get("description")), TextSource.SIDECAR),
            *make_value_texts("people", map(_text, names), TextSource.SIDECAR),
        ),
    )


def _position(value: Any) -> tuple[float, float] | None:
    latitude, longitude = (_number(_member(value, name)) for name in ("latitude", "longitude"))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    return to_position(latitude, longitude)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Return a finite number, which may be written as a text; None for other values."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
