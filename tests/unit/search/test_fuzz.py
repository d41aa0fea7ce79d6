"""Any typed text is parsed or refused with a usage error, without any other exception."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsearch
from mmsearch.core.errors import UsageError
from mmsearch.core.filter_parser import parse_condition, parse_date, parse_near
from mmsearch.search.query_parser import parse_query
from tests.property_budget import examples

PIECES = st.sampled_from(
    [
        "a dog", "width", "height", "taken", "camera", "path", "tag", "format", "size", "lat",
        " and ", " or ", " not ", "(", ")", "[", "]", "{", "}", "<", ">", "==", "!=", "<=", ">=",
        " in ", " = ", "'", '"', "\\", "%", "_", "*", "+", "-", ":", "2:", "-1:", "1e400:", ",",
        "2020-02-30", "1999-12-31", "'2020'", "1", "0x10", "1_000", "9" * 40, "1e309", "nan",
        "lambda:0", "__import__('os')", "f(1)", "a.b", "a[0]", "\0", "\n", "\ud800", "\u202e",
        "(" * 300, "not " * 300, "é", "日本", "./x.jpg", "…", "#", ";", "--",
    ]
)  # fmt: skip
LINES = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=60))


@pytest.mark.parametrize("parse", [parse_query, parse_condition, parse_date, parse_near])
@settings(max_examples=examples(1000), deadline=None)
@given(line=LINES)
def test_parsers_any_line_returns_stable_value_or_raises_usage_error(parse, line):
    # Any other exception fails the test.
    with suppress(UsageError):
        parsed = parse(line)
        assert parsed is not None
        assert parse(line) == parsed


@settings(max_examples=examples(500), deadline=None)
@given(where=LINES, near=LINES, after=LINES, path=LINES)
def test_parse_filters_any_values_returns_filters_or_raises_usage_error(where, near, after, path):
    with suppress(UsageError):
        assert mmsearch.parse_filters(where=where, near=near, after=after, paths=[path])
