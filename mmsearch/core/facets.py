"""Facets: how many pictures have each year, place, camera and so on, and filters that narrow to it.

Pure: a catalog counts, and this module knows the fields and the filter of each value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.globs import MAX_PATTERN_CHARS, escape_glob, fold_path
from mmsearch.core.query import Band
from mmsearch.core.results import JsonObject
from mmsearch.core.understood import Understood

if TYPE_CHECKING:
    from mmsearch.core.filters import Filters

FACET_FIELDS: Final = {
    "year": "Year",
    "month": "Month",
    "place": "Place",
    "person": "Person",
    "camera": "Camera",
    "folder": "Folder",
    "format": "Format",
    "kind": "Kind",
    "tag": "Keyword",
    "rating": "Rating",
}
"""The fields that pictures are counted by, in the order of answers, and their labels."""

DEFAULT_FACET_VALUES: Final = 20
"""Default number of values of a field."""

MAX_FACET_VALUES: Final = 1000
"""Maximum number of values of a field."""

_LAST_YEAR = 9999
_FILTER_NAMES = {"camera": "cameras", "person": "people", "place": "places", "tag": "tags"}
"""Attribute of `Filters` by the field, which is also the name of its option."""


@dataclass(frozen=True)
class FacetValue(JsonObject):
    """One value of a field, and how many pictures have it.

    Attributes:
        value: The value: ``2019``, ``2019-07``, a name, a folder relative to its source, a format,
            a kind of content, a keyword, or a number of stars.
        label: The value as people read it, such as ``3 stars``.
        count: Number of pictures with this value.
        filter: Filters that narrow to exactly these pictures, by the names of the options. They
            replace filters of the same name; others stay. None if no filter says it: a folder, if
            other path patterns were given or if its name is not UTF-8.
    """

    value: str
    label: str
    count: int
    filter: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the value as a JSON object."""
        return vars(self) | {"filter": None if self.filter is None else dict(self.filter)}


@dataclass(frozen=True)
class Facet(JsonObject):
    """The values of one field, and how many pictures have each.

    Attributes:
        field: Name of the field.
        values: The values: years and months newest first, ratings highest first, others by the
            number of their pictures.
        missing: Number of pictures without a value.
        other: Number of pictures of which no value is listed, because there are too many values.
        distinct: Number of different values, listed or not.
    """

    field: str
    values: Sequence[FacetValue]
    missing: int
    other: int
    distinct: int

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        parsed = super()._parse(values)
        return parsed | {"values": tuple(map(FacetValue.from_dict, values["values"]))}

    def to_dict(self) -> dict[str, Any]:
        """Return the facet as a JSON object."""
        return vars(self) | {"values": [value.to_dict() for value in self.values]}


@dataclass(frozen=True)
class Facets(JsonObject):
    """Numbers of pictures by the values of several fields.

    Attributes:
        query: The query as one line of text; empty if all pictures that pass the filters count.
        counted: Number of pictures that are counted: all that pass the filters or, with a
            description, the best hits without weak matches, at most `FACET_HITS`.
        of: Number of pictures that pass the filters, each of a stack of duplicates among them.
        fold: True if the pictures of a group of duplicates count once, as a search lists them.
        generation: Generation of the index.
        facets: A facet for each field, in the order of the request.
        match: Band of the best hit, as `SearchResult.match`: if it is unlikely, there are only weak
            matches, which then count. None without a description.
        understood: Filters that were read in the words of the query; None without any.
    """

    query: str
    counted: int
    of: int
    fold: bool
    generation: int
    facets: Sequence[Facet]
    match: Band | None = None
    understood: Understood | None = None

    def __getitem__(self, field: str) -> Facet:
        """Return the facet of a field.

        Raises:
            KeyError: The field was not counted.
        """
        for facet in self.facets:
            if facet.field == field:
                return facet
        raise KeyError(field)

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        parsed = super()._parse(values)
        match, understood = values.get("match"), values.get("understood")
        return parsed | {
            "match": None if match is None else Band(match),
            "facets": tuple(map(Facet.from_dict, values["facets"])),
            "understood": None if understood is None else Understood.from_dict(understood),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the facets as a JSON object."""
        return vars(self) | {
            "facets": [facet.to_dict() for facet in self.facets],
            "understood": None if self.understood is None else self.understood.to_dict(),
        }


FACET_HITS: Final = 1000
"""Maximum number of hits of a description that are counted."""


def check_facet_fields(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the fields to count by, each once; None stands for all.

    Raises:
        InvalidQueryError: There is no field with one of the names, or there is no name.
    """
    if names is None:
        return tuple(FACET_FIELDS)
    for name in names:
        if name not in FACET_FIELDS:
            raise InvalidQueryError(
                f"Pictures are not counted by {name[:60]!r}.", f"Known: {', '.join(FACET_FIELDS)}."
            )
    if not names:
        raise InvalidQueryError("No field is given.", f"Known: {', '.join(FACET_FIELDS)}.")
    return tuple(dict.fromkeys(names))


def check_facet_limit(limit: int) -> None:
    """Raise an error unless a maximum number of values is valid.

    Raises:
        InvalidQueryError: It is not from 1 to `MAX_FACET_VALUES`.
    """
    if not 1 <= limit <= MAX_FACET_VALUES:
        raise InvalidQueryError(
            f"A field cannot have {limit:,} values.", f"Use a limit of 1 to {MAX_FACET_VALUES:,}."
        )


def narrowing_filter(field: str, value: str, filters: Filters) -> dict[str, Any] | None:
    """Return the filters that narrow a search with filters to the pictures with a value.

    Args:
        field: One of `FACET_FIELDS`.
        value: Its value, as `FacetValue.value`.
        filters: The filters that the value was found with.

    Returns:
        Filters by the names of options, which replace those of the same names; None if no filter
        says it.
    """
    match field:
        case "year" | "month":
            return _narrow_date(value, filters)
        case "format":
            return {"format": [value]}
        case "camera":
            # One of several cameras must match: the only one left is the narrower filter.
            return {"camera": [f"={value}"]}
        case "place" | "person" | "tag":
            given = getattr(filters, _FILTER_NAMES[field])
            whole = value if field == "tag" else f"={value}"
            return {field: [*(name for name in given if name != whole), whole]}
        case "folder":
            return _narrow_folder(value, filters)
        case _:
            literal = value if field == "rating" else f'"{value}"'
            return _join_condition(f"{field} == {literal}", filters)


def _narrow_date(period: str, filters: Filters) -> dict[str, Any] | None:
    from mmsearch.core.filter_parser import parse_date  # noqa: PLC0415 - searches have no facets

    numbers = [int(part) for part in period.split("-") if part.isascii() and part.isdigit()]
    if not numbers or not 1 <= numbers[0] <= _LAST_YEAR:
        return None
    year, *months = numbers
    first = f"{year:04d}" + "".join(f"-{month:02d}" for month in months)
    end_year, end_month = (year + 1, 0) if not months or months[0] == 12 else (year, months[0] + 1)
    end = f"{end_year:04d}" + (f"-{end_month or 1:02d}" if months else "")
    try:
        after, start = filters.after, parse_date(first)
        bounds: dict[str, Any] = {"after": first if after is None or after <= start else after}
        if end_year <= _LAST_YEAR:
            before, stop = filters.before, parse_date(end)
            bounds["before"] = end if before is None or before >= stop else before
    except InvalidQueryError:
        return None
    return bounds


def _narrow_folder(folder: str, filters: Filters) -> dict[str, Any] | None:
    pattern = folder_pattern(folder)
    has_other_patterns = bool(filters.paths) and given_folder(filters) is None
    if has_other_patterns or len(pattern) > MAX_PATTERN_CHARS or not is_storable(folder):
        return None
    return {"path": [pattern]}


def folder_pattern(folder: str) -> str:
    """Return the path pattern of a folder relative to its source, with all that is below it."""
    return f"/{escape_glob(folder)}/"


def given_folder(filters: Filters) -> str | None:
    """Return the folder of filters whose only path pattern is that of a folder, or None."""
    from mmsearch.core.globs import unescape_glob  # noqa: PLC0415 - searches have no facets

    if len(filters.paths) != 1:
        return None
    folder = unescape_glob(filters.paths[0])
    if not folder or not (folder.startswith("/") and folder.endswith("/")) or "//" in folder:
        return None
    folder = folder[1:-1]
    return folder if folder and folder_pattern(folder) == filters.paths[0] else None


def is_ambiguous(folder: str, roots: Sequence[str]) -> bool:
    """Return True if the pattern of a folder may also be an absolute path of or around a root."""
    names = fold_path(folder).split("/")
    for root in roots:
        above = [name for name in fold_path(root).split("/") if name]
        shared = min(len(names), len(above))
        if names[:shared] == above[:shared]:
            return True
    return False


def is_storable(text: str) -> bool:
    """Return True if a text is valid Unicode, which a name of a file need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _join_condition(condition: str, filters: Filters) -> dict[str, Any] | None:
    if filters.where is None:
        return {"where": condition}
    from mmsearch.core.filter_parser import MAX_CHARACTERS, format_condition  # noqa: PLC0415 - rare

    joined = f"({format_condition(filters.where)}) and {condition}"
    return {"where": joined} if len(joined) <= MAX_CHARACTERS else None


def add_read_filters(given: Filters, read: Filters, understood: Understood | None) -> Filters:
    """Return the filters that the filter of a value narrows.

    A search reads no dates and no people in words if there are filters on them, so a filter of
    theirs must say what the words say, too.

    Args:
        given: The filters that were given.
        read: The same with those that were read in the words of the query.
        understood: What was read; None for nothing.
    """
    if understood is None:
        return given
    people = (*given.people, *(f"={name}" for name in understood.people))
    return replace(given, after=read.after, before=read.before, people=people)


def apply_narrowing(filters: Filters, narrowing: Mapping[str, Any]) -> Filters:
    """Return filters with those of `FacetValue.filter` in place of the ones of the same name."""
    from mmsearch.core.filters import FILTERS_BY_NAME  # noqa: PLC0415 - searches have no facets

    keywords = {FILTERS_BY_NAME[name].keyword: value for name, value in narrowing.items()}
    return replace(filters, **keywords)
