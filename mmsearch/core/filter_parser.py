"""Values of filters as users give them, and the parser of conditions. Pure.

A condition is written like a Python expression and parsed by Python's own parser. Only comparisons,
``and``, ``or``, ``not``, ``in`` and the four arithmetic operations are accepted from the syntax
tree. Nothing is evaluated except operations on two numbers.
"""

from __future__ import annotations

import ast
import keyword
import math
import operator
import re
import warnings
from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import Any, Literal, TypeVar, cast, get_args

from mmsearch.core.arguments import KINDS, describe_value, one_or_many, to_int, to_text_or_path
from mmsearch.core.errors import Hint, InvalidQueryError
from mmsearch.core.filters import FilterSpec, GeoCircle
from mmsearch.core.query import (
    FILTER_FIELDS,
    LIST_FIELDS,
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
    metadata_member,
)

MAX_CHARACTERS = 2000
MAX_DEPTH = 50
MAX_EXACT_INT = 2**53
"""Limit of numbers: below it, integers and floats compare exactly everywhere."""

_EXAMPLE = Hint(
    "For example: {}\"width > 1000 and taken_at >= '2020-01-01'\"", "where=", "--where "
)
_ORIENTATIONS = ("landscape", "portrait", "square")
_DATE_FORMATS = (
    (re.compile(r"\d{4}"), "{}-01-01T00:00:00"),
    (re.compile(r"\d{4}-\d{2}"), "{}-01T00:00:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}"), "{}T00:00:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}"), "{}:00"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}"), "{}"),
)
# An unclosed string extends to the end, so that the error is about its quote, not its content.
_QUOTED = r"""('(?:[^'\\]|\\.)*(?:'|\\?$)|"(?:[^"\\]|\\.)*(?:"|\\?$))"""
# Keywords as SQL writes them, outside quotes.
_SQL_KEYWORDS = re.compile(_QUOTED + r"|\b(AND|OR|NOT|IN|IS|NULL|null)\b")
_UNSUPPORTED_SYNTAX = re.compile(
    _QUOTED + r"|(?<![=!<>:])(=)(?!=)|(<>|&&|\|\||\blike\b|\bLIKE\b|;|#|[\0\ud800-\udfff])"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_WHITESPACE = str.maketrans("\t\n\v\f\r", " " * 5)
_REPLACEMENTS = {"=": "==", "<>": "!=", "&&": "and", "||": "or", "like": "'part' in camera"}

_FIELD_NODES = (ast.Name, ast.Attribute, ast.Subscript)
"""Nodes of the syntax tree that name a field."""

Given = TypeVar("Given")

ComparisonOp = Literal["==", "!=", "<", "<=", ">", ">="]
_COMPARISON_OPS: dict[type[ast.cmpop], ComparisonOp] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}

ArithmeticOp = Literal["+", "-", "*", "/"]
_ARITHMETIC_OPS: dict[type[ast.operator], ArithmeticOp] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_ARITHMETIC_FUNCTIONS: dict[ArithmeticOp, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def parse_condition(text: str) -> Condition:
    """Parse a condition such as ``width > 1000 and taken_at >= '2020-01-01'``.

    Raises:
        InvalidQueryError: The condition is invalid; the message says where and why.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidQueryError(
            f"The condition has {len(text):,} characters; {MAX_CHARACTERS:,} are allowed."
        )
    for match in _UNSUPPORTED_SYNTAX.finditer(text):
        token = match[2] or match[3]
        if token:
            replacement = _REPLACEMENTS.get(token.lower())
            raise InvalidQueryError(
                f"The condition has {token!r} at character {match.start() + 1}.",
                f"Write {replacement!r} instead." if replacement else _EXAMPLE,
            )
    try:
        return _parse_node(_parse_ast(text).body, 0)
    except RecursionError as error:
        raise InvalidQueryError("The condition is nested too deeply.") from error


def _parse_ast(text: str) -> ast.Expression:
    """Return the syntax tree of a condition, with offsets in characters of ``text``."""
    line = _SQL_KEYWORDS.sub(_to_python, text.translate(_WHITESPACE))
    source = line.strip()
    leading = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            # Python warns about unusual escapes and numbers; the warnings would confuse a user.
            warnings.simplefilter("ignore")
            tree = ast.parse(source, mode="eval")
    except SyntaxError as error:
        position = leading + error.offset if error.offset else len(text) + 1
        raise InvalidQueryError(
            f"The condition cannot be read at character {position}.", _EXAMPLE
        ) from error
    except (ValueError, MemoryError) as error:
        raise InvalidQueryError("The condition cannot be read.", _EXAMPLE) from error
    encoded = source.encode()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            # The parser counts bytes of UTF-8, not characters.
            node.col_offset = leading + len(encoded[: node.col_offset].decode())
    return tree


def parse_date(text: str) -> str:
    """Return the start of a date or time, in ISO 8601 to the second, to compare with `taken_at`.

    Args:
        text: ``2020``, ``2020-06``, ``2020-06-15`` or ``2020-06-15T12:30[:00]``.

    Raises:
        InvalidQueryError: The text is not such a date.
    """
    normalized = text.strip().replace(" ", "T")
    for pattern, template in _DATE_FORMATS:
        if pattern.fullmatch(normalized):
            try:
                return datetime.fromisoformat(template.format(normalized)).isoformat()
            except ValueError:
                break
    raise InvalidQueryError(
        f"{text[:60]!r} is not a date.", "Write 2020, 2020-06, 2020-06-15 or 2020-06-15T12:30."
    )


def parse_near(text: str) -> GeoCircle:
    """Parse ``LAT,LON,KM`` into a circle.

    Raises:
        InvalidQueryError: The text is malformed, the position is not on the Earth, or the radius is
            not above 0.
    """
    try:
        latitude, longitude, km = (float(part) for part in text.split(","))
    except ValueError:
        latitude = longitude = km = math.nan
    # float() accepts 4_8 as 48.
    if "_" in text or not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < km < math.inf):
        raise InvalidQueryError(
            f"{text[:60]!r} is not a circle on the Earth.",
            Hint(
                "Write degrees north, degrees east and kilometres: {}",
                "near='48.86,2.35,10'",
                "--near 48.86,2.35,10",
            ),
        )
    return GeoCircle(latitude, longitude, km)


# --- values of filters ---

FORMAT_ALIASES = {"JPG": "JPEG", "TIF": "TIFF", "HEIC": "HEIF"}
MAX_NUMBERS = {"pixels": 2**31, "stars": 5}
"""Maximum of a filter whose value is a number, by its `FilterSpec.kind`."""

_EXPECTED = {
    "pixels": "a whole number of at least 0",
    "stars": f"a whole number from 0 to {MAX_NUMBERS['stars']}",
    "date": "a date such as '2020-06', or a datetime",
    "format": "a format such as 'jpeg'",
    "circle": "a circle such as '48.86,2.35,10', or three numbers",
    "condition": "a condition such as 'width > 1000'",
    "flag": "True or False",
    "text": "a string",
    "choice": "a string",
}


def read_filter(spec: FilterSpec, value: Any) -> Any:
    """Return the value of a filter as `Filters` holds it.

    Args:
        spec: The filter.
        value: What a user gave; see `Filters`. One value stands for a list of one.

    Raises:
        InvalidQueryError: The value is not one of this filter.
    """
    read = partial(_READERS[spec.kind], spec)
    try:
        return one_or_many(read)(value) if spec.multiple else read(value)
    except (TypeError, ValueError, OverflowError) as error:
        expected = _EXPECTED[spec.kind]
        several = " or a list of them" if spec.multiple else ""
        raise InvalidQueryError(
            f"{spec.keyword} must be {expected}{several}, got {describe_value(value)}.",
            Hint("See {}.", "help(mmsearch.Filters)", "'mmsearch query --help'"),
        ) from error


def _read_date(spec: FilterSpec, value: Any) -> str:
    # A date of numpy, which is not imported here.
    if hasattr(value, "dtype"):
        value = value.astype("datetime64[s]").item()
    if isinstance(value, datetime):
        # Dates of pictures are local times without a zone.
        local = value.astimezone().replace(tzinfo=None) if value.tzinfo else value
        return local.isoformat(timespec="seconds")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00"
    return parse_date(_require(str, value))


def _read_number(spec: FilterSpec, value: Any) -> int:
    number = to_int(value)
    # The catalog knows which numbers of pixels it can compare.
    if number < 0 or (spec.kind == "stars" and number > MAX_NUMBERS["stars"]):
        raise ValueError(value)
    return number


def _read_flag(spec: FilterSpec, value: Any) -> bool:
    return bool(KINDS["bool"].convert(value))


def _read_choice(spec: FilterSpec, value: Any) -> str:
    text = _require(str, value).lower()
    if text not in spec.choices:
        raise InvalidQueryError(
            f"Unknown {spec.name} {value!r}.", f"Known: {', '.join(spec.choices)}."
        )
    return text


def _read_format(spec: FilterSpec, value: Any) -> str:
    name = _require(str, value).upper().removeprefix(".")
    return FORMAT_ALIASES.get(name, name)


def _read_circle(spec: FilterSpec, value: Any) -> GeoCircle:
    if isinstance(value, GeoCircle):
        value = (value.latitude, value.longitude, value.km)
    if not isinstance(value, str):
        value = ",".join(repr(KINDS["float"].convert(number)) for number in value)
    return parse_near(value)


def _read_condition(spec: FilterSpec, value: Any) -> Condition:
    if isinstance(value, get_args(Condition)):
        return cast("Condition", value)
    return parse_condition(_require(str, value))


def _require(kind: type[Given], value: Any) -> Given:
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


_READERS: dict[str, Callable[[FilterSpec, Any], Any]] = {
    "text": lambda spec, value: to_text_or_path(value),
    "date": _read_date,
    "pixels": _read_number,
    "stars": _read_number,
    "flag": _read_flag,
    "choice": _read_choice,
    "format": _read_format,
    "circle": _read_circle,
    "condition": _read_condition,
}


def format_condition(condition: Condition) -> str:
    """Return a condition as text that `parse_condition` reads as the same condition."""
    match condition:
        case Compare():
            left, right = map(_format_operand, (condition.left, condition.right))
            return f"{left} {condition.operator} {right}"
        case Contains():
            return f"{condition.substring!r} in {_format_field(condition.name)}"
        case OneOf():
            values = ", ".join(map(repr, condition.values))
            return f"{_format_field(condition.name)} in [{values}]"
        case IsMissing():
            return f"{_format_field(condition.name)} == None"
        case Not():
            return f"not ({format_condition(condition.condition)})"
        case AllOf() | AnyOf():
            word = " and " if isinstance(condition, AllOf) else " or "
            return word.join(f"({format_condition(part)})" for part in condition.conditions)


def _format_field(name: str) -> str:
    member = metadata_member(name)
    if member is None or (member.isidentifier() and not keyword.iskeyword(member)):
        return name
    return f"metadata[{member!r}]"


def _format_operand(operand: Operand) -> str:
    if isinstance(operand, FieldName):
        return _format_field(operand.name)
    if isinstance(operand, Arithmetic):
        left, right = map(_format_operand, (operand.left, operand.right))
        return f"({left} {operand.operator} {right})"
    return repr(operand)


# --- conditions ---


def _to_python(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    return "None" if match[2].upper() == "NULL" else match[2].lower()


def _parse_node(node: ast.expr, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise InvalidQueryError("The condition is nested too deeply.")
    if isinstance(node, ast.BoolOp):
        conditions = tuple(_parse_node(value, depth + 1) for value in node.values)
        return AllOf(conditions) if isinstance(node.op, ast.And) else AnyOf(conditions)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return Not(_parse_node(node.operand, depth + 1))
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        conditions = tuple(_parse_comparison(left, op, right) for left, op, right in pairs)
        return conditions[0] if len(conditions) == 1 else AllOf(conditions)
    raise _error_at(node, "is not a comparison")


def _parse_comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> Condition:
    if isinstance(op, ast.In | ast.NotIn):
        membership = _parse_membership(left, right)
        return membership if isinstance(op, ast.In) else Not(membership)
    field_node = right if _is_none(left) else left if _is_none(right) else None
    if isinstance(field_node, _FIELD_NODES):
        missing = IsMissing(_field_name(field_node))
        if isinstance(op, ast.Is | ast.Eq):
            return missing
        if isinstance(op, ast.IsNot | ast.NotEq):
            return Not(missing)
    comparison_op = _COMPARISON_OPS.get(type(op))
    if comparison_op is None:
        raise _error_at(right, "cannot be compared like this")
    first, second = _parse_operand(left), _parse_operand(right)
    _check_types(left, first, second)
    return Compare(
        _normalize_value(left, first, second), comparison_op, _normalize_value(right, second, first)
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _parse_membership(left: ast.expr, right: ast.expr) -> Condition:
    if isinstance(right, _FIELD_NODES):
        name = _field_name(right)
        part = _parse_operand(left)
        if FILTER_FIELDS.get(name, str) is not str or not isinstance(part, str):
            raise _error_at(left, f"cannot be part of {name!r}")
        return Contains(name, part)
    field = _parse_operand(left)
    if not isinstance(right, ast.Tuple | ast.List):
        raise _error_at(right, "is neither a field nor a list of values")
    values = []
    for item in right.elts:
        value = _parse_operand(item)
        _check_types(item, field, value)
        values.append(_normalize_value(item, value, field))
    if isinstance(field, FieldName) and not any(_has_field(value) for value in values):
        return OneOf(field.name, tuple(cast("list[Scalar]", values)))
    return AnyOf(tuple(Compare(field, "==", value) for value in values))


def _parse_operand(node: ast.expr, depth: int = 0) -> Operand:
    if depth > MAX_DEPTH:
        raise InvalidQueryError("The condition is nested too deeply.")
    if isinstance(node, _FIELD_NODES):
        name = _field_name(node)
        if name in LIST_FIELDS:
            raise _error_at(node, "is a set of words", f"Write: 'beach' in {name}")
        return FieldName(name)
    if isinstance(node, ast.BinOp):
        return _parse_arithmetic(node, depth)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _parse_number(node.operand, depth + 1)
        if isinstance(node.op, ast.UAdd):
            return number
        return (
            Arithmetic(-1, "*", number)
            if _has_field(number)
            else _ARITHMETIC_FUNCTIONS["-"](0, number)
        )
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, str):
        if not value.isascii() and _SURROGATES.search(value):
            raise _error_at(node, "contains a lone surrogate")
        return value
    # bool is a subclass of int.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _check_bounds(node, value)
    raise _error_at(node, "is neither a field nor a value")


def _parse_arithmetic(node: ast.BinOp, depth: int) -> Operand:
    op = _ARITHMETIC_OPS.get(type(node.op))
    if op is None:
        raise _error_at(node, "uses an unsupported operation", "Use +, -, * or /.")
    left, right = _parse_number(node.left, depth + 1), _parse_number(node.right, depth + 1)
    if op == "/" and right == 0:
        raise _error_at(node, "divides by zero", "Divide by another number.")
    if _has_field(left) or _has_field(right):
        return Arithmetic(left, op, right)
    return _check_bounds(node, _ARITHMETIC_FUNCTIONS[op](left, right))


def _parse_number(node: ast.expr, depth: int) -> Operand:
    operand = _parse_operand(node, depth)
    if _is_text(operand):
        raise _error_at(node, "is text and cannot be used in arithmetic")
    return operand


def _check_bounds(node: ast.expr, number: float) -> float:
    if not abs(number) < MAX_EXACT_INT:
        raise _error_at(node, "is too large", f"Numbers are below {MAX_EXACT_INT:,}.")
    return number


def _has_field(operand: Operand) -> bool:
    return isinstance(operand, FieldName | Arithmetic)


def _is_text(operand: Operand) -> bool:
    kind = FILTER_FIELDS.get(operand.name) if isinstance(operand, FieldName) else type(operand)
    return kind is str


def _is_metadata(operand: Operand) -> bool:
    return isinstance(operand, FieldName) and operand.member is not None


def _field_name(node: ast.Name | ast.Attribute | ast.Subscript) -> str:
    """Return the name of a field; that of a member of the metadata begins with ``metadata.``."""
    if isinstance(node, ast.Name):
        if node.id in FILTER_FIELDS:
            return node.id
    elif isinstance(node.value, ast.Name) and node.value.id == "metadata":
        if isinstance(node, ast.Attribute):
            return f"metadata.{node.attr}"
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            if _SURROGATES.search(node.slice.value):
                raise _error_at(node, "contains a lone surrogate")
            return f"metadata.{node.slice.value}"
    fields = ", ".join(FILTER_FIELDS)
    raise _error_at(node, "is not a field", f"Fields: {fields}, metadata.NAME.")


def _check_types(node: ast.expr, first: Operand, second: Operand) -> None:
    if not _has_field(first) and not _has_field(second):
        raise _error_at(
            node,
            "is not compared with a field",
            f"Fields: {', '.join(FILTER_FIELDS)}, metadata.NAME.",
        )
    if _is_text(first) == _is_text(second) or _is_metadata(first) or _is_metadata(second):
        return
    field = first if _has_field(first) else second
    name = field.name if isinstance(field, FieldName) else "a calculation"
    expected_type = "a text in quotes" if _is_text(field) else "a number"
    raise _error_at(node, f"is compared with the wrong kind of value: {name} takes {expected_type}")


def _normalize_value(node: ast.expr, value: Operand, other: Operand) -> Operand:
    """Return a value in the form in which it is compared: dates are normalized.

    Raises:
        InvalidQueryError: The value is not a valid date or orientation.
    """
    if isinstance(value, FieldName) or not isinstance(other, FieldName):
        return value
    if other.name == "taken_at":
        try:
            return parse_date(str(value))
        except InvalidQueryError as error:
            raise _error_at(node, "is not a date", error.hint) from error
    if other.name == "orientation" and str(value).lower() not in _ORIENTATIONS:
        raise _error_at(node, "is not an orientation", f"Known: {', '.join(_ORIENTATIONS)}.")
    return value


def _error_at(node: ast.expr, reason: str, hint: str = _EXAMPLE) -> InvalidQueryError:
    try:
        node_source = ast.unparse(node)
    except (ValueError, RecursionError):
        node_source = "an expression"
    return InvalidQueryError(
        f"In the condition, {node_source[:60]!r} at character {node.col_offset + 1} {reason}.", hint
    )


# --- conditions on metadata in Python ---

_MAPPING_OPS: dict[str, ComparisonOp] = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
}


def parse_metadata_filter(name: str, value: Any) -> Condition:
    """Return the condition of an item such as ``"metadata.price": {"lt": 100}`` of a mapping.

    Args:
        name: ``metadata.NAME``.
        value: A value that must be equal, a list of which one must be equal, or a mapping with
            ``eq``, ``ne``, ``lt``, ``lte``, ``gt``, ``gte``, ``in`` or ``contains``.

    Raises:
        InvalidQueryError: The value is of another kind.
    """
    if not isinstance(value, dict):
        value = {"in" if isinstance(value, list | tuple | set) else "eq": value}
    conditions: list[Condition] = []
    for op, operand in value.items():
        if op in _MAPPING_OPS:
            right = _to_scalar(name, operand)
            conditions.append(Compare(FieldName(name), _MAPPING_OPS[op], right))
        elif op == "in" and isinstance(operand, list | tuple | set):
            values = tuple(_to_scalar(name, each) for each in operand)
            conditions.append(OneOf(name, values))
        elif op == "contains" and isinstance(operand, str):
            conditions.append(Contains(name, operand))
        else:
            raise InvalidQueryError(
                f"{name} cannot be compared by {op!r} with {describe_value(operand)}.",
                f"Use {', '.join(_MAPPING_OPS)}, in or contains.",
            )
    return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))


def _to_scalar(name: str, value: Any) -> Scalar:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and not _SURROGATES.search(value):
        return value
    if isinstance(value, int | float) and abs(value) < MAX_EXACT_INT:
        return value
    raise InvalidQueryError(
        f"{name} cannot be compared with {describe_value(value)}.",
        f"Use a text, or a number below {MAX_EXACT_INT:,}.",
    )
