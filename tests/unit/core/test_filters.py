"""Every surface offers the filters of the table, and no others."""

import inspect
from dataclasses import fields

import pytest

import mmsearch
from mmsearch.cli.fast_args import OPTIONS
from mmsearch.client._requests import build_filters_body
from mmsearch.core.filters import FILTERS, Filters
from mmsearch.mcp.schemas import SearchArguments, SearchOptions
from mmsearch.server.schemas import FilterBody, SearchBody, SearchParams

NAMES = [spec.name for spec in FILTERS]
KEYWORDS = [spec.keyword for spec in FILTERS]

SEARCH_OPTIONS = {
    *("k", "name", "home", "without", "image", "mode", "blend", "prompt", "min_score"),
    *("min_confidence", "batch", "as_json", "paths", "print0", "sheet", "open_", "device"),
    "verbose",
}

GIVEN = {
    "text": "a",
    "date": "2019-05",
    "pixels": 100,
    "choice": "portrait",
    "format": "jpeg",
    "stars": 3,
    "flag": True,
    "circle": "48.5,-2.25,10",
    "condition": "width > 3",
}


def test_filters_of_command_are_those_of_table():
    assert [option.name for option in OPTIONS if option.name not in SEARCH_OPTIONS] == NAMES


def test_filters_of_http_are_those_of_table():
    assert list(FilterBody.model_fields) == NAMES
    assert [name for name in SearchParams.model_fields if name in NAMES] == NAMES
    assert SearchBody.model_fields["filters"].annotation is FilterBody


def test_filters_of_assistant_are_those_of_table():
    own = SearchOptions.model_fields
    assert [name for name in SearchArguments.model_fields if name not in own] == NAMES


def test_filters_of_python_api_are_those_of_table():
    assert [member.name for member in fields(Filters)] == KEYWORDS
    assert list(inspect.signature(mmsearch.parse_filters).parameters) == KEYWORDS


def test_filters_of_client_are_those_of_table_except_conditions():
    assert list(build_filters_body(Filters())) == [
        spec.name for spec in FILTERS if spec.kind != "condition"
    ]


@pytest.mark.parametrize("spec", FILTERS, ids=lambda spec: spec.name)
def test_each_filter_has_help_and_parses_a_value_of_its_kind(spec):
    assert spec.help
    assert bool(spec.metavar) is (spec.kind != "flag")
    value = [GIVEN[spec.kind]] if spec.multiple else GIVEN[spec.kind]
    assert getattr(mmsearch.parse_filters(**{spec.keyword: value}), spec.keyword)


def test_parse_filters_unknown_filter_raises_type_error():
    with pytest.raises(TypeError, match="unexpected arguments: height"):
        mmsearch.parse_filters(height=3)
