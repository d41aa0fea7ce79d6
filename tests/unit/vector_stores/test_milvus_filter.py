import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.query import AllOf, AnyOf, Compare, Contains, FieldName, IsMissing, Not, OneOf
from mmsearch.core.server_filters import SEARCH_FIELDS, ItemFields
from mmsearch.vector_stores._milvus_filter import (
    MISSING_NUMBER,
    MISSING_TEXT,
    compile_condition,
    compile_ids,
    join_expressions,
    make_row,
)

LITERAL = r'"(?:[A-Za-z0-9 ]|\\u[0-9a-f]{4}|\\U[0-9a-f]{8})*"'


def fields(**values):
    empty = {name: () if kind == "texts" else None for name, kind in SEARCH_FIELDS.items()}
    return ItemFields(7, empty | values)


@pytest.mark.parametrize(
    ("condition", "expression"),
    [
        (Compare(FieldName("width"), ">", 5), "(width > 5.0 and not (width == -1e+300))"),
        (Compare(FieldName("width"), "!=", True), "(width != 1.0 and not (width == -1e+300))"),
        (Compare(FieldName("label"), "<", "b"), '(label < "b" and not (label == "\\u0000"))'),
        (IsMissing("latitude"), "latitude == -1e+300"),
        (IsMissing("tags"), "array_length(tags) == 0"),
        (OneOf("format", ("jpeg", "a'b")), 'format in ["jpeg", "a\\u0027b"]'),
        (OneOf("rating", (4, 5.5)), "rating in [4.0, 5.5]"),
        (OneOf("people", ("ann",)), 'array_contains_any(people, ["ann"])'),
        (OneOf("people", ()), "id < 0"),
        (AllOf(()), "id >= 0"),
        (AnyOf(()), "id < 0"),
        (Not(AllOf((IsMissing("lens"),))), 'not ((lens == "\\u0000"))'),
        (AnyOf((IsMissing("tags"), AllOf(()))), "(array_length(tags) == 0) or (id >= 0)"),
    ],
)
def test_condition_becomes_expression(condition, expression):
    assert compile_condition(condition) == expression


@pytest.mark.parametrize("field", ["camera", "people"])
def test_part_of_text_is_left_to_the_catalog(field):
    part = Contains(field, "ann")
    assert compile_condition(part) is None
    assert compile_condition(AllOf((IsMissing("tags"), part))) is None
    assert compile_condition(AnyOf((AllOf(()), part))) is None
    assert compile_condition(Not(part)) is None


def test_deep_and_long_conditions_are_left_to_the_catalog():
    deep = IsMissing("tags")
    for _ in range(20):
        deep = Not(deep)
    assert compile_condition(deep) is not None
    for _ in range(20):
        deep = Not(deep)
    assert compile_condition(deep) is None
    assert compile_condition(OneOf("label", ("x" * 1000,) * 1000)) is None


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["==", "<", "!="]))
def test_no_text_leaves_its_literal(text, symbol):
    for condition, pattern in (
        (
            Compare(FieldName("label"), symbol, text),
            rf'\(label {symbol} {LITERAL} and not \(label == "\\u0000"\)\)',
        ),
        (OneOf("label", (text, text)), rf"label in \[{LITERAL}, {LITERAL}\]"),
        (OneOf("tags", (text,)), rf"array_contains_any\(tags, \[{LITERAL}\]\)"),
    ):
        expression = compile_condition(condition)
        assert re.fullmatch(pattern, expression)
        literal = re.search(LITERAL, expression).group()
        assert literal[1:-1].encode().decode("unicode_escape") == text


def test_ids_and_joined_expressions():
    assert compile_ids([3, 5]) == "id in [3,5]"
    assert compile_ids([3], negate=True) == "id not in [3]"
    assert (
        join_expressions("a == 1 or b == 1", None, "", "c == 2")
        == "(a == 1 or b == 1) and (c == 2)"
    )
    assert join_expressions(None, "") == ""


def test_row_has_all_fields():
    row = make_row(fields(width=3, label="x", tags=("a", "b")), 99)
    assert row["id"] == 7
    assert row["digest"] == 99
    assert (row["width"], row["label"], row["tags"]) == (3.0, "x", ["a", "b"])
    assert (row["height"], row["lens"], row["people"]) == (MISSING_NUMBER, MISSING_TEXT, [])
    assert set(row) == {"id", "digest", *SEARCH_FIELDS}


@pytest.mark.parametrize(
    "values",
    [
        {"label": "é" * 40_000},
        {"label": "a\0b"},
        {"tags": ("x" * 70_000,)},
        {"tags": tuple(f"{number:04}" for number in range(5000))},
    ],
)
def test_values_beyond_the_limits_of_milvus_have_no_digest(values):
    row = make_row(fields(**values), 99)
    assert row["digest"] == 0
    assert len(row["label"].encode()) <= 65535
    assert len(row["tags"]) <= 4096
