"""Messages for validation errors, in place of pydantic's own.

The command line, the server, the web page, MCP and LangChain validate their inputs with pydantic,
whose error types are listed at https://docs.pydantic.dev/latest/errors/validation_errors/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_QUOTED_CHARS = 60
"""Maximum number of characters of an invalid value quoted in a message."""

MESSAGES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "extra_forbidden": "is unknown",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_type": "must be a whole number",
    "json_invalid": "is not JSON: {error}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list",
    "missing": "is missing",
    "model_attributes_type": "must be an object",
    "model_type": "must be an object",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a string",
}
"""Predicate for each pydantic error type; the name of the value precedes it."""

OTHER_NAMES = {"by": "fields", "fields": "by"}
"""Names that a value has elsewhere: HTTP counts by ``fields``, an assistant ``by`` fields."""

ERRORS_WITHOUT_VALUE = frozenset({"extra_forbidden", "json_invalid", "missing"})


def format_validation_error(name: str, error: Mapping[str, Any]) -> str:
    """Return the message for one error, such as "limit must be a whole number, got 'ten'".

    Args:
        name: Name of the value, as the user writes it.
        error: One of pydantic's ``ValidationError.errors()``.
    """
    message = f"{name} {_describe_requirement(error)}"
    if error["type"] not in ERRORS_WITHOUT_VALUE and isinstance(error["input"], str | int | float):
        message += f", got {quote_value(error['input'])}"
    return message


def format_validation_errors(
    errors: Iterable[Mapping[str, Any]], known_names: Iterable[str] = ()
) -> str:
    """Return one message for several errors; each names its location, such as ``filters.tag``.

    Args:
        errors: The ``ValidationError.errors()`` of pydantic.
        known_names: Names to suggest in place of unknown ones.
    """
    return "; ".join(
        format_validation_error(error_location(error), error) + _suggest_name(error, known_names)
        for error in errors
    )


def _suggest_name(error: Mapping[str, Any], known_names: Iterable[str]) -> str:
    if error["type"] != "extra_forbidden":
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - only for mistakes

    name, known = str(error["loc"][-1]), list(known_names)
    other = OTHER_NAMES.get(name)
    names = [other] if other in known else get_close_matches(name, known, n=1)
    return f" (did you mean {names[0]!r}?)" if names else ""


def error_location(error: Mapping[str, Any]) -> str:
    """Return the location of an invalid value as names joined by dots."""
    names = error["loc"]
    if error["type"] == "json_invalid" and len(names) > 1:
        # FastAPI ends it with the position of the character.
        names = names[:-1]
    return ".".join(map(str, names)) or "it"


def _describe_requirement(error: Mapping[str, Any]) -> str:
    template, context = MESSAGES.get(error["type"]), error.get("ctx", {})
    if template is not None:
        return template.format(**context)
    if error["type"] in ("enum", "literal_error"):
        return f"must be {context['expected']}"
    if error["type"] in ("string_too_short", "too_short", "too_long"):
        return _describe_length(error["type"], context)
    # "Input should be a valid date", "Value error, ..." and others.
    message = re.sub(r"^Value error, ", "", error["msg"])
    return re.sub(r"^(?:Input|Value) should ", "must ", message).replace(
        "must be a valid", "must be a"
    )


def _describe_length(error_type: str, context: Mapping[str, Any]) -> str:
    if error_type == "too_long":
        bound, number = "at most", context["max_length"]
    else:
        bound, number = "at least", context["min_length"]
    if error_type == "string_too_short":
        unit = "character" if number == 1 else "characters"
    else:
        unit = "entry" if number == 1 else "entries"
    return f"must have {bound} {number} {unit}"


def quote_value(value: object) -> str:
    """Return a value as messages quote it; a long one is cut."""
    try:
        quoted = repr(value)
    except ValueError:
        # Python refuses to format integers of more than 4,300 digits.
        return "a number with thousands of digits"
    return quoted if len(quoted) <= MAX_QUOTED_CHARS else f"{quoted[:MAX_QUOTED_CHARS]}..."
