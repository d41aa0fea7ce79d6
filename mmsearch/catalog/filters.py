"""Exact filtering of pictures, before ranking.

A comparison with a missing value is false, and its negation is true: every comparison is wrapped
so that SQL's third truth value (NULL) never arises. Python folds the case of letters because
databases fold ASCII letters only, or as their locale says. Values only ever reach a database as
parameters.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from mmsearch.catalog.database import Database
from mmsearch.catalog.dialects import Dialect
from mmsearch.catalog.rows import join_path, relative_to
from mmsearch.core import deadlines
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.filter_tree import (
    FilterTree,
    MatchesPath,
    TakenBetween,
    TakenNear,
    uses_metadata,
)
from mmsearch.core.filters import EARTH_RADIUS_KM, GeoCircle
from mmsearch.core.globs import GlobError, Globs, escape_glob, fold_path, unescape_glob
from mmsearch.core.query import (
    FILTER_FIELDS,
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
    Scalar,
    fold_text,
    metadata_member,
)
from mmsearch.core.types import Ids

_DEADLINE_CHECK_PATHS = 16
"""Paths per deadline check: matching the longest path with the most patterns takes 30 ms."""

_ORIENTATION = (
    "CASE WHEN items.width > items.height THEN 'landscape'"
    " WHEN items.width < items.height THEN 'portrait' WHEN items.width > 0 THEN 'square' END"
)

FIELD_EXPRESSIONS: dict[str, str] = {
    "width": "items.width",
    "height": "items.height",
    "megapixels": "(CAST(items.width AS DOUBLE PRECISION) * items.height / 1e6)",
    "aspect": "(CAST(items.width AS DOUBLE PRECISION) / nullif(items.height, 0))",
    "format": "items.format",
    "kind": "(SELECT contents.kind FROM contents WHERE contents.id = items.content_id)",
    "orientation": _ORIENTATION,
    "taken_at": "items.taken_at",
    "taken_from": "items.taken_from",
    "month": "CAST(substr(items.taken_at, 6, 2) AS INTEGER)",
    "camera": "items.camera",
    "lens": "items.lens",
    "rating": "items.rating",
    "label": "items.label",
    "damage": "items.damage",
    "latitude": "items.latitude",
    "longitude": "items.longitude",
    # All files of a picture have the same content, so min() picks any of their equal sizes.
    "size_bytes": "(SELECT min(assets.size) FROM assets"
    " WHERE assets.content_id = items.content_id)",
}
"""SQL expression of each field that has one value, for a row of ``items``."""

_OPERATORS = {name: name for name in ("!=", "<", "<=", ">", ">=", "+", "-", "*", "/")} | {"==": "="}
"""SQL operators by the operator of a comparison or of arithmetic."""

_TAGS = "SELECT 1 FROM tags WHERE tags.item_id = items.id"
LIST_FIELD_KINDS = {
    "tags": "keywords",
    "auto_tags": "tag",
    "people": "people",
    "place": "place",
}
"""Kind of the texts that hold the values of a field."""

_ASSETS = "SELECT 1 FROM assets WHERE assets.content_id = items.content_id"

_TEXT_TYPES, _NUMBER_TYPES = "'text'", "'integer', 'real', 'true', 'false'"
"""Types of the members of metadata that can be compared with a text, and with a number."""

_NESTING_MESSAGE = "parser stack overflow"
"""SQLite's error for about 50 expressions inside each other; it has no code of its own."""


def filter_ids(db: Database, filters: FilterTree) -> Ids:
    """Return the ids of the live pictures that pass the filters; int64, ascending.

    Raises:
        InvalidQueryError: A pattern or value is invalid.
    """
    db.enable_folding()
    where = _WhereClause(db.dialect)
    try:
        condition = " AND ".join(["items.is_live = 1", *where.conditions(filters)])
        # Other queries may be answered in the same transaction.
        with db.attempt():
            matches = db.query(
                "SELECT items.id, items.latitude, items.longitude FROM items"  # noqa: S608
                f" WHERE {condition} ORDER BY items.id",
                where.values,
            )
        matched_ids = ids = np.array([row[0] for row in matches], dtype=np.int64)
        for part in filters.parts:
            if isinstance(part, TakenNear):
                places = [row[1] for row in matches], [row[2] for row in matches]
                ids = np.intersect1d(ids, matched_ids[_within_radius(part.circle, *places)])
            elif isinstance(part, MatchesPath):
                ids = np.intersect1d(
                    ids, _ids_matching_paths(db, part.patterns, condition, where.values)
                )
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidQueryError(
            "A filter contains a number that is too large, or a lone surrogate.",
            "Use numbers up to 2 ** 63 - 1 and valid Unicode text.",
        ) from error
    except sqlite3.OperationalError as error:
        if _NESTING_MESSAGE not in str(error):
            raise
        raise InvalidQueryError(
            "The condition is nested too deeply.", "Use fewer parentheses inside each other."
        ) from error
    return ids


def find_passing_places(db: Database, filters: FilterTree, ids: Sequence[int]) -> set[int]:
    """Return the ids of the assets of items whose metadata passes the filters."""
    db.enable_folding()
    where = _WhereClause(db.dialect)
    condition = " AND ".join(where.place_conditions(filters))
    rows = db.query(
        "SELECT place.id FROM items JOIN assets AS place ON place.content_id = items.content_id"  # noqa: S608
        f" WHERE items.id {db.dialect.ids(':ids')} AND {condition}",
        where.values | {"ids": json.dumps(list(ids))},
    )
    return {row[0] for row in rows}


class _WhereClause:
    """Conditions on rows of ``items`` as SQL text.

    Args:
        sql: The SQL of the database.

    Attributes:
        values: Values of the named parameters in the text.
    """

    def __init__(self, sql: Dialect) -> None:
        self._sql = sql
        self.values: dict[str, Any] = {}

    def conditions(self, filters: FilterTree) -> Iterator[str]:
        """Yield a condition for each part; places and paths need another check in Python."""
        for part in filters.parts:
            match part:
                case TakenBetween():
                    yield self._date(part)
                case TakenNear(circle):
                    yield self._near_latitude(circle)
                case MatchesPath():
                    pass
                case _ if uses_metadata(part):
                    yield (
                        "EXISTS (SELECT 1 FROM assets AS place"  # noqa: S608
                        f" WHERE place.content_id = items.content_id AND {self._condition(part)})"
                    )
                case _:
                    yield self._condition(part)

    def place_conditions(self, filters: FilterTree) -> Iterator[str]:
        """Yield the condition on a row ``place`` of each part that uses metadata."""
        for part in filters.parts:
            if uses_metadata(part) and not isinstance(part, TakenBetween | TakenNear | MatchesPath):
                yield self._condition(part)

    def _bind(self, value: Any) -> str:
        """Add a value and return its parameter.

        Raises:
            OverflowError: It is a number that does not fit into 64 bits.
        """
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise OverflowError(value)
        name = f"value_{len(self.values)}"
        self.values[name] = int(value) if isinstance(value, bool) else value
        return f":{name}"

    def _contains(self, column: str, substring: str) -> str:
        found = self._sql.position(self._bind(fold_text(substring)), self._sql.folded(column))
        return f"coalesce({found} > 0, FALSE)"

    def _has_value(self, kind: str, value: str) -> str:
        """Return the condition that a picture has a keyword, or a name that contains a text.

        A place has one of its names in any language as well: *Lissabon* finds *Lisbon*.
        """
        bound = self._bind(fold_text(value))
        is_whole = kind in ("keywords", "tag")
        position = self._sql.position(bound, "tags.tag")
        matches = f"tags.tag = {bound}" if is_whole else f"{position} > 0"
        names = []
        if kind == "place":
            from mmsearch.core.places import other_names  # noqa: PLC0415 - few filters need it

            names = other_names(value)
        if names:
            matches = f"({matches} OR tags.tag IN ({', '.join(map(self._bind, names))}))"
        return f"EXISTS ({_TAGS} AND tags.kind = '{kind}' AND {matches})"

    def _date(self, between: TakenBetween) -> str:
        """Return the condition on the date of a picture.

        The date is when the picture was taken. If that is unknown, no bound is met, or, with
        ``file_dates``, it is when one of its files was modified, in local time; a single file must
        meet both bounds.
        """
        bounds = []
        if between.after is not None:
            bounds.append(f">= {self._bind(between.after)}")
        if between.before is not None:
            bounds.append(f"< {self._bind(between.before)}")
        taken, modified = (
            _all(f"{date} {bound}" for bound in bounds)
            for date in ("items.taken_at", self._sql.local_time("assets.mtime_ns"))
        )
        by_file = f"EXISTS ({_ASSETS} AND {modified})" if between.file_dates else "FALSE"
        return f"CASE WHEN items.taken_at IS NULL THEN {by_file} ELSE {taken} END"

    def _near_latitude(self, near: GeoCircle) -> str:
        """Return the condition that the place is known and in the circle's range of latitudes."""
        low, high = map(self._bind, near.latitudes)
        return f"items.latitude BETWEEN {low} AND {high} AND items.longitude IS NOT NULL"

    def _condition(self, condition: Condition) -> str:
        """Return a condition that is never NULL."""
        return self._metadata_condition(condition) or self._picture_condition(condition)

    def _picture_condition(self, condition: Condition) -> str:
        match condition:
            case AllOf(parts):
                sql = _all(self._condition(part) for part in parts)
            case AnyOf(parts):
                sql = _any(self._condition(part) for part in parts)
            case Not(inner):
                sql = f"NOT {self._condition(inner)}"
            case IsMissing(name) if name in LIST_FIELD_KINDS:
                sql = f"NOT EXISTS ({_TAGS} AND tags.kind = '{LIST_FIELD_KINDS[name]}')"
            case IsMissing(name):
                sql = f"{FIELD_EXPRESSIONS[name]} IS NULL"
            case Contains(name, part) if name in LIST_FIELD_KINDS:
                sql = self._has_value(LIST_FIELD_KINDS[name], part)
            case Contains(name, part):
                sql = self._contains(FIELD_EXPRESSIONS[name], part)
            case OneOf(name, values):
                sql = self._is_one_of(name, values)
            case Compare(left, symbol, right):
                sql = self._compare(left, symbol, right)
        return sql

    def _is_one_of(self, name: str, values: Iterable[Scalar]) -> str:
        # PostgreSQL has no empty list.
        listed = ", ".join(self._bind(fold_text(value)) for value in values) or "NULL"
        if name in LIST_FIELD_KINDS:
            kind = LIST_FIELD_KINDS[name]
            # The index of values lists the few items at once; a look at each item takes 400 times
            # as long.
            tagged = f"SELECT item_id FROM tags WHERE kind = '{kind}' AND tag IN ({listed})"  # noqa: S608
            return f"items.id IN ({tagged})"
        return f"coalesce({self._operand(FieldName(name))} IN ({listed}), FALSE)"

    def _compare(self, left: Operand, symbol: str, right: Operand) -> str:
        if uses_metadata(left) or uses_metadata(right):
            # A member is a text or a number, which the database knows only for each place.
            pairs = [
                (self._text(left), self._text(right)),
                (self._number(left), self._number(right)),
            ]
        else:
            pairs = [(self._operand(left), self._operand(right))]
        operator = _OPERATORS[symbol]
        compared = [
            f"coalesce({one} {operator} {other}, FALSE)" for one, other in pairs if one and other
        ]
        return compared[0] if len(compared) == 1 else _any(compared)

    def _metadata_condition(self, condition: Condition) -> str | None:
        """Return a condition on one member of the metadata; None for any other condition."""
        match condition:
            case OneOf(name, values) if metadata_member(name) is not None:
                return _any(self._compare(FieldName(name), "==", value) for value in values)
            case IsMissing(name):
                found = self._has_member(name, "member.type <> 'null'")
                return None if found is None else f"NOT {found}"
            case Contains(name, part):
                bound = self._bind(fold_text(part))
                position = self._sql.position(bound, self._sql.member_text("member.value"))
                in_list = self._sql.member_has("member.value", bound)
                return self._has_member(
                    name,
                    f"CASE member.type WHEN 'text' THEN {position} > 0"
                    f" WHEN 'array' THEN {in_list} ELSE FALSE END",
                )
            case _:
                return None

    def _has_member(self, name: str, condition: str) -> str | None:
        """Return the condition that a place has a member for which a condition is true."""
        member = metadata_member(name)
        if member is None:
            return None
        key = self._bind(member)
        return (
            f"EXISTS (SELECT 1 FROM {self._sql.members}"  # noqa: S608 - our names, values are bound
            f" WHERE member.key = {key} AND {condition})"
        )

    def _member(self, member: str, value: str, types: str) -> str:
        """Return the SQL of a member of the metadata of a place; NULL if its type is another."""
        return (
            f"(SELECT {value} FROM {self._sql.members} WHERE member.key = {self._bind(member)}"  # noqa: S608
            f" AND member.type IN ({types}) LIMIT 1)"
        )

    def _text(self, operand: Operand) -> str | None:
        """Return an operand as a folded text; None if it is always a number."""
        match operand:
            case FieldName(member=str() as member):
                return self._member(member, self._sql.member_text("member.value"), _TEXT_TYPES)
            case FieldName(name):
                return self._operand(operand) if FILTER_FIELDS[name] is str else None
            case _:
                return self._operand(operand) if isinstance(operand, str) else None

    def _number(self, operand: Operand) -> str | None:
        """Return an operand as a number; None if it is always a text."""
        match operand:
            case FieldName(member=str() as member):
                return self._member(member, self._sql.member_number("member.value"), _NUMBER_TYPES)
            case FieldName(name):
                return None if FILTER_FIELDS[name] is str else self._operand(operand)
            case _:
                return None if isinstance(operand, str) else self._operand(operand)

    def _operand(self, operand: Operand) -> str:
        if isinstance(operand, Arithmetic):
            left, right = self._float(operand.left), self._float(operand.right)
            if operand.operator == "/":
                right = f"nullif({right}, 0)"
            return f"({left} {_OPERATORS[operand.operator]} {right})"
        if isinstance(operand, FieldName):
            column = FIELD_EXPRESSIONS[operand.name]
            is_folded = FILTER_FIELDS[operand.name] is not str or operand.name == "orientation"
            return column if is_folded else self._sql.folded(column)
        return self._bind(fold_text(operand))

    def _float(self, operand: Operand) -> str:
        """Return an operand as a float, which avoids 64-bit integers and their division."""
        sql = self._number(operand) or "NULL"
        return sql if isinstance(operand, Arithmetic) else f"CAST({sql} AS DOUBLE PRECISION)"


def _all(conditions: Iterable[str]) -> str:
    return f"({' AND '.join(_nested_first(conditions)) or 'TRUE'})"


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(_nested_first(conditions)) or 'FALSE'})"


def _nested_first(conditions: Iterable[str]) -> list[str]:
    """Return the conditions with the nested ones first, which fill SQLite's parser stack less."""
    return sorted(conditions, key=lambda condition: not condition.startswith("("))


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
    db: Database, patterns: Sequence[str], condition: str, values: Mapping[str, Any]
) -> Ids:
    """Return the ids of the pictures that meet a condition and have a file matching a pattern."""
    # Patterns are checked in an index without folders, too.
    roots = dict(db.query("SELECT id, uri FROM sources")) or {0: b"/"}
    files = {pattern: _find_file(db, roots, pattern) for pattern in patterns}
    globs = _compile_globs(roots, [_to_glob(roots, p, files[p]) for p in patterns])
    # The path of an indexed file means this file, not another whose name differs in case.
    others = _compile_globs(roots, [pattern for pattern in patterns if not files[pattern]])
    exact = {file for file in files.values() if file}
    folded = {(root_id, fold_path(path)) for root_id, path in exact}
    # The alias keeps this table apart from the subqueries on files in the condition.
    candidates = db.query(
        "SELECT items.id, placed.source_id, placed.key FROM assets AS placed"  # noqa: S608
        f" JOIN items USING (content_id) WHERE {condition}",
        values,
    )
    item_ids = set()
    for index, (item_id, root_id, path) in enumerate(candidates):
        if index % _DEADLINE_CHECK_PATHS == 0 and deadlines.is_expired():
            raise deadlines.deadline_error()
        is_other = folded and (root_id, path) not in exact and (root_id, fold_path(path)) in folded
        if (others if is_other else globs)[root_id].matches(os.fsdecode(path)):
            item_ids.add(item_id)
    return np.array(sorted(item_ids), dtype=np.int64)


def _compile_globs(roots: Mapping[int, bytes], patterns: Sequence[str]) -> dict[int, Globs]:
    try:
        return {root_id: Globs(patterns, folder) for root_id, folder in roots.items()}
    except GlobError as error:
        raise InvalidQueryError(str(error), "Use the pattern syntax of .gitignore.") from error


def _find_file(db: Database, roots: Mapping[int, bytes], pattern: str) -> tuple[int, bytes] | None:
    """Return the root and the path of the indexed file that a pattern is the path of, or None."""
    body = pattern.removeprefix("!")
    for text in dict.fromkeys((body, unescape_glob(body))):
        with suppress(UnicodeEncodeError):
            path = os.fsencode(text or "")
            for root_id, folder in roots.items():
                relative_path = relative_to(folder, path)
                if relative_path and db.query(
                    "SELECT 1 FROM assets WHERE source_id = ? AND key = ?", [root_id, relative_path]
                ):
                    return root_id, relative_path
    return None


def _to_glob(roots: Mapping[int, bytes], pattern: str, file: tuple[int, bytes] | None) -> str:
    """Return a pattern, with its special characters escaped if it is the path of a file."""
    if file is None:
        return pattern
    sign = "!" if pattern.startswith("!") else ""
    return sign + escape_glob(os.fsdecode(join_path(roots[file[0]], file[1])))
