"""The parser accepts valid filter conditions and refuses all other text."""

import contextlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.filter_parser import parse_condition, parse_date, parse_near
from mmsearch.core.filters import GeoCircle
from mmsearch.core.query import (
    FILTER_FIELDS,
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

WIDTH, HEIGHT = FieldName("width"), FieldName("height")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("width > 1000", Compare(WIDTH, ">", 1000)),
        ("1000 < width", Compare(1000, "<", WIDTH)),
        ("1 < width <= 2.5", AllOf((Compare(1, "<", WIDTH), Compare(WIDTH, "<=", 2.5)))),
        ("width > height", Compare(WIDTH, ">", FieldName("height"))),
        ("latitude < -10", Compare(FieldName("latitude"), "<", -10)),
        (
            "width > 1000 and taken_at >= '2020-01-01'",
            AllOf(
                (
                    Compare(WIDTH, ">", 1000),
                    Compare(FieldName("taken_at"), ">=", "2020-01-01T00:00:00"),
                )
            ),
        ),
        (
            "not (width == 1 OR height != 2)",
            Not(AnyOf((Compare(WIDTH, "==", 1), Compare(FieldName("height"), "!=", 2)))),
        ),
        ("format in ('JPEG', 'PNG')", OneOf("format", ("JPEG", "PNG"))),
        ("format NOT IN ('JPEG',)", Not(OneOf("format", ("JPEG",)))),
        ("'nikon' in camera", Contains("camera", "nikon")),
        ("'a OR b = c' in tags", Contains("tags", "a OR b = c")),
        ("camera is None", IsMissing("camera")),
        ("camera == NULL", IsMissing("camera")),
        ("camera IS NOT NULL", Not(IsMissing("camera"))),
        ("None == camera", IsMissing("camera")),
        (r"'it\'s AND = #' in camera", Contains("camera", "it's AND = #")),
        ("'a' not in tags", Not(Contains("tags", "a"))),
        ("\n width\t>\n1 ", Compare(WIDTH, ">", 1)),
        ("width > 2*height", Compare(WIDTH, ">", Arithmetic(2, "*", HEIGHT))),
        ("height + 100 < width", Compare(Arithmetic(HEIGHT, "+", 100), "<", WIDTH)),
        ("size_bytes / 2 > 1e6", Compare(Arithmetic(FieldName("size_bytes"), "/", 2), ">", 1e6)),
        (
            "1 + width * 2 > (1 + width) * 2",
            Compare(
                Arithmetic(1, "+", Arithmetic(WIDTH, "*", 2)),
                ">",
                Arithmetic(Arithmetic(1, "+", WIDTH), "*", 2),
            ),
        ),
        (
            "width - height - 1 == width / height / 2",
            Compare(
                Arithmetic(Arithmetic(WIDTH, "-", HEIGHT), "-", 1),
                "==",
                Arithmetic(Arithmetic(WIDTH, "/", HEIGHT), "/", 2),
            ),
        ),
        ("width >= 2 * 1024 + 4 * 2", Compare(WIDTH, ">=", 2056)),
        ("width > -(2 - 3)", Compare(WIDTH, ">", 1)),
        ("-width < +3", Compare(Arithmetic(-1, "*", WIDTH), "<", 3)),
        ("width in (640, 2 * 640)", OneOf("width", (640, 1280))),
        (
            "2 * width not in (640, height)",
            Not(
                AnyOf(
                    (
                        Compare(Arithmetic(2, "*", WIDTH), "==", 640),
                        Compare(Arithmetic(2, "*", WIDTH), "==", HEIGHT),
                    )
                )
            ),
        ),
    ],
)
def test_parse_condition_valid_text_returns_condition_tree(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("width >", "cannot be read"),
        ("width = 3", "'='"),
        ("width <> 3", "'<>'"),
        ("width > 1 && height > 1", "'&&'"),
        ("camera like '%x%'", "'like'"),
        ("depth > 3", "not a field"),
        ("width > 'wide'", "width takes a number"),
        ("camera == 3", "camera takes a text"),
        ("'a' in width", "cannot be part of 'width'"),
        ("1 < 2", "not compared with a field"),
        ("width", "not a comparison"),
        ("taken_at > 'yesterday'", "not a date"),
        ("orientation == 'sideways'", "not an orientation"),
        ("tags == 'beach'", "set of words"),
        ("tags in ('beach',)", "set of words"),
        ("  width > > 1", "at character 11"),
        ("width > 1 and", "at character 14"),
        ("'ééé' in camera and depth > 1", "at character 21"),
        ("width > 1 and\n depth > 1", "at character 16"),
        ("taken_at > '2021-02-30'", "at character 12"),
        ("'a = b", "at character 1."),
        ("width > 1 # and more", "'#'"),
        (r"'\ud800' in camera", "lone surrogate"),
        ("'\ud800' in camera", ""),
        ("-" * 1500 + "1 < width and depth > 1", ""),
        ("~" * 1500 + "1 < width", ""),
        ("-'a' == camera", "at character 2 is text and cannot be used"),
        ("width > -True", "neither a field nor a value"),
        ("width is 3", "cannot be compared"),
        ("width > 99999999999999999999", "too large"),
        ("width > 1e999", "too large"),
        ("width > True", "neither a field nor a value"),
        ("__import__('os').system('true') == 1", "neither a field nor a value"),
        ("(lambda: 1)() == width", "neither a field nor a value"),
        ("[x for x in ()] == width", "neither a field nor a value"),
        ("f'{width}' in camera", "neither a field nor a value"),
        ("camera.upper() == 'X'", "neither a field nor a value"),
        ("(width := 3) == 3", "neither a field nor a value"),
        ("1; drop table images", "';'"),
        ("width > 1 -- x", "'x' at character 14 is not a field"),
        ("width / 0 > 1", "'width / 0' at character 1 divides by zero"),
        ("width / (2 - 2) > 1", "divides by zero"),
        ("1 / 0 > width", "divides by zero"),
        ("width > 2 * 9007199254740991", "'2 * 9007199254740991' at character 9 is too large"),
        ("width > 1e9 * 1e9", "Numbers are below 9,007,199,254,740,992."),
        ("width > 1 / 1e-300", "too large"),
        ("width * " + "9" * 1900 + " > 1", "too large"),
        ("width ** 2 > 4", "Use +, -, * or /."),
        ("width // 2 > 4", "unsupported operation"),
        ("width % 2 == 0", "unsupported operation"),
        ("2 * 3 > 5", "not compared with a field"),
        ("camera + 1 > 2", "'camera' at character 1 is text"),
        ("camera * 2 == 'a'", "'camera' at character 1 is text"),
        ("tags + 1 > 2", "set of words"),
        ("width * 2 == 'a'", "a calculation takes a number"),
        ("width + None > 1", "neither a field nor a value"),
        ("width * 2 is None", "cannot be compared"),
        ("width > 2 * True", "neither a field nor a value"),
        ("width * 2", "not a comparison"),
        ("width > 0" + " + 1" * 400, "nested too deeply"),
        ("width > " + "(1 + " * 60 + "1" + ")" * 60, "nested too deeply"),
        ("width > 2j * height", "neither a field nor a value"),
        ("not " * 400 + "width > 1", "nested"),
        ("(" * 900 + "width > 1" + ")" * 900, ""),
        ("width > 1 " + "and width > 1 " * 200, "2,000"),
        ("width > 1\0", "character 10"),
    ],
)
def test_parse_condition_invalid_text_raises_error_with_reason(text, said):
    with pytest.raises(InvalidQueryError) as caught:
        parse_condition(text)
    assert said in str(caught.value)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *FILTER_FIELDS,
                *[
                    "and",
                    "or",
                    "not",
                    "in",
                    "(",
                    ")",
                    "<",
                    "==",
                    "'a'",
                    "1",
                    ",",
                    "None",
                    "-",
                    "+",
                    "*",
                    "/",
                    "0",
                    "1e300",
                ],
            ]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_parse_condition_any_text_raises_only_invalid_query_error(text):
    with contextlib.suppress(InvalidQueryError):
        parse_condition(text)


def test_parse_condition_emits_no_python_syntax_warning():
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        parse_condition(r"'\d' in camera or width > 1or height > 1")
    assert not caught_warnings


def format_condition(condition):
    """Return a condition as text that a user could type."""

    def format_operand(operand):
        if isinstance(operand, Arithmetic):
            return (
                f"({format_operand(operand.left)}) {operand.operator} "
                f"({format_operand(operand.right)})"
            )
        return operand.name if isinstance(operand, FieldName) else repr(operand)

    match condition:
        case AllOf(parts) | AnyOf(parts):
            sign = " and " if isinstance(condition, AllOf) else " or "
            return sign.join(f"({format_condition(part)})" for part in parts)
        case Not(inner):
            return f"not ({format_condition(inner)})"
        case IsMissing(name):
            return f"{name} is None"
        case Contains(name, part):
            return f"{part!r} in {name}"
        case OneOf(name, values):
            return f"{name} in {values!r}"
    return (
        f"{format_operand(condition.left)} {condition.operator} {format_operand(condition.right)}"
    )


signs = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9)
number_fields = st.sampled_from([name for name, kind in FILTER_FIELDS.items() if kind is not str])
calculations = st.recursive(
    st.builds(Arithmetic, number_fields.map(FieldName), st.sampled_from("+-*"), numbers),
    lambda inner: st.one_of(
        st.builds(Arithmetic, inner, st.sampled_from("+-*/"), inner),
        st.builds(Arithmetic, inner, st.just("/"), numbers.filter(bool)),
        st.builds(Arithmetic, numbers, st.sampled_from("+-*/"), inner),
    ),
    max_leaves=4,
)
values_of = {
    "format": st.text(max_size=8),
    "camera": st.text(max_size=8),
    "orientation": st.sampled_from(("landscape", "Portrait", "square")),
    "taken_at": st.datetimes().map(lambda date: date.isoformat(timespec="seconds")),
}
text_fields = st.sampled_from(list(values_of))
texts = text_fields.flatmap(lambda name: st.tuples(st.just(FieldName(name)), values_of[name]))
some_values = st.one_of(
    st.tuples(number_fields, st.lists(numbers, max_size=3).map(tuple)),
    text_fields.flatmap(
        lambda name: st.tuples(
            st.just(name), st.lists(values_of[name], min_size=1, max_size=3).map(tuple)
        )
    ),
)
atoms = st.one_of(
    st.builds(Compare, number_fields.map(FieldName), signs, numbers),
    st.builds(Compare, calculations, signs, numbers | calculations),
    st.builds(Compare, numbers, signs, number_fields.map(FieldName)),
    st.builds(Compare, number_fields.map(FieldName), signs, number_fields.map(FieldName)),
    st.builds(Compare, text_fields.map(FieldName), signs, text_fields.map(FieldName)),
    st.builds(lambda pair, sign: Compare(pair[0], sign, pair[1]), texts, signs),
    st.builds(lambda pair, sign: Compare(pair[1], sign, pair[0]), texts, signs),
    st.builds(Contains, text_fields | st.just("tags"), st.text(max_size=12)),
    some_values.map(lambda pair: OneOf(*pair)),
    st.builds(IsMissing, st.sampled_from(list(FILTER_FIELDS))),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@given(conditions)
def test_parse_condition_of_formatted_condition_returns_same_condition(condition):
    assert parse_condition(format_condition(condition)) == condition


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("2020", "2020-01-01T00:00:00"),
        ("2020-06", "2020-06-01T00:00:00"),
        (" 2020-06-15 ", "2020-06-15T00:00:00"),
        ("2020-06-15T12:30", "2020-06-15T12:30:00"),
        ("2020-06-15 12:30:01", "2020-06-15T12:30:01"),
    ],
)
def test_parse_date_partial_date_returns_start_of_period(text, date):
    assert parse_date(text) == date


@pytest.mark.parametrize("text", ["", "20", "2020-13", "2021-02-29", "2020-1-1", "0000", "today"])
def test_parse_date_invalid_date_raises_invalid_query_error(text):
    with pytest.raises(InvalidQueryError):
        parse_date(text)


def test_parse_near_valid_text_returns_geo_circle():
    assert parse_near("48.86, 2.35 ,10") == GeoCircle(48.86, 2.35, 10.0)


@pytest.mark.parametrize(
    "text",
    ["", "1,2", "91,0,1", "0,181,1", "0,0,0", "0,0,-1", "nan,0,1", "0,0,inf", "a,b,c", "4_8,2,1"],
)
def test_parse_near_invalid_text_raises_invalid_query_error(text):
    with pytest.raises(InvalidQueryError):
        parse_near(text)
