"""Conditions on the fields of items as SQL of PostgreSQL; values are only ever parameters."""

from __future__ import annotations

from typing import Any

from psycopg import sql

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
)
from mmsearch.core.server_filters import SEARCH_FIELDS

_OPERATORS = {
    "==": sql.SQL("="),
    "!=": sql.SQL("<>"),
    **{symbol: sql.SQL(symbol) for symbol in ("<", "<=", ">", ">=")},
}


def field_column(name: str) -> sql.Identifier:
    """Return the column of a field."""
    return sql.Identifier(f"field_{name}")


def translate_condition(  # noqa: C901, PLR0911 - one return per case
    condition: Condition, values: dict[str, Any]
) -> sql.Composable:
    """Return the SQL of a condition of `make_server_condition`, which is never NULL.

    Args:
        condition: The condition.
        values: Gets the values of the named parameters in the SQL.
    """
    match condition:
        case AllOf(parts):
            return _join(" AND ", parts, "true", values)
        case AnyOf(parts):
            return _join(" OR ", parts, "false", values)
        case Not(part):
            return sql.SQL("NOT {}").format(translate_condition(part, values))
        case IsMissing(name) if SEARCH_FIELDS[name] == "texts":
            return sql.SQL("(cardinality({}) = 0)").format(field_column(name))
        case IsMissing(name):
            return sql.SQL("({} IS NULL)").format(field_column(name))
        case Contains(name, part) if SEARCH_FIELDS[name] == "texts":
            return sql.SQL(
                "EXISTS (SELECT FROM unnest({}) AS one WHERE strpos(one, {}) > 0)"
            ).format(field_column(name), _bind(part, "text", values))
        case Contains(name, part):
            return sql.SQL("coalesce(strpos({}, {}) > 0, false)").format(
                field_column(name), _bind(part, "text", values)
            )
        case OneOf(name, others) if SEARCH_FIELDS[name] == "texts":
            return sql.SQL("({} && {})").format(
                field_column(name), _bind(list(others), "text[]", values)
            )
        case OneOf(name, others):
            is_text = SEARCH_FIELDS[name] == "text"
            listed: list[Any] = list(others) if is_text else list(map(float, others))
            return sql.SQL("coalesce({} = ANY({}), false)").format(
                field_column(name), _bind(listed, "text[]" if is_text else "float8[]", values)
            )
        case Compare(FieldName(name), symbol, str() as text):
            return sql.SQL("coalesce({} {} {}, false)").format(
                field_column(name), _OPERATORS[symbol], _bind(text, "text", values)
            )
        case Compare(FieldName(name), symbol, int() | float() as number):
            return sql.SQL("coalesce({} {} {}, false)").format(
                field_column(name), _OPERATORS[symbol], _bind(float(number), "float8", values)
            )
        case _:
            raise ValueError(f"not a condition for servers: {condition!r}")


def _join(
    word: str, parts: tuple[Condition, ...], empty: str, values: dict[str, Any]
) -> sql.Composable:
    if not parts:
        return sql.SQL(empty)
    return sql.SQL("({})").format(
        sql.SQL(word).join([translate_condition(part, values) for part in parts])
    )


def _bind(value: Any, kind: str, values: dict[str, Any]) -> sql.Composable:
    name = f"value_{len(values)}"
    values[name] = value
    return sql.SQL("{}::{}").format(sql.Placeholder(name), sql.SQL(kind))
