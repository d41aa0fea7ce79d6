"""Reference implementation of filters that tests one picture at a time."""

import fnmatch
import math
import unicodedata
from datetime import datetime

from mmsearch.core.query import (
    LIST_FIELDS,
    AllOf,
    AnyOf,
    Arithmetic,
    Compare,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
)


def fold(value):
    return unicodedata.normalize("NFC", value).casefold() if isinstance(value, str) else value


def field_value(facts, name):
    width, height = facts["width"], facts["height"]
    orientation = "landscape" if width > height else "portrait" if width < height else "square"
    derived = {
        "megapixels": width * height / 1e6,
        "aspect": width / height,
        "orientation": orientation,
        "kind": "image",
        "month": int(facts["taken_at"][5:7]) if facts["taken_at"] else None,
        **{name: facts[name] or None for name in LIST_FIELDS},
        "size_bytes": 10 if facts["files"] else None,
    }
    return derived[name] if name in derived else facts[name]


def evaluate_arithmetic(facts, operand):
    left, right = evaluate_operand(facts, operand.left), evaluate_operand(facts, operand.right)
    if left is None or right is None or (operand.operator == "/" and right == 0):
        return None
    left, right = float(left), float(right)
    number = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": left / (right or 1),
    }[operand.operator]
    return None if math.isnan(number) else number


def evaluate_operand(facts, operand):
    if isinstance(operand, Arithmetic):
        return evaluate_arithmetic(facts, operand)
    return fold(field_value(facts, operand.name) if isinstance(operand, FieldName) else operand)


def matches_condition(facts, condition):  # noqa: C901, PLR0911 - one return per case
    match condition:
        case AllOf(parts):
            return all(matches_condition(facts, part) for part in parts)
        case AnyOf(parts):
            return any(matches_condition(facts, part) for part in parts)
        case Not(inner):
            return not matches_condition(facts, inner)
        case IsMissing(name):
            return field_value(facts, name) is None
        case Contains("tags" | "auto_tags" as name, part):
            return fold(part) in facts[name]
        case Contains("people" | "place" as name, part):
            return any(fold(part) in each for each in facts[name])
        case Contains(name, part):
            field_text = fold(field_value(facts, name))
            return field_text is not None and fold(part) in field_text
        case OneOf(name, values):
            field_text = fold(field_value(facts, name))
            return field_text is not None and field_text in {fold(option) for option in values}
        case Compare(left, operator, right):
            first, second = evaluate_operand(facts, left), evaluate_operand(facts, right)
            if first is None or second is None:
                return False
            return {
                "==": first == second,
                "!=": first != second,
                "<": first < second,
                "<=": first <= second,
                ">": first > second,
                ">=": first >= second,
            }[operator]


def distance_km(near, north, east):
    """Distance by the spherical law of cosines instead of the haversine formula."""
    a, b = math.radians(near.latitude), math.radians(north)
    between = math.radians(east - near.longitude)
    cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(between)
    return 6371.0088 * math.acos(max(-1.0, min(1.0, cosine)))


def matches_path(path, pattern):
    """Return whether a path matches a pattern with a slash; ``*`` matches no slash."""
    names, patterns = path.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


def matches_filters(facts, filters):
    """Return whether a picture passes the filters.

    ``facts`` holds the columns, the `LIST_FIELDS` (folded) and ``files``: (path, mtime_ns) of each
    file.
    """
    if not facts["files"]:
        return False
    dates = (
        [facts["taken_at"]]
        if facts["taken_at"] is not None
        else [None]
        if not filters.file_dates
        else [
            datetime.fromtimestamp(mtime_ns // 10**9).isoformat()  # noqa: DTZ006
            for _, mtime_ns in facts["files"]
        ]
    )
    checks = [
        any(
            (filters.after is None or (date or "") >= filters.after)
            and (filters.before is None or (date or "9") < filters.before)
            for date in dates
        ),
        filters.min_width is None or facts["width"] >= filters.min_width,
        filters.min_height is None or facts["height"] >= filters.min_height,
        filters.orientation is None or field_value(facts, "orientation") == filters.orientation,
        not filters.formats or fold(facts["format"]) in {fold(one) for one in filters.formats},
        not filters.cameras
        or (
            facts["camera"] is not None
            and any(fold(part) in fold(facts["camera"]) for part in filters.cameras)
        ),
        all(fold(tag) in facts["tags"] for tag in filters.tags),
        all(fold(tag) in facts["auto_tags"] for tag in filters.auto_tags),
        all(any(fold(part) in name for name in facts["people"]) for part in filters.people),
        all(any(fold(part) in name for name in facts["place"]) for part in filters.places),
        filters.min_rating is None
        or (facts["rating"] is not None and facts["rating"] >= filters.min_rating),
        filters.where is None or matches_condition(facts, filters.where),
    ]
    if filters.near is not None:
        north, east = facts["latitude"], facts["longitude"]
        known = north is not None and east is not None
        checks.append(known and distance_km(filters.near, north, east) <= filters.near.km)
    if filters.paths:
        checks.append(
            any(
                matches_path(path.decode().lower(), pattern.lower())
                for path, _ in facts["files"]
                for pattern in filters.paths
            )
        )
    return all(checks)
