"""Conditions on pictures, as a person types them. Pure.

A condition is written like an expression of Python and read by Python's own parser, of whose tree
only comparisons, ``and``, ``or``, ``not``, ``in`` and the four operations of arithmetic are let
through. Nothing is evaluated but operations on two numbers.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable
from datetime import datetime
from typing import Literal, cast

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.queries import (
    FIELDS,
    All,
    AnyOf,
    Arithmetic,
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
# An unfinished text lasts to the end, so that the parser speaks of its quote, not of what is in it.
_QUOTED = r"""('(?:[^'\\]|\\.)*(?:'|\\?$)|"(?:[^"\\]|\\.)*(?:"|\\?$))"""
# Outside of quotes, as SQL writes it.
_SQL_WORDS = re.compile(_QUOTED + r"|\b(AND|OR|NOT|IN|IS|NULL|null)\b")
_FOREIGN = re.compile(
    _QUOTED + r"|(?<![=!<>:])(=)(?!=)|(<>|&&|\|\||\blike\b|\bLIKE\b|;|#|[\0\ud800-\udfff])"
)
_HALVES = re.compile("[\ud800-\udfff]")
_BREAKS = str.maketrans("\t\n\v\f\r", " " * 5)
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

Operation = Literal["+", "-", "*", "/"]
_OPERATIONS: dict[type[ast.operator], Operation] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_CALCULATED: dict[Operation, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
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
    try:
        return _condition(_tree(text).body, 0)
    except RecursionError as error:
        raise InvalidQueryError("The condition is nested too deeply.") from error


def _tree(text: str) -> ast.Expression:
    """What Python's parser makes of it, with the places counted in characters of ``text``."""
    line = _SQL_WORDS.sub(_as_python, text.translate(_BREAKS))
    python = line.strip()
    before = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            # Python advises on strange escapes and numbers; whoever searches wrote no program.
            warnings.simplefilter("ignore")
            tree = ast.parse(python, mode="eval")
    except SyntaxError as error:
        place = before + error.offset if error.offset else len(text) + 1
        raise InvalidQueryError(
            f"The condition cannot be read at character {place}.", _EXAMPLE
        ) from error
    except (ValueError, MemoryError) as error:
        raise InvalidQueryError("The condition cannot be read.", _EXAMPLE) from error
    encoded = python.encode()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            # The parser counts bytes of UTF-8.
            node.col_offset = before + len(encoded[: node.col_offset].decode())
    return tree


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
        f"{text[:60]!r} is not a date.", "Write 2020, 2020-06, 2020-06-15 or 2020-06-15T12:30."
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
    # Python reads 4_8 as 48.
    if "_" in text or not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < km < math.inf):
        raise InvalidQueryError(
            f"{text[:60]!r} is not a circle on the Earth.",
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
    raise _refused(node, "is not a comparison")


def _comparison(left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Condition:
    if isinstance(sign, ast.In | ast.NotIn):
        inside = _membership(left, right)
        return inside if isinstance(sign, ast.In) else Not(inside)
    named = right if _is_nothing(left) else left if _is_nothing(right) else None
    if isinstance(named, ast.Name):
        missing = Missing(_field(named))
        if isinstance(sign, ast.Is | ast.Eq):
            return missing
        if isinstance(sign, ast.IsNot | ast.NotEq):
            return Not(missing)
    relation = _OPERATORS.get(type(sign))
    if relation is None:
        raise _refused(right, "cannot be compared like this")
    first, second = _operand(left), _operand(right)
    _check_types(left, first, second)
    return Compare(_dated(left, first, second), relation, _dated(right, second, first))


def _is_nothing(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _membership(left: ast.expr, right: ast.expr) -> Condition:
    if isinstance(right, ast.Name):
        name = _field(right)
        part = _operand(left)
        if FIELDS[name] is not str or not isinstance(part, str):
            raise _refused(left, f"cannot be part of {name!r}")
        return Contains(name, part)
    field = _operand(left)
    if not isinstance(right, ast.Tuple | ast.List):
        raise _refused(right, "is neither a field nor a list of values")
    values = []
    for item in right.elts:
        value = _operand(item)
        _check_types(item, field, value)
        values.append(_dated(item, value, field))
    if isinstance(field, FieldName) and not any(_has_field(value) for value in values):
        return OneOf(field.name, tuple(cast("list[Scalar]", values)))
    return AnyOf(tuple(Compare(field, "==", value) for value in values))


def _operand(node: ast.expr, depth: int = 0) -> Operand:
    if depth > MOST_DEPTH:
        raise InvalidQueryError("The condition is nested too deeply.")
    if isinstance(node, ast.Name):
        name = _field(node)
        if name == "tags":
            raise _refused(node, "is a set of words", "Write: 'beach' in tags")
        return FieldName(name)
    if isinstance(node, ast.BinOp):
        return _calculated(node, depth)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _number(node.operand, depth + 1)
        if isinstance(node.op, ast.UAdd):
            return number
        return Arithmetic(-1, "*", number) if _has_field(number) else _CALCULATED["-"](0, number)
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, str):
        if not value.isascii() and _HALVES.search(value):
            raise _refused(node, "is not a text: it has half of a character")
        return value
    # To Python True is a number, too.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _bounded(node, value)
    raise _refused(node, "is neither a field nor a value")


def _calculated(node: ast.BinOp, depth: int) -> Operand:
    sign = _OPERATIONS.get(type(node.op))
    if sign is None:
        raise _refused(node, "is not a known calculation", "Calculate with +, -, * and /.")
    left, right = _number(node.left, depth + 1), _number(node.right, depth + 1)
    if sign == "/" and right == 0:
        raise _refused(node, "divides by zero", "Divide by another number.")
    if _has_field(left) or _has_field(right):
        return Arithmetic(left, sign, right)
    return _bounded(node, _CALCULATED[sign](left, right))


def _number(node: ast.expr, depth: int) -> Operand:
    operand = _operand(node, depth)
    if _is_text(operand):
        raise _refused(node, "is a text, with which nothing can be calculated")
    return operand


def _bounded(node: ast.expr, number: float) -> float:
    if not abs(number) < MOST:
        raise _refused(node, "is too large", f"Numbers are below {MOST:,}.")
    return number


def _has_field(operand: Operand) -> bool:
    return isinstance(operand, FieldName | Arithmetic)


def _is_text(operand: Operand) -> bool:
    kind = FIELDS[operand.name] if isinstance(operand, FieldName) else type(operand)
    return kind is str


def _field(node: ast.Name) -> str:
    if node.id not in FIELDS:
        raise _refused(node, "is not a field", f"Fields: {', '.join(FIELDS)}.")
    return node.id


def _check_types(node: ast.expr, first: Operand, second: Operand) -> None:
    if not _has_field(first) and not _has_field(second):
        raise _refused(node, "is compared with no field", f"Fields: {', '.join(FIELDS)}.")
    if _is_text(first) == _is_text(second):
        return
    named = first if _has_field(first) else second
    name = named.name if isinstance(named, FieldName) else "a calculation"
    wants = "a text in quotes" if _is_text(named) else "a number"
    raise _refused(node, f"is compared with the wrong kind of value: {name} takes {wants}")


def _dated(node: ast.expr, value: Operand, other: Operand) -> Operand:
    """Values of dates and orientations in the one form in which they are compared."""
    if isinstance(value, FieldName) or not isinstance(other, FieldName):
        return value
    if other.name == "taken_at":
        try:
            return parse_date(str(value))
        except InvalidQueryError as error:
            raise _refused(node, "is not a date", error.hint) from error
    if other.name == "orientation" and str(value).lower() not in _ORIENTATIONS:
        raise _refused(node, "is not an orientation", f"Known: {', '.join(_ORIENTATIONS)}.")
    return value


def _refused(node: ast.expr, why: str, hint: str = _EXAMPLE) -> InvalidQueryError:
    try:
        shown = ast.unparse(node)
    except (ValueError, RecursionError):
        shown = "an expression"
    return InvalidQueryError(
        f"In the condition, {shown[:60]!r} at character {node.col_offset + 1} {why}.", hint
    )
