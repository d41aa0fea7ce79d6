"""Words and dates in the path of a picture."""

from __future__ import annotations

import os
import re
from typing import Final

from mmsearch.core.globs import normalize_path
from mmsearch.core.records import NO_METADATA
from mmsearch.core.texts import make_texts
from mmsearch.core.types import Metadata, Text, TextSource
from mmsearch.modalities._texts.dates import (
    Moment,
    Precision,
    from_unix_time,
    parse_date,
    utc_to_local,
)

# Names that cameras, phones and programs generate.
_GENERATED_NAME: Final = re.compile(
    r"""(?ix)
      (?:img|imag|image|dsc|dscn|dscf|dsci|dsc_|pict?|pic|p|photo|mvi|mov|vid|gopr|gp|dji|sam|
         cimg|kimg|hpim|sdc|sl|imgp|img_e|pxl|mvimg|burst|fb_img|wp|screenshot|screen\ shot|
         bildschirmfoto|capture|scan|signal|whatsapp\ image|received|untitled|unnamed)
      # The alternatives are mutually exclusive, which avoids catastrophic backtracking.
      [\s_.-]*\d(?:[\s_.,()\d:~hmsp-]|at|am|wa|portrait|burst|cover|edit)*
    | [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}
    | (?=[a-f]*\d)[0-9a-f]{8,}
    | \d{3}_?[a-z]{4,5}_?      # 100CANON, 101MSDCF, 100_PANA
    | (?!(?:19|20)\d\d$)[\W\d_]*
    """
)
_GENERIC_FOLDERS: Final = frozenset(
    """
    photos photo pictures picture pics images image img imgs bilder fotos foto dcim camera export
    exports new untitled desktop downloads download documents home users mnt media data tmp misc
    other stuff originals raw jpg jpeg png files library albums album gallery
    """.split()  # noqa: SIM905 - easier to read than a list
) | {
    *("new folder", "untitled folder", "camera roll", "my pictures", "neuer ordner"),
    *("takeout", "google photos", "google fotos", "google foto", "icloud photos"),
}

_CAMEL_CASE_BOUNDARY: Final = re.compile(
    r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])"
)
_YEAR: Final = re.compile("19\\d\\d|20\\d\\d")


def is_generated_name(name: str) -> bool:
    """Return True for a name without suffix that a camera, a phone or a program has made up."""
    return _GENERATED_NAME.fullmatch(name.strip()) is not None


def make_filename_texts(path: bytes) -> tuple[Text, ...]:
    """Return one text with the words of a path, or none if all names are generated or generic.

    Args:
        path: Path relative to its root, as bytes of the file system.
    """
    *folders, name = os.fsdecode(path).split("/")
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - a name, not a file
    words: list[str] = []
    for part in (*folders, stem):
        normalized = normalize_path(part.encode("utf-8", "ignore").decode())
        generic = part is not stem and normalized.strip().lower() in _GENERIC_FOLDERS
        if not generic and not is_generated_name(normalized):
            words += _split_words(normalized)
    return make_texts("filename", " ".join(dict.fromkeys(words)), TextSource.FILENAME)


def _split_words(name: str) -> list[str]:
    """Split a name at separators, digits and capitals; the only numbers kept are years."""
    tokens = re.findall(r"[^\W\d_]+|\d+", _CAMEL_CASE_BOUNDARY.sub(" ", name))
    return [p for p in tokens if not p.isdigit() or _YEAR.fullmatch(p)]


# --- dates in names ---

_YEAR_FIRST: Final = re.compile(
    r"""
    (?<!\d)(?<!\d[-._]\d[-._])(?<!\d\d[-._]\d\d[-._])
    (?:(?<!\d[\s.-])|(?=\d{4}\D))  # a group of digits after others is part of a telephone number
    (?P<year>(?:18|19|20)\d\d)(?P<mark>[-_.:]?)(?P<month>\d\d)(?P=mark)(?P<day>\d\d)
    (?:
      (?:[ _T-]|,\ |\ (?:at|um|à|às|a\ la\(s\)|a\ las|alle|kl\.?|om|klo)\ |(?<=\d{8}))
      (?P<hour>\d\d?)(?P<dot>[-_.:]?)(?P<minute>\d\d)(?P=dot)(?P<second>\d\d)(?:\d{3})?
      (?:\s?(?P<half>[ap])\.?m\b)?
    )?
    (?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Dates with dots are day first everywhere; Telegram writes photo_1@17-05-2019_10-30-00.
_DAY_FIRST: Final = re.compile(
    r"""
    (?<![\d.])(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>(?:18|19|20)\d\d)(?!\.?\d)
    | (?<=@)(?P<day2>\d\d)-(?P<month2>\d\d)-(?P<year2>20\d\d)
      _(?P<hour>\d\d)-(?P<minute>\d\d)-(?P<second>\d\d)(?!\d)
    """,
    re.VERBOSE,
)
# Milliseconds since 1970, after the name of a program.
_UNIX_TIME_MS: Final = re.compile(r"(?!snapchat)\D*(1\d{12})(?:\s?\(\d+\)|[-_~]\d)?", re.IGNORECASE)
_UTC_NAME: Final = re.compile(r"PXL_.*|.*_(?:UTC|iOS)", re.IGNORECASE)
# The date of a scan is not that of the picture.
_SCAN: Final = re.compile(r"(?<![a-z])(?:ep)?scan(?:s|ned|ner)?(?![a-z])", re.IGNORECASE)
# The digits of a hash are no date.
_HASH: Final = re.compile(
    r"""
    (?<![^\W_])
    (?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} | (?=\d*[a-f])[0-9a-f]{8,})
    (?![^\W_])
    """,
    re.VERBOSE | re.IGNORECASE,
)
# Clocks that are not set begin on these days.
_UNSET_DAYS: Final = ("1970-01-01T", "1980-01-01T")


def parse_filename_date(path: bytes) -> Metadata:
    """Return the date in the file name of a picture, as cameras, phones and people write it.

    A name with several days, or with an impossible one, has no date.

    Args:
        path: Path relative to its root, as bytes of the file system.
    """
    stem = os.path.splitext(normalize_path(path).rpartition("/")[2])[0]  # noqa: PTH122 - a name
    if _SCAN.search(stem):
        return NO_METADATA
    stem = _HASH.sub(" ", stem)
    moments = [
        _to_moment(match)
        for pattern in (_YEAR_FIRST, _DAY_FIRST)
        for match in pattern.finditer(stem)
    ]
    if match := _UNIX_TIME_MS.fullmatch(stem):
        moments.append(from_unix_time(int(match[1]) / 1000))
    known = [moment for moment in moments if moment is not None]
    if len(known) < len(moments) or len({moment.start.date() for moment in known}) != 1:
        return NO_METADATA
    best = max(known, key=lambda moment: moment.precision)
    if _UTC_NAME.fullmatch(stem):
        best = utc_to_local(best)
    taken_at = best.start.isoformat()
    if best.precision == Precision.SECOND and taken_at.startswith(_UNSET_DAYS):
        return NO_METADATA
    return Metadata(taken_at=taken_at, taken_from="filename")


def _to_moment(match: re.Match[str]) -> Moment | None:
    """Return the date of a match; None if it is impossible."""
    parts = {name.rstrip("2"): value for name, value in match.groupdict().items() if value}
    text = "-".join(parts[name] for name in ("year", "month", "day"))
    if "second" in parts:
        time = ":".join(parts[name] for name in ("hour", "minute", "second"))
        text += f"T{time} {parts['half']}M" if "half" in parts else f"T{time}"
    moment = parse_date(text)
    # Fourteen digits with an impossible time are another number.
    smallest = Precision.SECOND if match[0].isdecimal() and "second" in parts else Precision.DAY
    return moment if moment is not None and moment.precision >= smallest else None
