"""Every surface offers the filters of the table, and no others."""

import inspect
import re
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from mmsearch.cli.fast_args import OPTIONS
from mmsearch.client._requests import build_filters_body
from mmsearch.core.errors import UsageError
from mmsearch.core.filter_parser import format_condition, parse_condition
from mmsearch.core.filters import FILTERS, Filters, GeoCircle, make_filters
from mmsearch.mcp.schemas import SearchArguments, SearchOptions
from mmsearch.server.schemas import FilterBody, SearchBody, SearchParams

NAMES = [spec.name for spec in FILTERS]
KEYWORDS = [spec.keyword for spec in FILTERS]

SEARCH_OPTIONS = {
    *("k", "name", "home", "without", "image", "mode", "blend", "prompt", "min_score"),
    *("min_confidence", "batch", "as_json", "paths", "print0", "sheet", "open_", "device"),
    "verbose",
    "sort",
    "no_fold",
    "speech",
    "speech_language",
    "literal",
    "like",
    "unlike",
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
    # Filters on metadata have names of their own.
    assert list(FilterBody.model_fields) == [*NAMES, "metadata"]
    assert [name for name in SearchParams.model_fields if name in NAMES] == NAMES
    assert SearchBody.model_fields["filters"].annotation is FilterBody


def test_filters_of_assistant_are_those_of_table():
    own = SearchOptions.model_fields
    assert [name for name in SearchArguments.model_fields if name not in own] == NAMES


def test_filters_of_python_api_are_those_of_table():
    assert [member.name for member in fields(Filters)] == KEYWORDS
    assert list(inspect.signature(mmsearch.parse_filters).parameters) == KEYWORDS


def test_filters_of_client_are_those_of_table():
    given = {spec.name: GIVEN[spec.kind] for spec in FILTERS}
    assert list(build_filters_body(given)) == NAMES
    assert build_filters_body(make_filters(given)) == build_filters_body(given)


@pytest.mark.parametrize("spec", FILTERS, ids=lambda spec: spec.name)
def test_each_filter_has_help_and_parses_a_value_of_its_kind(spec):
    assert spec.help
    assert bool(spec.metavar) is (spec.kind != "flag")
    value = [GIVEN[spec.kind]] if spec.multiple else GIVEN[spec.kind]
    assert getattr(mmsearch.parse_filters(**{spec.keyword: value}), spec.keyword)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("heigth", "min_height"),
        ("tag_", "tag"),
        ("oriention", "orientation"),
        ("zzz", "Known: path"),
    ],
)
def test_unknown_filter_is_refused_with_the_most_similar_name(name, suggestion):
    for make in (lambda: mmsearch.parse_filters(**{name: "3"}), lambda: make_filters({name: "3"})):
        with pytest.raises(UsageError, match=f"There is no filter '{name}'.*{suggestion}"):
            make()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tag": "sea"}, {"tags": ("sea",)}),
        ({"tags": ["sea", "sun"]}, {"tags": ("sea", "sun")}),
        ({"min-width": 3, "path": Path("a/b")}, {"min_width": 3, "paths": (str(Path("a/b")),)}),
        ({"--min-height": np.int32(3)}, {"min_height": 3}),
        ({"paths": "*.png"}, {"paths": ("*.png",)}),
        ({"format": "jpg"}, {"formats": ("JPEG",)}),
        ({"formats": {".tif"}}, {"formats": ("TIFF",)}),
        ({"camera": "nikon", "person": "Ann", "place": "Rome"},
         {"cameras": ("nikon",), "people": ("Ann",), "places": ("Rome",)}),
        ({"after": date(2020, 5, 17)}, {"after": "2020-05-17T00:00:00"}),
        ({"after": datetime(2020, 5, 17, 8, 1, 2, 999)}, {"after": "2020-05-17T08:01:02"}),  # noqa: DTZ001
        ({"before": np.datetime64("2020-05")}, {"before": "2020-05-01T00:00:00"}),
        ({"before": "2020"}, {"before": "2020-01-01T00:00:00"}),
        ({"orientation": "Portrait"}, {"orientation": "portrait"}),
        ({"near": (48, 2.5, 10)}, {"near": GeoCircle(48.0, 2.5, 10.0)}),
        ({"near": "48,2.5,10"}, {"near": GeoCircle(48.0, 2.5, 10.0)}),
        ({"rating": 4, "file_dates": True}, {"min_rating": 4, "file_dates": True}),
        ({"after": None, "tags": [], "file_dates": None}, {}),
    ],
)  # fmt: skip
def test_filters_are_read_as_they_are_meant(given, expected):
    assert make_filters(given) == Filters(**expected)
    assert {name: getattr(make_filters(given), name) for name in expected} == expected


def test_datetime_with_a_zone_becomes_local_time():
    local = datetime(2020, 5, 17, 8, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert Filters(after=datetime(2020, 5, 17, 8, tzinfo=UTC)).after == local.isoformat()


@pytest.mark.parametrize("spec", FILTERS, ids=lambda spec: spec.keyword)
@pytest.mark.parametrize(
    "value", [float("nan"), b"x", {"a": 1}, ..., np.zeros(2), [None], [[1]], -1], ids=repr
)
def test_filter_of_wrong_type_is_refused_by_name(spec, value):
    with pytest.raises(UsageError, match=spec.keyword):
        Filters(**{spec.keyword: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"after": "May 2020"}, "'May 2020' is not a date"),
        ({"orientation": "upright"}, "Unknown orientation 'upright'. Known: landscape"),
        ({"near": (100, 0, 1)}, "is not a circle on the Earth"),
        ({"near": GeoCircle(0, 0, -1)}, "is not a circle on the Earth"),
        ({"where": "width"}, "'width' at character 1 is not a comparison"),
        ({"min_rating": 6}, "min_rating must be a whole number from 0 to 5, got 6"),
        ({"min_width": True}, "min_width must be a whole number"),
        ({"tag": "a", "tags": "b"}, "The filter 'tag' is given twice"),
    ],
)
def test_invalid_filter_is_refused_when_it_is_made(given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        make_filters(given)


@pytest.mark.parametrize(
    "text",
    [
        "width > 1000 and taken_at >= '2020-01-01'",
        'not (height * 2 < -width + 3 or camera == "O\'Neil \\\\ 1")',
        "'beach' in tags and 'nik' in camera",
        "format in ['JPEG', 'PNG'] or latitude is None or longitude is not None",
        "1 < aspect < 2.5",
    ],
)
def test_formatted_condition_is_read_as_the_same_condition(text):
    condition = parse_condition(text)
    assert parse_condition(format_condition(condition)) == condition
