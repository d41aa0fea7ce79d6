"""Statements for psycopg: parameters in its form, and the few fragments that writers use.

Statements are written once, in SQLite's SQL with ``?`` or ``:name``; what readers write in another
way for PostgreSQL is in `mmsearch.catalog.dialects`. What SQLite calls a function, such as
``total_changes``, is a function of the same name in the schema of a catalog.
"""

from __future__ import annotations

import re
from functools import lru_cache

_FRAGMENTS = (
    (
        re.compile(r"SELECT value FROM json_each\(([^()]+)\)"),
        r"SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(\1 AS json))",
    ),
    (re.compile(r"\bx'([0-9a-f]*)'"), r"CAST('\\x\1' AS bytea)"),
    (re.compile(r"\bAS BLOB\)"), "AS bytea)"),
    (re.compile(r"\bIS NOT (?!NULL\b|DISTINCT\b)"), "IS DISTINCT FROM "),
)

# A string, a quoted name, a cast, a parameter, or a percent sign, which psycopg reads itself.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|::|\?|:([a-z_]\w*)|%")


# Statements with a list of marks differ by its length.
@lru_cache(maxsize=4096)
def to_postgres(statement: str) -> str:
    """Return a statement with the parameters of psycopg, in the SQL of PostgreSQL."""
    for pattern, replacement in _FRAGMENTS:
        statement = pattern.sub(replacement, statement)
    return _TOKEN.sub(_translate_token, statement)


def _translate_token(match: re.Match[str]) -> str:
    if match[0] == "?":
        return "%s"
    return f"%({match[1]})s" if match[1] else match[0].replace("%", "%%")
