"""The filters of a search; all that is said about one is said in its field of `Filters`.

A new filter is a field here and its SQL in `mmsearch.catalog.filters`. The command line, HTTP, the
web page, MCP, the Python API and the client take its name, type and help from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mmsearch.core.errors import InvalidQueryError

if TYPE_CHECKING:
    from mmsearch.core.query import Condition


EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth in kilometres (IUGG)."""


class FilterSpec(NamedTuple):
    """Specification of a filter.

    Attributes:
        keyword: Name of the attribute of `Filters` and of the argument of `parse_filters`.
        name: Name of the option (``-`` for ``_``) and of the JSON member.
        kind: What a given value is: ``text``, ``date``, ``pixels``, ``stars``, ``choice``,
            ``format``, ``circle`` or ``condition``; a ``flag`` has no value.
        multiple: True if several values may be given.
        choices: All values of a ``choice``.
        help: Help of the command line.
        metavar: Placeholder of the value in that help.
        description: Description in the schemas of HTTP and MCP; None if the name says it all.
        example: Example in these schemas.
        label: Label of its field on the web page.
    """

    keyword: str
    name: str
    kind: str
    multiple: bool
    choices: tuple[str, ...]
    help: str
    metavar: str
    description: str | None
    example: str | None
    label: str


def _filter(
    metavar: str,
    help_text: str,
    description: str | None = None,
    *,
    name: str | None = None,
    kind: str = "text",
    default: Any = None,
    choices: tuple[str, ...] = (),
    example: str | None = None,
    label: str | None = None,
) -> Any:
    return field(
        default=default,
        metadata={
            "name": name,
            "kind": kind,
            "choices": choices,
            "help": help_text,
            "metavar": metavar,
            "description": description,
            "example": example,
            "label": label,
        },
    )


@dataclass(frozen=True)
class GeoCircle:
    """A circle on the Earth: degrees north and east, and kilometres along a great circle."""

    latitude: float
    longitude: float
    km: float

    @property
    def latitudes(self) -> tuple[float, float]:
        """Its southernmost and northernmost latitude in degrees, with a margin for rounding."""
        margin_deg = math.degrees(self.km / EARTH_RADIUS_KM) + 1e-6
        return self.latitude - margin_deg, self.latitude + margin_deg

    def __str__(self) -> str:
        """Return the circle as it is given to `parse_filters`."""
        return f"{self.latitude!r},{self.longitude!r},{self.km!r}"


@dataclass(frozen=True)
class Filters:
    """Filters on the pictures of a result; a filter that is not set passes every picture.

    The date of a picture is `Picture.taken_at`; a picture without it passes neither ``after`` nor
    ``before``, unless ``file_dates`` is set. A filter on a file property (path, modification time)
    passes a picture if one of its files passes.

    Attributes:
        paths: Case-insensitive .gitignore patterns for the path relative to its root, or absolute
            paths; at least one must match.
        after: Earliest date, inclusive; ISO 8601.
        before: Latest date, exclusive; ISO 8601.
        file_dates: Use the modification time of one of its files, in local time, as the date of a
            picture whose date is unknown.
        min_width: Minimum width in pixels, upright.
        min_height: Minimum height in pixels, upright.
        orientation: ``landscape``, ``portrait`` or ``square``.
        formats: Allowed formats, such as ``JPEG``; case-insensitive.
        cameras: Strings of which the camera name must contain one, or be one that is written after
            ``=``; case-insensitive.
        near: Circle in which the picture must be taken.
        tags: Keywords that the picture must all have; case-insensitive.
        auto_tags: Tags of the enricher ``tags`` that the picture must all have; case-insensitive.
        people: Parts of names of people who must all be in the picture, or whole names after
            ``=``; case-insensitive.
        places: Parts of names of the place (location, city, state, country) that the picture must
            all have, or whole names after ``=``; case-insensitive, and in any of five languages:
            *Lissabon* finds *Lisbon*.
        min_rating: Minimum rating in stars, 0 to 5; pictures without a rating do not pass.
        where: A condition, see `Condition`.
    """

    paths: tuple[str, ...] = _filter(
        "GLOB",
        "Only pictures whose path matches GLOB.",
        "Patterns as in .gitignore for the path inside the indexed folder, or absolute paths; one "
        "must match.",
        name="path",
        default=(),
        example="holiday/**",
        label="Folder or file",
    )
    after: str | None = _filter(
        "DATE",
        "Only pictures of this date or later.",
        "Taken on this date or later: 2019, 2019-05 or 2019-05-17.",
        kind="date",
        example="2019-05",
        label="Taken after",
    )
    before: str | None = _filter(
        "DATE",
        "Only pictures from before this date.",
        "Taken before this date.",
        kind="date",
        example="2021",
        label="Taken before",
    )
    file_dates: bool = _filter(
        "",
        "Use the file's time as the date of a picture whose date is unknown.",
        "Use the file's time as the date of a picture whose date is unknown.",
        kind="flag",
        default=False,
        label="File dates",
    )
    min_width: int | None = _filter(
        "PIXELS", "Only pictures at least this wide.", kind="pixels", label="Minimum width"
    )
    min_height: int | None = _filter(
        "PIXELS", "Only pictures at least this high.", kind="pixels", label="Minimum height"
    )
    orientation: Literal["landscape", "portrait", "square"] | None = _filter(
        "ORIENTATION",
        "landscape, portrait or square.",
        kind="choice",
        choices=("landscape", "portrait", "square"),
    )
    formats: tuple[str, ...] = _filter(
        "FORMAT",
        "Only files of this format, such as png.",
        "Formats of the file; one must match.",
        name="format",
        kind="format",
        default=(),
        example="jpeg",
    )
    cameras: tuple[str, ...] = _filter(
        "TEXT",
        "Only pictures of cameras whose name contains TEXT.",
        "Parts of a camera's name, or its whole name after `=`; one must match.",
        name="camera",
        default=(),
    )
    near: GeoCircle | None = _filter(  # noqa: RUF009 - a dataclass field
        "LAT,LON,KM",
        "Only pictures taken within KM of a place.",
        "LATITUDE,LONGITUDE,KILOMETRES of a circle in which the picture was taken.",
        kind="circle",
        example="48.86,2.35,10",
        label="Near",
    )
    tags: tuple[str, ...] = _filter(
        "WORD",
        "Only pictures with this keyword.",
        "Keywords that the picture must all have.",
        name="tag",
        default=(),
        label="Keyword",
    )
    auto_tags: tuple[str, ...] = _filter(
        "WORD",
        "Only pictures with this tag of 'mmsearch describe'.",
        "Tags that a model gave the picture, which must have them all.",
        name="auto_tag",
        default=(),
        label="Automatic tag",
    )
    people: tuple[str, ...] = _filter(
        "NAME",
        "Only pictures of this person, as named in the file.",
        "Parts of names of people who must all be in the picture, or whole names after `=`.",
        name="person",
        default=(),
        label="Person",
    )
    places: tuple[str, ...] = _filter(
        "NAME",
        "Only pictures of this location, city, state or country.",
        "Parts of names of the place that the picture must all have, or whole names after `=`.",
        name="place",
        default=(),
        label="Place",
    )
    min_rating: int | None = _filter(
        "STARS",
        "Only pictures rated with at least this many stars.",
        "Minimum rating in stars.",
        name="rating",
        kind="stars",
        label="Minimum rating",
    )
    where: Condition | None = _filter(  # noqa: RUF009 - a dataclass field
        "CONDITION",
        'Only pictures that meet a condition, such as "width > 1000".',
        "A filter expression.",
        kind="condition",
        example="width > 2*height",
        label="Condition",
    )

    def __post_init__(self) -> None:
        """Check the values, and bring them into the form of their attributes.

        Raises:
            InvalidQueryError: A value is not one of its filter.
        """
        for member in fields(self):
            value = getattr(self, member.name)
            if value is member.default:
                continue
            if value is None:
                value = member.default
            else:
                # Searches without filters do not need it.
                from mmsearch.core.filter_parser import read_filter  # noqa: PLC0415

                value = read_filter(FILTERS_BY_NAME[member.name], value)
            object.__setattr__(self, member.name, value)

    def __bool__(self) -> bool:
        return self != NO_FILTERS


def _make_spec(keyword: str, default: object, metadata: Mapping[str, Any]) -> FilterSpec:
    name = metadata["name"] or keyword
    label = metadata["label"] or name.capitalize()
    return FilterSpec(keyword, multiple=default == (), **{**metadata, "name": name, "label": label})


FILTERS = tuple(
    _make_spec(member.name, member.default, member.metadata) for member in fields(Filters)
)
"""All filters, in the order in which help lists them."""

FILTERS_BY_NAME = {spec.name: spec for spec in FILTERS} | {spec.keyword: spec for spec in FILTERS}
"""All filters by the names of the options and of the attributes of `Filters`."""

NO_FILTERS = Filters()
"""Filters that every picture passes."""


def make_filters(values: Mapping[str, Any]) -> Filters:
    """Return filters by the names of options (``tag``) or of attributes (``tags``).

    Args:
        values: Values by name, as `Filters` takes them; ``-`` in a name means ``_``. A filter that
            is None or empty is not set. ``metadata.NAME`` is a member of the metadata: its value is
            one that must be equal, a list of such values, or a mapping such as ``{"lt": 100}``.

    Raises:
        InvalidQueryError: A filter is unknown, given twice, or has an invalid value.
    """
    given: dict[str, Any] = {}
    on_metadata: list[Condition] = []
    for name, value in values.items():
        if str(name).startswith("metadata."):
            from mmsearch.core.filter_parser import parse_metadata_filter  # noqa: PLC0415 - cycle

            on_metadata.append(parse_metadata_filter(str(name), value))
            continue
        spec = FILTERS_BY_NAME.get(str(name).lstrip("-").replace("-", "_"))
        if spec is None:
            from mmsearch.core.arguments import suggest_name  # noqa: PLC0415 - only errors need it

            raise InvalidQueryError(
                f"There is no filter {str(name)[:60]!r}.", suggest_name(name, FILTERS_BY_NAME)
            )
        if spec.keyword in given:
            raise InvalidQueryError(
                f"The filter {spec.name!r} is given twice.", "Put its values into one list."
            )
        given[spec.keyword] = value
    filters = Filters(**given)
    if not on_metadata:
        return filters
    from mmsearch.core.query import AllOf  # noqa: PLC0415 - it imports this module

    conditions = (*on_metadata, *([] if filters.where is None else [filters.where]))
    return replace(filters, where=AllOf(conditions))
