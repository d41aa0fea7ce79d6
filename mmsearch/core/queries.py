"""The vocabulary of queries: terms, filters, and how two kinds of evidence are ranked together."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeAlias


class Mode(StrEnum):
    """What decides the order of an answer."""

    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


class Band(StrEnum):
    """How sure it is that a hit shows what was asked for."""

    LIKELY = "likely"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"


@dataclass(frozen=True)
class Term:
    """One thing that a picture shall, or shall not, look like.

    Exactly one of `text`, `image`, `picture` and `url` is set.

    Attributes:
        text: A description.
        image: A picture file.
        picture: A picture of the index, by its id (`Hit.id`): its stored vector is used, no file.
        url: Where a picture is, by http or https. A server that fetches it puts its file in the
            place of the URL; an index refuses it.
        weight: Its part in the query; below 0, pictures like it sink. Never 0.
    """

    text: str | None = None
    image: Path | None = None
    weight: float = 1.0
    picture: int | None = None
    url: str | None = None


# --- filters ---

Scalar: TypeAlias = str | int | float | bool

FILTER_FIELDS: dict[str, type] = {
    "width": int,
    "height": int,
    "megapixels": float,
    "aspect": float,
    "format": str,
    "orientation": str,
    "taken_at": str,
    "camera": str,
    "latitude": float,
    "longitude": float,
    "size_bytes": int,
    "tags": str,
}
"""What a condition may speak of, and the type of its values; int and float may be compared.

``aspect`` is width / height, ``orientation`` is landscape, portrait or square, ``taken_at`` an ISO
8601 local time, ``tags`` the set of a picture's keywords (only for `Contains`).
"""


@dataclass(frozen=True)
class FieldName:
    """The value of a picture's field, one of `FILTER_FIELDS` but ``tags``."""

    name: str


@dataclass(frozen=True)
class Arithmetic:
    """A number calculated from the numbers of two operands, as floats.

    It is missing if an operand is missing, and if the divisor is 0.
    """

    left: Operand
    operator: Literal["+", "-", "*", "/"]
    right: Operand


Operand: TypeAlias = FieldName | Arithmetic | Scalar


@dataclass(frozen=True)
class Compare:
    """Two values compared; false if either is missing. Strings compare without regard to case."""

    left: Operand
    operator: Literal["==", "!=", "<", "<=", ">", ">="]
    right: Operand


@dataclass(frozen=True)
class Contains:
    """A text field holds `substring` (anywhere, without regard to case), or `tags` has the tag."""

    name: str
    substring: str


@dataclass(frozen=True)
class OneOf:
    """A field's value is one of several; false if it is missing."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class IsMissing:
    """A field has no value."""

    name: str


@dataclass(frozen=True)
class Not:
    """The opposite: true where `condition` is false, also for want of a value."""

    condition: Condition


@dataclass(frozen=True)
class AllOf:
    """Every one of the conditions."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one of the conditions."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | Contains | OneOf | IsMissing | Not | AllOf | AnyOf


@dataclass(frozen=True)
class GeoCircle:
    """A circle on the Earth: degrees north and east, and kilometres along a great circle."""

    latitude: float
    longitude: float
    km: float


@dataclass(frozen=True)
class Filters:
    """Which pictures may be found at all; what is not set lets every picture pass.

    A picture's date is `Picture.taken_at`, or else, in local time, when one of its files was
    changed. What is asked of a file (its path, its date of change) must be true of one of the
    picture's files.

    Attributes:
        paths: Patterns as in .gitignore, without regard to case, on the path relative to its
            root; one must match.
        after: ISO 8601; the date is this or later.
        before: ISO 8601; the date is earlier than this.
        min_width: Pixels, upright.
        min_height: Pixels, upright.
        orientation: ``landscape``, ``portrait`` or ``square``.
        formats: Any of these, such as ``JPEG``; without regard to case.
        cameras: The camera's name holds one of these; without regard to case.
        near: Taken inside this circle.
        tags: Has all of these keywords; without regard to case.
        where: A condition, see `Condition`.
    """

    paths: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    min_width: int | None = None
    min_height: int | None = None
    orientation: Literal["landscape", "portrait", "square"] | None = None
    formats: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    near: GeoCircle | None = None
    tags: tuple[str, ...] = ()
    where: Condition | None = None

    def __bool__(self) -> bool:
        return self != Filters()


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        terms: At least one with a weight above 0.
        filters: Which pictures may be found.
        mode: None: hybrid if the index has texts and the query has words, else vector.
        blend: Name of the ranking that joins both lists in hybrid mode; None: the default.
        prompts: Phrasings whose vectors are averaged for a text, each with one ``{}``; None: the
            encoder's own.
    """

    terms: tuple[Term, ...]
    filters: Filters = field(default_factory=Filters)
    mode: Mode | None = None
    blend: str | None = None
    prompts: tuple[str, ...] | None = None
