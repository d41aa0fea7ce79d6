"""A value that fails pydantic validation gives a plain sentence."""

import datetime as dt
import enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmsearch.core.validation import MAX_QUOTED_CHARS, format_validation_errors


class Size(enum.StrEnum):
    SMALL = "small"
    LARGE = "large"


class Inner(BaseModel):
    tags: list[str] = Field([], min_length=1, max_length=2)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(1, ge=1, le=30)
    port: int = Field(1, gt=0, lt=100)
    score: float = Field(0, allow_inf_nan=False)
    query: str = Field("a", min_length=1, max_length=3)
    size: Size = Size.SMALL
    mode: Literal["text", "vector", "hybrid"] = "text"
    exact: bool = False
    after: dt.date | None = None
    filters: Inner = Inner(tags=["a"])
    counts: dict[str, int] = {}


def validation_message(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(values)
    return format_validation_errors(caught.value.errors())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"limit": "ten"}, "limit must be a whole number, got 'ten'"),
        ({"limit": 1.5}, "limit must be a whole number, got 1.5"),
        ({"limit": [1]}, "limit must be a whole number"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"limit": 31}, "limit must be at most 30, got 31"),
        ({"port": 0}, "port must be above 0, got 0"),
        ({"port": 100}, "port must be below 100, got 100"),
        ({"score": "high"}, "score must be a number, got 'high'"),
        ({"score": float("inf")}, "score must be a finite number, got inf"),
        ({"query": 5}, "query must be a string, got 5"),
        ({"query": ""}, "query must have at least 1 character, got ''"),
        ({"query": "abcd"}, "query must have at most 3 characters, got 'abcd'"),
        ({"size": "huge"}, "size must be 'small' or 'large', got 'huge'"),
        ({"mode": "x"}, "mode must be 'text', 'vector' or 'hybrid', got 'x'"),
        ({"exact": "maybe"}, "exact must be true or false, got 'maybe'"),
        ({"filters": 3}, "filters must be an object, got 3"),
        ({"filters": {"tags": []}}, "filters.tags must have at least 1 entry"),
        ({"filters": {"tags": list("abc")}}, "filters.tags must have at most 2 entries"),
        ({"filters": {"tags": "a"}}, "filters.tags must be a list, got 'a'"),
        ({"filters": {"tags": [1]}}, "filters.tags.0 must be a string, got 1"),
        ({"counts": []}, "counts must be an object"),
        ({"top": 1}, "top is unknown"),
        ({"limit": "x", "top": 1}, "limit must be a whole number, got 'x'; top is unknown"),
    ],
)
def test_format_validation_errors_wrong_value_gives_plain_sentence(values, sentence):
    assert validation_message(**values) == sentence


def test_format_validation_errors_of_a_body_that_is_not_json_name_no_position():
    # FastAPI reports a body of wrong JSON so.
    error = {
        "type": "json_invalid",
        "loc": ("body", 17),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": "Expecting value"},
    }
    assert format_validation_errors([error]) == "body is not JSON: Expecting value"


def test_format_validation_errors_unknown_name_suggests_a_known_one():
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"limt": 1, "colour": 2})
    message = format_validation_errors(caught.value.errors(), Model.model_fields)
    assert message == "limt is unknown (did you mean 'limit'?); colour is unknown"


def test_format_validation_errors_missing_value_names_field():
    class Search(BaseModel):
        query: str

    with pytest.raises(ValidationError) as caught:
        Search.model_validate({})
    assert format_validation_errors(caught.value.errors()) == "query is missing"


def test_format_validation_errors_other_error_type_keeps_reason():
    assert validation_message(after="soon").startswith("after must be a date or datetime, ")


def test_format_validation_errors_long_value_is_shortened():
    assert len(validation_message(size="x" * 10_000)) < MAX_QUOTED_CHARS + 60
    assert (
        validation_message(limit=10**5000)
        == "limit must be at most 30, got a number with thousands of digits"
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*Model.model_fields, "top"]), values, min_size=1))
def test_format_validation_errors_any_value_omits_pydantic_wording(inputs):
    try:
        Model.model_validate(inputs)
    except ValidationError as error:
        message = format_validation_errors(error.errors())
        # A quoted value may contain any text, so only the part before it is checked.
        named = message.split(", got ")[0]
        assert "Input should" not in named
        assert "pydantic" not in named
