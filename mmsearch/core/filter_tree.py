"""Filters as a tree of plain values, which catalogs and vector stores translate.

`Filters` has one field for each filter that people give. A tree has few kinds of nodes instead, so
that a store that filters by itself needs no code for each filter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.filters import Filters, GeoCircle
from mmsearch.core.query import (
    AllOf,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
    Operand,
    metadata_member,
)

MAX_FILTER_VALUES = 100
"""Maximum number of values in one filter."""


@dataclass(frozen=True)
class MatchesPath:
    """True if a file of the picture matches patterns; see `Filters.paths`."""

    patterns: tuple[str, ...]


@dataclass(frozen=True)
class TakenBetween:
    """True if the date of the picture is in a range; see `Filters`.

    Attributes:
        after: Earliest date, inclusive; ISO 8601; None without a bound.
        before: Latest date, exclusive; ISO 8601; None without a bound.
        file_dates: Use the modification time of one of its files, in local time, as the date of a
            picture whose date is unknown.
    """

    after: str | None
    before: str | None
    file_dates: bool


@dataclass(frozen=True)
class TakenNear:
    """True if the picture was taken in a circle."""

    circle: GeoCircle


FilterNode: TypeAlias = Condition | MatchesPath | TakenBetween | TakenNear
"""A part of a tree: a condition, which may be a tree itself, or one of three kinds of leaves."""


@dataclass(frozen=True)
class FilterTree:
    """Root of a tree: a picture passes if it passes all parts, and every picture passes none.

    A content may be in several places, such as records of a program, each with its own metadata. A
    part that uses metadata is true if it is true as a whole for one of the places.

    Attributes:
        parts: The parts, those first that are fast to check.
    """

    parts: tuple[FilterNode, ...]

    @property
    def uses_metadata(self) -> bool:
        """True if a part depends on the metadata that a source or a program gave a picture."""
        return any(map(uses_metadata, self.parts))


def uses_metadata(node: FilterNode | Operand) -> bool:
    """Return True if a part of a tree, or an operand, depends on the metadata of a picture."""
    match node:
        case AllOf(parts) | AnyOf(parts):
            return any(map(uses_metadata, parts))
        case Not(part):
            return uses_metadata(part)
        case Compare(left, _, right) | Arithmetic(left, _, right):
            return uses_metadata(left) or uses_metadata(right)
        case FieldName(name) | Contains(name) | OneOf(name) | IsMissing(name):
            return metadata_member(name) is not None
        case _:
            return False


def make_filter_tree(filters: Filters) -> FilterTree:
    """Return the tree of filters.

    Raises:
        InvalidQueryError: A filter has more than `MAX_FILTER_VALUES` values.
    """
    for name in ("formats", "cameras", "tags", "auto_tags", "people", "places"):
        values = getattr(filters, name)
        if len(values) > MAX_FILTER_VALUES:
            raise InvalidQueryError(
                f"The query has {len(values):,} {name}; at most {MAX_FILTER_VALUES} are allowed."
            )
    return FilterTree(tuple(_iter_parts(filters)))


def _iter_parts(filters: Filters) -> Iterator[FilterNode]:  # noqa: C901 - one case per filter
    for name, minimum in (
        ("width", filters.min_width),
        ("height", filters.min_height),
        ("rating", filters.min_rating),
    ):
        if minimum is not None:
            yield Compare(FieldName(name), ">=", minimum)
    if filters.orientation is not None:
        yield Compare(FieldName("orientation"), "==", filters.orientation)
    if filters.after is not None or filters.before is not None:
        yield TakenBetween(filters.after, filters.before, filters.file_dates)
    if filters.formats:
        yield OneOf("format", filters.formats)
    if filters.cameras:
        yield AnyOf(tuple(_named("camera", part) for part in filters.cameras))
    for name, values in (
        ("tags", filters.tags),
        ("auto_tags", filters.auto_tags),
        ("people", filters.people),
        ("place", filters.places),
    ):
        for value in values:
            yield _named(name, value) if name in ("people", "place") else Contains(name, value)
    if filters.near is not None:
        yield TakenNear(filters.near)
    if filters.where is not None:
        yield filters.where
    if filters.paths:
        yield MatchesPath(filters.paths)


def _named(name: str, value: str) -> Condition:
    """Return the condition that a name contains a text or, after ``=``, is that text."""
    return OneOf(name, (value[1:],)) if value.startswith("=") else Contains(name, value)
