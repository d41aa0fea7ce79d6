"""Conditions of filters as expressions of Milvus.

A user's text only ever becomes a string literal in which every character but ASCII letters, digits
and spaces is an escape sequence, so that no text can end its literal.

A server may lack missing values (NULL, since 2.5), so a missing number or text is a value that no
item has, and every comparison leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmsearch.core.query import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
    Scalar,
)
from mmsearch.core.server_filters import SEARCH_FIELDS, FieldValue, ItemFields

ID_FIELD, VECTOR_FIELD, DIGEST_FIELD, SPREAD_FIELD = "id", "vector", "digest", "spread"
"""Fields beside those of `SEARCH_FIELDS`: the digest of these fields, and a number that
draws samples."""

MISSING_NUMBER = -1e300
MISSING_TEXT = "\0"
"""Values of a field whose value is missing: a text with NUL is in no collection."""

MAX_TEXT_BYTES = 65535
MAX_LIST_VALUES = 4096
"""Limits of Milvus; the digest of an item beyond them is 0, so that the catalog filters it."""

_MAX_DEPTH = 24
_MAX_CHARACTERS = 500_000
_ALL, _NONE = f"{ID_FIELD} >= 0", f"{ID_FIELD} < 0"


def compile_condition(condition: Condition) -> str | None:
    """Return the expression of a condition, or None if Milvus cannot evaluate it.

    It cannot search for a part of a text: servers before 2.4 compare only the beginning. Very deep
    and very long conditions, which its parser might refuse, are left to the catalog, too.

    Args:
        condition: A condition, as `make_server_condition` returns it.
    """
    expression = _compile(condition, _MAX_DEPTH)
    return None if expression is None or len(expression) > _MAX_CHARACTERS else expression


def compile_ids(ids: Iterable[int], *, negate: bool = False) -> str:
    """Return the expression that a row is, or is not, among ids."""
    listed = ",".join(map(str, map(int, ids)))
    return f"{ID_FIELD} {'not in' if negate else 'in'} [{listed}]"


def join_expressions(*expressions: str | None) -> str:
    """Return the expression that is true if all given ones are; empty without any."""
    given = [expression for expression in expressions if expression]
    return (
        " and ".join(f"({expression})" for expression in given)
        if len(given) > 1
        else given[0]
        if given
        else ""
    )


def make_row(item: ItemFields, digest: int) -> dict[str, object]:
    """Return the values of the fields of a row, without its vector.

    Args:
        item: The fields of an item.
        digest: Their digest; the row gets 0 if a value is beyond the limits of Milvus.
    """
    row: dict[str, object] = {ID_FIELD: int(item.id), DIGEST_FIELD: digest}
    for name, kind in SEARCH_FIELDS.items():
        value, is_kept = _stored(kind, item.values[name])
        row[name] = value
        if not is_kept:
            row[DIGEST_FIELD] = 0
    return row


def _stored(kind: str, value: FieldValue) -> tuple[object, bool]:
    """Return the value that a server keeps, and False if it cannot keep all of it."""
    if value is None:
        return (MISSING_NUMBER if kind == "number" else MISSING_TEXT), True
    if isinstance(value, str):
        return _plain_text(value)
    if not isinstance(value, tuple):
        return float(value), True
    texts = [_plain_text(text) for text in value[:MAX_LIST_VALUES]]
    is_kept = len(value) <= MAX_LIST_VALUES and all(is_kept for _, is_kept in texts)
    return [text for text, _ in texts], is_kept


def _plain_text(text: str) -> tuple[str, bool]:
    encoded = text.replace("\0", "").encode("utf-8", "replace")
    kept = encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
    return kept, kept == text


def _compile(condition: Condition, depth: int) -> str | None:  # noqa: PLR0911 - one per case
    if depth == 0:
        return None
    match condition:
        case AllOf(parts):
            return _join(parts, " and ", _ALL, depth)
        case AnyOf(parts):
            return _join(parts, " or ", _NONE, depth)
        case Not(part):
            inner = _compile(part, depth - 1)
            return None if inner is None else f"not ({inner})"
        case IsMissing(name):
            return _is_missing(name)
        case Compare(FieldName(name), symbol, str() | int() | float() as value):
            # A missing value is below every other one.
            return f"({name} {symbol} {_literal(value)} and not ({_is_missing(name)}))"
        case OneOf(name, values):
            return _one_of(name, values)
        case Contains():
            return None
        case _:
            return None


def _join(parts: Iterable[Condition], operator: str, empty: str, depth: int) -> str | None:
    compiled = [_compile(part, depth - 1) for part in parts]
    given = [part for part in compiled if part is not None]
    if len(given) < len(compiled):
        return None
    return operator.join(f"({part})" for part in given) if given else empty


def _is_missing(name: str) -> str:
    match SEARCH_FIELDS[name]:
        case "texts":
            return f"array_length({name}) == 0"
        case "text":
            return f"{name} == {_literal(MISSING_TEXT)}"
        case _:
            return f"{name} == {_literal(MISSING_NUMBER)}"


def _one_of(name: str, values: Iterable[Scalar]) -> str:
    listed = ", ".join(map(_literal, values))
    if not listed:
        return _NONE
    if SEARCH_FIELDS[name] == "texts":
        return f"array_contains_any({name}, [{listed}])"
    return f"{name} in [{listed}]"


def _literal(value: Scalar) -> str:
    if isinstance(value, str):
        return f'"{"".join(map(_escape, value))}"'
    return repr(float(value))


def _escape(character: str) -> str:
    if character == " " or (character.isascii() and character.isalnum()):
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
