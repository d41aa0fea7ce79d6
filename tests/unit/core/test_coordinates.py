"""Tests of the names of the places of coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core import coordinates
from mmsearch.core.coordinates import MAX_DISTANCE_KM, nearest_cities, place_names
from mmsearch.core.places import place_at

LATITUDES = st.floats(-90, 90, allow_nan=False)
LONGITUDES = st.floats(-180, 180, allow_nan=False)


@pytest.mark.parametrize(
    ("latitude", "longitude", "names"),
    [
        (38.7139, -9.1394, ("Lisbon", "Portugal")),
        (38.6916, -9.2160, ("Lisbon", "Portugal")),
        (38.697, -9.42, ("Cascais", "Lisbon", "Portugal")),
        (51.556, -0.28, ("London", "England", "United Kingdom")),
        (40.706, -73.997, ("New York", "United States")),
        (47.562, 13.649, ("Hallstatt", "Upper Austria", "Austria")),
        (36.4618, 25.3753, ("Oía", "South Aegean", "Greece")),
        (-33.857, 151.215, ("Sydney", "New South Wales", "Australia")),
    ],
)
def test_city_region_and_country(latitude: float, longitude: float, names: tuple[str, ...]) -> None:
    (city,) = nearest_cities([latitude], [longitude])
    assert city is not None
    assert place_names(city) == names


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(40, -30), (90, 0), (-90, 12), (0, -150), (0, 180), (-45.0, -180.0)]
)
def test_nothing_is_near_on_the_sea_and_at_the_poles(latitude: float, longitude: float) -> None:
    assert nearest_cities([latitude], [longitude]) == [None]


def test_both_sides_of_the_date_line_are_neighbours() -> None:
    # Taveuni of Fiji lies on it.
    west, east = nearest_cities([-16.85, -16.85], [179.999, -179.999])
    assert west == east


def test_no_coordinates_have_no_city() -> None:
    assert nearest_cities([], []) == []


@given(st.lists(st.tuples(LATITUDES, LONGITUDES), min_size=1, max_size=8))
def test_the_edge_of_no_other_city_is_nearer(points: list[tuple[float, float]]) -> None:
    cities = coordinates._load_cities()
    found = nearest_cities(*zip(*points, strict=True))
    north, east = np.radians(cities.latitudes), np.radians(cities.longitudes)
    for (latitude, longitude), city in zip(points, found, strict=True):
        cosine = np.sin(north) * math.sin(math.radians(latitude)) + np.cos(north) * math.cos(
            math.radians(latitude)
        ) * np.cos(east - math.radians(longitude))
        km = 6371.0 * np.arccos(np.clip(cosine, -1, 1)) - cities.edges_km
        best = int(np.argmin(km))
        # On a plane, distances differ by up to one percent.
        if city is None:
            assert km[best] > MAX_DISTANCE_KM - 1.5
        else:
            chosen = next(
                i for i in np.argsort(km)[:50] if place_at(int(cities.offsets[i])) == city
            )
            assert km[chosen] <= km[best] + 1.5
            assert km[chosen] <= MAX_DISTANCE_KM + 1.5


def test_each_city_is_found_at_its_own_centre_or_in_a_larger_one() -> None:
    cities = coordinates._load_cities()
    rows = np.arange(0, len(cities.offsets), 101)
    found = nearest_cities(cities.latitudes[rows].tolist(), cities.longitudes[rows].tolist())
    for row, city in zip(rows, found, strict=True):
        own = place_at(int(cities.offsets[row]))
        assert city is not None
        assert own is not None
        assert city == own or city.population >= own.population
