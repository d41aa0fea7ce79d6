"""Which pictures pass the filters of a query: exactly those, before anything is ranked.

A comparison with a value that is missing is false, and its opposite true: every comparison is
wrapped so that SQL's third truth value never arises. Letters are folded by Python, for SQLite
folds those of ASCII only.
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

from mmsearch.catalog.connection import Rows
from mmsearch.catalog.tables import FileRow, ImageRow, TagRow
from mmsearch.core import deadlines
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.globs import GlobError, Globs
from mmsearch.core.queries import (
    FIELDS,
    All,
    AnyOf,
    Arithmetic,
    Compare,
    Condition,
    Contains,
    FieldName,
    Filters,
    Missing,
    Near,
    Not,
    OneOf,
    Operand,
)
from mmsearch.core.types import Ids

EARTH_RADIUS_KM = 6371.0088
"""Mean radius (IUGG)."""

FOLD = "mmsearch_casefold"
"""SQL function that folds letters as Python does."""

MAX_VALUES = 100
"""Values of one filter."""

_PATHS_BETWEEN_CHECKS = 16
"""Comparing the longest path with the most patterns takes 30 ms."""

Truth = ColumnElement[bool]

_DIALECT = sqlite.dialect(paramstyle="named")


def allowed_ids(rows: Rows, filters: Filters) -> Ids:
    """The pictures that can be found and pass; int64, ascending.

    Raises:
        InvalidQueryError: A pattern or value that makes no sense.
    """
    _check_lengths(filters)
    rows.connection.create_function(FOLD, 1, _fold, deterministic=True)
    condition = and_(ImageRow.file_count > 0, *_conditions(filters))
    columns = (ImageRow.id, ImageRow.latitude, ImageRow.longitude)
    wanted = select(*columns).where(condition).order_by(ImageRow.id)
    try:
        found = _ask(rows, wanted)
        ids = np.array([row[0] for row in found], dtype=np.int64)
        if filters.near is not None:
            ids = ids[_inside(filters.near, [row[1] for row in found], [row[2] for row in found])]
        if filters.paths:
            ids = np.intersect1d(ids, _with_paths(rows, filters.paths, condition))
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidQueryError(
            "A filter has a number that is too large or half of a character.",
            "Numbers go up to 2 ** 63 - 1; texts are Unicode.",
        ) from error
    return ids


def _check_lengths(filters: Filters) -> None:
    """Refuse lists for which SQLite has no room in one statement."""
    lists = {"formats": filters.formats, "cameras": filters.cameras, "tags": filters.tags}
    for name, values in lists.items():
        if len(values) > MAX_VALUES:
            raise InvalidQueryError(
                f"The query has {len(values):,} {name}; {MAX_VALUES} are allowed."
            )


def _ask(rows: Rows, statement: Select[*tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return rows.ask(str(compiled), compiled.params)


def _fold(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _conditions(filters: Filters) -> Iterator[Truth]:
    yield from _of_size(filters)
    if filters.after is not None or filters.before is not None:
        yield _dated(filters.after, filters.before)
    if filters.formats:
        yield _folded(ImageRow.format).in_([name.casefold() for name in filters.formats])
    if filters.cameras:
        yield or_(*(_has_part(ImageRow.camera, part) for part in filters.cameras))
    for tag in filters.tags:
        yield _has_tag(tag)
    if filters.near is not None:
        yield _in_band(filters.near)
    if filters.where is not None:
        yield _truth(filters.where)


def _of_size(filters: Filters) -> Iterator[Truth]:
    if filters.min_width is not None:
        yield ImageRow.width >= filters.min_width
    if filters.min_height is not None:
        yield ImageRow.height >= filters.min_height
    if filters.orientation is not None:
        yield filters.orientation == _ORIENTATION


# --- parts of pictures ---


def _folded(column: Any) -> Any:
    return getattr(func, FOLD)(column)


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
    # All files of a picture have its content.
    "size_bytes": select(func.min(FileRow.size))
    .where(FileRow.image_id == ImageRow.id)
    .scalar_subquery(),
}


def _has_part(column: Any, part: str) -> Truth:
    return func.coalesce(func.instr(_folded(column), part.casefold()) > 0, false())


def _has_tag(tag: str) -> Truth:
    return (
        select(TagRow.id).where(TagRow.image_id == ImageRow.id, TagRow.tag == tag.casefold())
    ).exists()


def _dated(after: str | None, before: str | None) -> Truth:
    """A picture's date: when it was taken, else, in local time, when one of its files was changed.

    One and the same file must lie between both dates.
    """
    changed = func.strftime(
        "%Y-%m-%dT%H:%M:%S", FileRow.mtime_ns // literal(1_000_000_000), "unixepoch", "localtime"
    )

    def passes(date: Any) -> Truth:
        return and_(
            true() if after is None else date >= after, true() if before is None else date < before
        )

    by_file = select(FileRow.id).where(FileRow.image_id == ImageRow.id, passes(changed)).exists()
    return or_(
        and_(ImageRow.taken_at.is_not(None), passes(ImageRow.taken_at)),
        and_(ImageRow.taken_at.is_(None), by_file),
    )


def _in_band(near: Near) -> Truth:
    """Places that are known, and not too far north or south; a little more, for rounding."""
    reach = math.degrees(near.km / EARTH_RADIUS_KM) + 1e-6
    band = ImageRow.latitude.between(near.latitude - reach, near.latitude + reach)
    return and_(band, ImageRow.longitude.is_not(None))


def _inside(
    near: Near, latitudes: Sequence[float | None], longitudes: Sequence[float | None]
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which places lie in a circle, by the haversine formula."""
    north, east = np.radians(np.array([latitudes, longitudes], dtype=np.float64))
    centre_north, centre_east = math.radians(near.latitude), math.radians(near.longitude)
    half = (
        np.sin((north - centre_north) / 2) ** 2
        + np.cos(north) * math.cos(centre_north) * np.sin((east - centre_east) / 2) ** 2
    )
    distance = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
    return np.asarray(distance <= near.km)


def _with_paths(rows: Rows, patterns: Sequence[str], condition: Truth) -> Ids:
    """Of the pictures that meet a condition, those of which a file's path matches a pattern."""
    try:
        globs = Globs(patterns)
    except GlobError as error:
        raise InvalidQueryError(str(error), "Patterns are those of .gitignore.") from error
    # By another name, for conditions on files are subqueries of their own.
    file = aliased(FileRow)
    files = select(file.image_id, file.path).join(ImageRow, file.image_id == ImageRow.id)
    found = set()
    for at, (image_id, path) in enumerate(_ask(rows, files.where(condition))):
        if at % _PATHS_BETWEEN_CHECKS == 0 and deadlines.is_past():
            raise deadlines.past_deadline()
        if globs.matches(os.fsdecode(path)):
            found.add(image_id)
    return np.array(sorted(number for number in found if number is not None), dtype=np.int64)


# --- conditions ---


def _truth(condition: Condition) -> Truth:
    match condition:
        case All(parts):
            return reduce(and_, (_truth(part) for part in parts), true())
        case AnyOf(parts):
            return reduce(or_, (_truth(part) for part in parts), false())
        case Not(inner):
            return not_(_truth(inner))
        case Missing() | Contains():
            return _of_one_field(condition)
        case OneOf(name, values):
            own = _value(FieldName(name))
            return func.coalesce(own.in_([_value(value) for value in values]), false())
        case Compare(left, sign, right):
            return func.coalesce(_COMPARED[sign](_value(left), _value(right)), false())


def _of_one_field(condition: Missing | Contains) -> Truth:
    has_tags = select(TagRow.id).where(TagRow.image_id == ImageRow.id).exists()
    match condition:
        case Missing("tags"):
            return not_(has_tags)
        case Missing(name):
            missing: Truth = _FIELDS[name].is_(None)
            return missing
        case Contains("tags", part):
            return _has_tag(part)
        case Contains(name, part):
            return _has_part(_FIELDS[name], part)


_COMPARED: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CALCULATED: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def _value(operand: Operand) -> Any:
    if isinstance(operand, Arithmetic):
        # SQLite calculates integers modulo 2 ** 64 and divides them without remainder.
        left, right = (cast(_value(side), Float) for side in (operand.left, operand.right))
        return _CALCULATED[operand.operator](left, right)
    if isinstance(operand, FieldName):
        column = _FIELDS[operand.name]
        return _folded(column) if FIELDS[operand.name] is str else column
    return literal(operand.casefold() if isinstance(operand, str) else operand)
