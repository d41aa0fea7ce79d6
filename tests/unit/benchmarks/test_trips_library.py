"""The library of trips has the facts that its table lists."""

import csv
import os
from collections import Counter

import pytest

from benchmarks.quality import trips_library
from mmsearch.modalities.image import build
from tests.unit.benchmarks.test_understanding_sets import SETS


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trips")
    return folder, trips_library.write_library(folder)


def test_trips_library_has_bursts_exports_edits_and_exact_copies(library):
    folder, copies = library
    kinds = Counter(copy.kind for copy in copies)
    assert kinds["photo"] >= 100
    assert (kinds["burst"], kinds["export"], kinds["crop"], kinds["copy"]) == (12, 7, 2, 7)
    of = {copy.path: folder / copy.of for copy in copies if copy.kind == "copy"}
    assert all((folder / path).read_bytes() == one.read_bytes() for path, one in of.items())


def test_trips_library_photographs_have_dates_places_and_people(library):
    folder, _ = library
    with (folder / ".library.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    shown = [row for row in rows if row["people"] and row["latitude"]]
    for row in shown[:5]:
        facts = build().read(os.fsencode(folder / row["path"]), 64).picture
        assert facts.taken_at == row["taken_at"]
        assert facts.latitude == pytest.approx(float(row["latitude"]), abs=1e-5)
        assert facts.longitude == pytest.approx(float(row["longitude"]), abs=1e-5)
        people = [text.text for text in facts.texts if text.kind == "people"]
        assert people == [row["people"]]


def test_trips_library_people_are_those_of_the_sets(library):
    _, copies = library
    names = (SETS / "understanding_library.json").read_text(encoding="utf-8")
    assert all(f'"{name}"' in names for copy in copies for name in copy.people)
