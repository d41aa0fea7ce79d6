"""Conditions on pictures, as a person types them. Pure.

A condition is written like an expression of Python and read by Python's own parser, of whose tree
only comparisons, ``and``, ``or``, ``not`` and ``in`` are let through; nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import math
import re
from datetime import datetime
from typing import Literal, cast

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.queries import (
    FIELDS,
    All,
    AnyOf,
    Compare,
    Condition,
    Contains,
    FieldName,
    Missing,
    Near,
    Not,
    OneOf,
    Operand,
    Scalar,
)

MOST_CHARACTERS = 2000
MOST_DEPTH = 50
MOST = 2**53
"""Up to it, integers and floats are compared exactly everywhere."""

_EXAMPLE = "For example: --where \"width > 1000 and taken_at >= '2020-01-01'\""
_ORIENTATIONS = ("landscape", "portrait", "square")
_DATES = (
    (re.compile(r"\d{4}"), "{}-01-01T00:00:00"),
    (re.compile(r"\d{4}-\d{2}"), "{}-01T00:00:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}"), "{}T00:00:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}"), "{}:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}"), "{}"),
)
# Outside of quotes, as SQL writes it.
_SQL_WORDS = re.compile(r"""('[^']*'|"[^"]*")|\b(AND|OR|NOT|IN|IS|NULL|null)\b""")
_FOREIGN = re.compile(
    r"""('[^']*'|"[^"]*")|(?<![=!<>:])(=)(?!=)|(<>|&&|\|\||\blike\b|\bLIKE\b|;)"""
)
_INSTEAD = {"=": "==", "<>": "!=", "&&": "and", "||": "or", "like": "'part' in camera"}

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
_OPERATORS: dict[type[ast.cmpop], Operator] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}


def parse_condition(text: str) -> Condition:
    """A condition such as ``width > 1000 and taken_at >= '2020-01-01'``.

    Raises:
        InvalidQueryError: It cannot be read; the message says where and why.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidQueryError(
            f"The condition has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed."
        )
    for found in _FOREIGN.finditer(text):
        foreign = found[2] or found[3]
        if foreign:
            instead = _INSTEAD.get(foreign.lower())
            raise InvalidQueryError(
                f"The condition has {foreign!r} at character {found.start() + 1}.",
                f"Write {instead!r} instead." if instead else _EXAMPLE,
            )
    python = _SQL_WORDS.sub(_as_python, text).strip()
    try:
        tree = ast.parse(python, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = getattr(error, "offset", None)
        where = f" at character {place}" if place else ""
        raise InvalidQueryError(f"The condition cannot be read{where}.", _EXAMPLE) from error
    return _condition(tree.body, 0)


def parse_date(text: str) -> str:
    """The beginning of a date or time, ISO 8601 to the second, to compare with `taken_at`.

    Args:
        text: ``2020``, ``2020-06``, ``2020-06-15`` or ``2020-06-15T12:30[:00]``.

    Raises:
        InvalidQueryError: It is no such date.
    """
    plain = text.strip().replace(" ", "T")
    for pattern, whole in _DATES:
        if pattern.fullmatch(plain):
            try:
                return datetime.fromisoformat(whole.format(plain)).isoformat()
            except ValueError:
                break
    raise InvalidQueryError(
        f"{text!r} is no date.", "Write 2020, 2020-06, 2020-06-15 or 2020-06-15T12:30."
    )


def parse_near(text: str) -> Near:
    """``LAT,LON,KM`` as a circle.

    Raises:
        InvalidQueryError: It is no place on the Earth, or the radius is not above 0.
    """
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        latitude = longitude = km = math.nan
    if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < km < math.inf):
        raise InvalidQueryError(
            f"{text!r} is no circle on the Earth.",
            "Write degrees north, degrees east and kilometres: --near 48.86,2.35,10",
        )
    return Near(latitude, longitude, km)


def _as_python(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    return "None" if found[2].upper() == "NULL" else found[2].lower()


def _condition(node: ast.expr, depth: int) -> Condition:
    if depth > MOST_DEPTH:
        raise InvalidQueryError("The condition is nested too deeply.")
    if isinstance(node, ast.BoolOp):
        parts = tuple(_condition(value, depth + 1) for value in node.values)
        return All(parts) if isinstance(node.op, ast.And) else AnyOf(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return Not(_condition(node.operand, depth + 1))
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        parts = tuple(_comparison(left, sign, right) for left, sign, right in pairs)
        return parts[0] if len(parts) == 1 else All(parts)
    raise _refused(node, "is no comparison")


def _comparison(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Condition:
    if isinstance(sign, ast.In | ast.NotIn):
        inside = _membership(left, right)
        return inside if isinstance(sign, ast.In) else Not(inside)
    nothing = isinstance(right, ast.Constant) and right.value is None
    if nothing and isinstance(left, ast.Name):
        missing = Missing(_field(left))
        if isinstance(sign, ast.Is | ast.Eq):
            return missing
        if isinstance(sign, ast.IsNot | ast.NotEq):
            return Not(missing)
    operator = _OPERATORS.get(type(sign))
    if operator is None:
        raise _refused(right, "cannot be compared like this")
    first, second = _operand(left), _operand(right)
    _check_types(left, first, second)
    return Compare(_dated(first, second), operator, _dated(second, first))


def _membership(left: ast.expr, right: ast.expr) -> Condition:
    if isinstance(right, ast.Name):
        name = _field(right)
        part = _operand(left)
        if FIELDS[name] is not str or not isinstance(part, str):
            raise _refused(left, f"cannot be part of {name!r}")
        return Contains(name, part)
    if isinstance(left, ast.Name) and isinstance(right, ast.Tuple | ast.List):
        field = FieldName(_field(left))
        values = []
        for item in right.elts:
            value = _operand(item)
            _check_types(item, field, value)
            values.append(_dated(value, field))
        return OneOf(field.name, tuple(cast("list[Scalar]", values)))
    raise _refused(right, "is neither a field nor a list of values")


def _operand(node: ast.expr) -> Operand:
    if isinstance(node, ast.Name):
        name = _field(node)
        if name == "tags":
            raise _refused(node, "is a set of words", "Write: 'beach' in tags")
        return FieldName(name)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _operand(node.operand)
        if isinstance(number, int | float):
            return -number
    is_plain = isinstance(node, ast.Constant) and type(node.value) in (int, float, str)
    if isinstance(node, ast.Constant) and is_plain:
        value = cast("int | float | str", node.value)
        if not isinstance(value, str) and not abs(value) < MOST:
            raise _refused(node, "is too large")
        return value
    raise _refused(node, "is neither a field nor a value")


def _field(node: ast.Name) -> str:
    if node.id not in FIELDS:
        raise _refused(node, "is no field", f"Fields: {', '.join(FIELDS)}.")
    return node.id


def _check_types(node: ast.expr, first: Operand, second: Operand) -> None:
    def is_text(operand: Operand) -> bool:
        kind = FIELDS[operand.name] if isinstance(operand, FieldName) else type(operand)
        return kind is str

    if not isinstance(first, FieldName) and not isinstance(second, FieldName):
        raise _refused(node, "is compared with no field", f"Fields: {', '.join(FIELDS)}.")
    if is_text(first) == is_text(second):
        return
    named = first if isinstance(first, FieldName) else second
    name = named.name if isinstance(named, FieldName) else ""
    wants = "a text in quotes" if FIELDS.get(name) is str else "a number"
    raise _refused(node, f"is compared with the wrong kind of value: {name} takes {wants}")


def _dated(value: Operand, other: Operand) -> Operand:
    """Values of dates and orientations in the one form in which they are compared."""
    if isinstance(value, FieldName) or not isinstance(other, FieldName):
        return value
    if other.name == "taken_at":
        return parse_date(str(value))
    if other.name == "orientation" and str(value).lower() not in _ORIENTATIONS:
        raise InvalidQueryError(
            f"{value!r} is no orientation.", f"Known: {', '.join(_ORIENTATIONS)}."
        )
    return value


def _refused(node: ast.expr, why: str, hint: str = _EXAMPLE) -> InvalidQueryError:
    try:
        shown = ast.unparse(node)
    except (ValueError, RecursionError):
        shown = "an expression"
    return InvalidQueryError(
        f"In the condition, {shown[:60]!r} at character {node.col_offset + 1} {why}.", hint
    )
