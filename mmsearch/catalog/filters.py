"""Exact filtering of pictures, before ranking.

A comparison with a missing value is false, and its negation is true: every comparison is wrapped
so that SQL's third truth value (NULL) never arises. Python folds the case of letters because
SQLite folds ASCII letters only.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import aliased

from mmsearch.catalog.connection import ReadConnection
from mmsearch.catalog.tables import FileRow, ImageRow, TagRow
from mmsearch.core import deadlines
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.globs import GlobError, Globs
from mmsearch.core.query import (
    FILTER_FIELDS,
    AllOf,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Contains,
    FieldName,
    Filters,
    GeoCircle,
    IsMissing,
    Not,
    OneOf,
    Operand,
)
from mmsearch.core.types import Ids

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth in kilometres (IUGG)."""

CASEFOLD_FUNCTION = "mmsearch_casefold"
"""Name of the SQL function that folds case like Python's `str.casefold`."""

MAX_FILTER_VALUES = 100
"""Maximum number of values in one filter."""

_DEADLINE_CHECK_PATHS = 16
"""Paths per deadline check: matching the longest path with the most patterns takes 30 ms."""

SqlCondition = ColumnElement[bool]

_DIALECT = sqlite.dialect(paramstyle="named")


def filter_ids(db: ReadConnection, filters: Filters) -> Ids:
    """Return the ids of the live pictures that pass the filters; int64, ascending.

    Raises:
        InvalidQueryError: A pattern or value is invalid.
    """
    _check_lengths(filters)
    db.connection.create_function(CASEFOLD_FUNCTION, 1, _casefold, deterministic=True)
    condition = and_(ImageRow.file_count > 0, *_conditions(filters))
    columns = (ImageRow.id, ImageRow.latitude, ImageRow.longitude)
    statement = select(*columns).where(condition).order_by(ImageRow.id)
    try:
        matches = _query(db, statement)
        ids = np.array([row[0] for row in matches], dtype=np.int64)
        if filters.near is not None:
            ids = ids[
                _within_radius(
                    filters.near, [row[1] for row in matches], [row[2] for row in matches]
                )
            ]
        if filters.paths:
            ids = np.intersect1d(ids, _ids_matching_paths(db, filters.paths, condition))
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidQueryError(
            "A filter contains a number that is too large, or a lone surrogate.",
            "Use numbers up to 2 ** 63 - 1 and valid Unicode text.",
        ) from error
    return ids


def _check_lengths(filters: Filters) -> None:
    """Raise an error for lists too long for one SQLite statement."""
    lists = {"formats": filters.formats, "cameras": filters.cameras, "tags": filters.tags}
    for name, values in lists.items():
        if len(values) > MAX_FILTER_VALUES:
            raise InvalidQueryError(
                f"The query has {len(values):,} {name}; at most {MAX_FILTER_VALUES} are allowed."
            )


def _query(db: ReadConnection, statement: Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return db.query(str(compiled), compiled.params)


def _casefold(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _conditions(filters: Filters) -> Iterator[SqlCondition]:
    yield from _size_conditions(filters)
    if filters.after is not None or filters.before is not None:
        yield _date_condition(filters.after, filters.before)
    if filters.formats:
        yield _casefolded(ImageRow.format).in_([name.casefold() for name in filters.formats])
    if filters.cameras:
        yield or_(*(_contains(ImageRow.camera, part) for part in filters.cameras))
    for tag in filters.tags:
        yield _has_tag(tag)
    if filters.near is not None:
        yield _near_latitude(filters.near)
    if filters.where is not None:
        yield _compile_condition(filters.where)


def _size_conditions(filters: Filters) -> Iterator[SqlCondition]:
    if filters.min_width is not None:
        yield ImageRow.width >= filters.min_width
    if filters.min_height is not None:
        yield ImageRow.height >= filters.min_height
    if filters.orientation is not None:
        yield filters.orientation == _ORIENTATION


# --- columns ---


def _casefolded(column: Any) -> Any:
    return getattr(func, CASEFOLD_FUNCTION)(column)


_ORIENTATION: Any = case(
    (ImageRow.width > ImageRow.height, "landscape"),
    (ImageRow.width < ImageRow.height, "portrait"),
    else_="square",
)

_FIELDS: dict[str, Any] = {
    "width": ImageRow.width,
    "height": ImageRow.height,
    "megapixels": cast(ImageRow.width, Float) * ImageRow.height / 1e6,
    "aspect": cast(ImageRow.width, Float) / ImageRow.height,
    "format": ImageRow.format,
    "orientation": _ORIENTATION,
    "taken_at": ImageRow.taken_at,
    "camera": ImageRow.camera,
    "latitude": ImageRow.latitude,
    "longitude": ImageRow.longitude,
    # All files of a picture have the same content, so min() picks any of their equal sizes.
    "size_bytes": select(func.min(FileRow.size))
    .where(FileRow.image_id == ImageRow.id)
    .scalar_subquery(),
}


def _contains(column: Any, substring: str) -> SqlCondition:
    return func.coalesce(func.instr(_casefolded(column), substring.casefold()) > 0, false())


def _has_tag(tag: str) -> SqlCondition:
    return (
        select(TagRow.id).where(TagRow.image_id == ImageRow.id, TagRow.tag == tag.casefold())
    ).exists()


def _date_condition(after: str | None, before: str | None) -> SqlCondition:
    """Return the condition on the date of a picture.

    The date is when the picture was taken or, if that is unknown, when one of its files was
    modified, in local time. A single file must meet both bounds.
    """
    modified = func.strftime(
        "%Y-%m-%dT%H:%M:%S", FileRow.mtime_ns // literal(1_000_000_000), "unixepoch", "localtime"
    )

    def in_range(date: Any) -> SqlCondition:
        return and_(
            true() if after is None else date >= after, true() if before is None else date < before
        )

    file_matches = (
        select(FileRow.id).where(FileRow.image_id == ImageRow.id, in_range(modified)).exists()
    )
    return or_(
        and_(ImageRow.taken_at.is_not(None), in_range(ImageRow.taken_at)),
        and_(ImageRow.taken_at.is_(None), file_matches),
    )


def _near_latitude(near: GeoCircle) -> SqlCondition:
    """Return the condition that the place is known and in the circle's range of latitudes.

    The range has a small margin for rounding.
    """
    margin_deg = math.degrees(near.km / EARTH_RADIUS_KM) + 1e-6
    in_range = ImageRow.latitude.between(near.latitude - margin_deg, near.latitude + margin_deg)
    return and_(in_range, ImageRow.longitude.is_not(None))


def _within_radius(
    near: GeoCircle, latitudes: Sequence[float | None], longitudes: Sequence[float | None]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a bool mask (n,) of the places inside a circle, by the haversine formula."""
    latitude_rad, longitude_rad = np.radians(np.array([latitudes, longitudes], dtype=np.float64))
    center_latitude_rad, center_longitude_rad = (
        math.radians(near.latitude),
        math.radians(near.longitude),
    )
    haversine = (
        np.sin((latitude_rad - center_latitude_rad) / 2) ** 2
        + np.cos(latitude_rad)
        * math.cos(center_latitude_rad)
        * np.sin((longitude_rad - center_longitude_rad) / 2) ** 2
    )
    distance_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0)))
    return np.asarray(distance_km <= near.km)


def _ids_matching_paths(
    db: ReadConnection, patterns: Sequence[str], condition: SqlCondition
) -> Ids:
    """Return the ids of the pictures that meet a condition and have a file matching a pattern."""
    try:
        globs = Globs(patterns)
    except GlobError as error:
        raise InvalidQueryError(str(error), "Use the pattern syntax of .gitignore.") from error
    # The alias keeps this table apart from the subqueries on files in the condition.
    file_alias = aliased(FileRow)
    statement = select(file_alias.image_id, file_alias.path).join(
        ImageRow, file_alias.image_id == ImageRow.id
    )
    image_ids = set()
    for index, (image_id, path) in enumerate(_query(db, statement.where(condition))):
        if index % _DEADLINE_CHECK_PATHS == 0 and deadlines.is_expired():
            raise deadlines.deadline_error()
        if globs.matches(os.fsdecode(path)):
            image_ids.add(image_id)
    return np.array(
        sorted(matching_id for matching_id in image_ids if matching_id is not None), dtype=np.int64
    )


# --- conditions ---


def _compile_condition(condition: Condition) -> SqlCondition:
    match condition:
        case AllOf(parts):
            return reduce(and_, (_compile_condition(part) for part in parts), true())
        case AnyOf(parts):
            return reduce(or_, (_compile_condition(part) for part in parts), false())
        case Not(inner):
            return not_(_compile_condition(inner))
        case IsMissing() | Contains():
            return _compile_field_condition(condition)
        case OneOf(name, values):
            field = _compile_operand(FieldName(name))
            return func.coalesce(field.in_([_compile_operand(value) for value in values]), false())
        case Compare(left, symbol, right):
            return func.coalesce(
                _COMPARISON_OPERATORS[symbol](_compile_operand(left), _compile_operand(right)),
                false(),
            )


def _compile_field_condition(condition: IsMissing | Contains) -> SqlCondition:
    has_tags = select(TagRow.id).where(TagRow.image_id == ImageRow.id).exists()
    match condition:
        case IsMissing("tags"):
            return not_(has_tags)
        case IsMissing(name):
            missing: SqlCondition = _FIELDS[name].is_(None)
            return missing
        case Contains("tags", part):
            return _has_tag(part)
        case Contains(name, part):
            return _contains(_FIELDS[name], part)


_COMPARISON_OPERATORS: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC_OPERATORS: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _compile_operand(operand: Operand) -> Any:
    if isinstance(operand, Arithmetic):
        # Floats avoid SQLite's 64-bit integer arithmetic and its integer division.
        left, right = (
            cast(_compile_operand(side), Float) for side in (operand.left, operand.right)
        )
        return _ARITHMETIC_OPERATORS[operand.operator](left, right)
    if isinstance(operand, FieldName):
        column = _FIELDS[operand.name]
        return _casefolded(column) if FILTER_FIELDS[operand.name] is str else column
    return literal(operand.casefold() if isinstance(operand, str) else operand)
