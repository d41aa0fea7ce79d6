"""Queries with dates, places and people, and their right readings."""

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from benchmarks.quality import understanding

SETS = Path(__file__).parents[3] / "benchmarks/quality/sets"
LANGUAGES = ("en", "de", "fr", "es", "it")
FILTERS = ("after", "before", "months", "place", "people")


def read_set(name):
    lines = (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_library(name):
    library = next(key for key, names in understanding.LIBRARIES.items() if name in names)
    return json.loads((SETS / f"{library}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "each"), [("understanding", 100), ("understanding_dev", 25)], ids=["judge", "dev"]
)
def test_understanding_sets_hold_as_many_queries_in_each_language(name, each):
    rows = read_set(name)
    assert Counter(row["language"] for row in rows) == dict.fromkeys(LANGUAGES, each)
    distinct = {(row["language"], row["query"].lower()) for row in rows}
    assert len(distinct) == len(rows)
    assert sum(row["kind"] == "trap" for row in rows) >= 0.35 * len(rows)


def test_understanding_sets_share_no_query():
    queries = {row["query"].lower() for row in read_set("understanding")}
    assert not queries & {row["query"].lower() for row in read_set("understanding_dev")}


@pytest.mark.parametrize("name", sorted(understanding.SET_NAMES))
def test_understanding_sets_have_dates_in_order_and_names_of_the_library(name):
    library = read_library(name)
    kinds = ("city", "region", "country", "landscape")
    places = {part.get(kind) for part in library["places"] for kind in kinds}
    for row in read_set(name):
        understood = row["understood"]
        ends = [understood["after"] or "0001-01-01", understood["before"] or "9999-01-01"]
        assert date.fromisoformat(ends[0]) < date.fromisoformat(ends[1]), row
        assert ends[0] <= date.fromisoformat(row["today"]).isoformat(), row
        assert understood["place"] in {None, *places}, row
        assert set(understood["people"]) <= set(library["people"]), row
        assert set(understood.get("months", [1])) <= set(range(1, 13)), row


@pytest.mark.parametrize("name", sorted(understanding.SET_NAMES))
def test_understanding_sets_text_is_what_remains_of_the_query(name):
    for row in read_set(name):
        understood = row["understood"]
        remaining = iter(re.findall(r"\w+", row["query"]))
        words = re.findall(r"\w+", understood["text"])
        assert all(word in remaining for word in words), row
        if not any(understood.get(filter_name) for filter_name in FILTERS):
            assert understood["text"] == row["query"]
