"""Read dates as cameras, scanners and programs write them, and choose the date of a picture.

A date is the local time where the picture was taken; its time zone is dropped. An impossible date
is no date, and unknown parts are not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

FIRST_YEAR: Final = 1826
"""Year of the oldest photograph; earlier dates are errors."""

_MAX_CHARS: Final = 64
_DAY: Final = timedelta(days=1)

# A separator may be padded with spaces, and programs write single digits with or without a zero.
_SEPARATOR: Final = r"\s*[-:/.\s]\s*"
_TIME: Final = r"""
    (?P<hour>\d{1,2})(?:\s*[:.h\s-]\s*|(?<=\d\d)(?=\d\d))(?P<minute>\d{1,2})
    (?:(?:\s*[:.\s-]\s*|(?<=\d\d)(?=\d\d))(?P<second>\d{1,2})(?!\d))?
    (?:[.,]\d+)?(?:\s*(?P<half>[AP])\.?M\b)?
"""
_ISO: Final = re.compile(
    rf"""
    (?P<year>\d{{4}})(?![a-z])
    (?:{_SEPARATOR}(?P<month>\d{{1,2}})(?!\d)
      (?:{_SEPARATOR}(?P<day>\d{{1,2}})(?!\d)
        (?:[\sT:,_]*{_TIME})?
      )?
    )?(?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_COMPACT: Final = re.compile(
    r"""
    (?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)
    (?:[\sT_-]*(?P<hour>\d\d):?(?P<minute>\d\d)(?::?(?P<second>\d\d))?)?(?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# 17.05.2019 is day first everywhere; 17/05/2019 is only if it cannot be month first.
_DAY_FIRST: Final = re.compile(
    rf"(?P<day>\d{{1,2}})([./-])(?P<month>\d{{1,2}})\2(?P<year>\d{{4}})(?:[\s,T]+{_TIME})?(?!\d)",
    re.VERBOSE | re.IGNORECASE,
)
_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905 - easier to read than a list
_MONTH: Final = rf"(?P<name>{'|'.join(_MONTHS)})[a-z]*\.?"
# RFC 1123, asctime, and dates in words.
_NAMED: Final = tuple(
    re.compile(rf"(?:[a-z]{{3,9}}\.?,?\s+)?{pattern}", re.VERBOSE | re.IGNORECASE)
    for pattern in (
        rf"(?P<day>\d{{1,2}})[\s-]+{_MONTH},?[\s-]+(?P<year>\d{{4}})(?!\d)"
        rf"(?:,?\s+{_TIME}(?:\s*(?P<utc>GMT|UTC?|Z)\b)?)?",
        rf"(?P<year>\d{{4}})[\s-]+{_MONTH}[\s-]+(?P<day>\d{{1,2}})(?!\d)(?:,?\s+{_TIME})?",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_TIME}(?:\s+[a-z]{{1,5}})?\s+(?P<year>\d{{4}})(?!\d)",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}}),?\s+(?P<year>\d{{4}})(?!\d)(?:,?\s+{_TIME})?",
    )
)


class Precision(IntEnum):
    """Smallest known part of a date."""

    YEAR = 1
    MONTH = 2
    DAY = 3
    SECOND = 4


@dataclass(frozen=True)
class Moment:
    """A date as written: its first possible moment, in local time, and its precision."""

    start: datetime
    precision: Precision = Precision.SECOND

    def agrees_with(self, other: Moment) -> bool:
        """Return True if both may mean the same moment, apart from time zones."""
        coarser = min(self.precision, other.precision)
        if coarser <= Precision.MONTH:
            parts = slice(0, int(coarser))
            return self.start.timetuple()[parts] == other.start.timetuple()[parts]
        if coarser == Precision.DAY:
            return abs(self.start.date() - other.start.date()) <= _DAY
        return abs(self.start - other.start) <= _DAY


class Role(IntEnum):
    """Meaning of a date, in the order of preference."""

    ORIGINAL = 0
    DIGITIZED = 1
    PNG_TEXT = 2
    GPS = 3
    MODIFIED = 4


@dataclass(frozen=True)
class DateFact:
    """A date that a picture states.

    Attributes:
        role: Meaning of the date.
        source: Value for `mmsearch.core.types.Metadata.taken_from`.
        moment: The date.
    """

    role: Role
    source: str
    moment: Moment


def parse_date(text: str) -> Moment | None:
    """Return the date at the start of a text, or None if it is not a possible date.

    Reads ISO 8601, EXIF, IPTC, RFC 1123 and asctime dates, complete or cut off after any part.
    Parts that are zero or blank are unknown. A time that is impossible is ignored.
    """
    text = text.strip()[:_MAX_CHARS]
    for pattern in _NAMED:
        if match := pattern.match(text):
            parts = match.groupdict()
            parts["month"] = str(_MONTHS.index(parts["name"].lower()) + 1)
            moment = _moment(parts)
            return utc_to_local(moment) if moment and parts.get("utc") else moment
    for pattern in (_COMPACT, _ISO):
        if match := pattern.match(text):
            return _moment(match.groupdict())
    if match := _DAY_FIRST.match(text):
        parts = match.groupdict()
        first, second = int(parts["day"]), int(parts["month"])
        if match[2] != "." and first <= 12:
            if second <= 12 and first != second:
                return None
            parts["day"], parts["month"] = parts["month"], parts["day"]
        return _moment(parts)
    return None


def utc_to_local(moment: Moment) -> Moment:
    """Convert the time of a UTC clock to the local time of this machine."""
    if moment.precision < Precision.SECOND:
        return moment
    # The first and last years of the calendar have no local time.
    with suppress(OverflowError, OSError, ValueError):
        return Moment(moment.start.replace(tzinfo=UTC).astimezone().replace(tzinfo=None))
    return moment


def from_unix_time(seconds: float) -> Moment | None:
    """Return the local time of this many seconds since 1970 in UTC; None if it is impossible."""
    try:
        moment = utc_to_local(Moment(datetime(1970, 1, 1) + timedelta(seconds=seconds)))  # noqa: DTZ001
    except (OverflowError, ValueError):
        return None
    is_possible = moment.start.year >= FIRST_YEAR and moment.start <= datetime.now() + _DAY  # noqa: DTZ005
    return Moment(moment.start.replace(microsecond=0)) if is_possible else None


def choose_date(facts: Iterable[DateFact]) -> tuple[str | None, str | None]:
    """Return the date when a picture was taken, as ISO 8601, and its source; or two None.

    Original dates come first, then those of the digitization, and so on. Of several dates with the
    same meaning the earliest is right, because a scanner or an editor may write its own date as the
    original one, but nobody can photograph later than that. Dates of the same day are one date in
    several precisions or time zones; the most precise one is used.
    """
    facts = list(facts)
    originals = [fact for fact in facts if fact.role == Role.ORIGINAL]
    if originals and not any(fact.source == "xmp" for fact in originals):
        # Nothing is digitized before it is taken: an XMP creation date that is not a copy of the
        # EXIF one was set by a person.
        digitized = [fact for fact in facts if fact.role == Role.DIGITIZED]
        copied = [fact.moment for fact in digitized if fact.source == "exif"]
        originals += [
            fact
            for fact in digitized
            if fact.source == "xmp" and not any(fact.moment.agrees_with(other) for other in copied)
        ]
    for role in Role:
        group = originals if role == Role.ORIGINAL else [f for f in facts if f.role == role]
        group = [fact for fact in group if not _is_unset_clock(fact)] or group
        if group:
            earliest = min((fact.moment for fact in group), key=lambda moment: moment.start)
            same = [fact for fact in group if fact.moment.agrees_with(earliest)]
            best = max(same, key=lambda fact: fact.moment.precision)
            return best.moment.start.isoformat(), best.source
    return None, None


def _moment(parts: dict[str, str | None]) -> Moment | None:
    year, month, day = (int(parts[name] or 0) for name in ("year", "month", "day"))
    if day and not month:
        return None
    try:
        date = datetime(year, month or 1, day or 1)  # noqa: DTZ001 - local time by definition
    except ValueError:
        return None
    if year < FIRST_YEAR or date > datetime.now() + _DAY:  # noqa: DTZ005
        return None
    if not day:
        return Moment(date, Precision.MONTH if month else Precision.YEAR)
    time = _time_of_day(parts)
    return Moment(date, Precision.DAY) if time is None else Moment(date + time)


def _time_of_day(parts: dict[str, str | None]) -> timedelta | None:
    """Return the time since midnight, or None if it is missing or impossible."""
    if parts.get("minute") is None:
        return None
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    if parts.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if (parts["half"] or "").upper() == "P" else 0)
    # 60 is a leap second; 24:00:00 is the end of the day; some phones number the hours 1 to 24.
    if hour == 24 and (minute or second):
        hour = 0
    if hour > 24 or minute > 59 or second > 60:
        return None
    return timedelta(hours=hour, minutes=minute, seconds=second)


def _is_unset_clock(fact: DateFact) -> bool:
    """Return True for the dates that cameras write before their clock is set."""
    start = fact.moment.start
    return fact.source == "exif" and (
        ((start.month, start.day) == (1, 1) and start.year in (1970, 1980, 2000))
        or start == datetime(2002, 12, 8, 12)  # noqa: DTZ001
    )
