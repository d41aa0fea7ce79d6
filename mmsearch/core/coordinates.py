"""Names of the places of coordinates: the city, region and country in which a picture was taken.

The city is the one whose edge is nearest: large cities reach further than small ones, so that a
place in London is not named after one of its boroughs. Where no city is near, as on the sea,
nothing is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.places import PLACES_FILE, Place, place_at

MAX_DISTANCE_KM: Final = 50.0
"""Largest distance from the edge of a city at which a place is named after it."""

KM_PER_DEGREE: Final = 111.195
"""Length of a degree of latitude."""

CITIES_FILE: Final = PLACES_FILE.with_name("cities.npy")
"""The positions of the cities of `PLACES_FILE`, in the order of their latitudes."""

CITY_DTYPE: Final = np.dtype(
    [("latitude", "<f4"), ("longitude", "<f4"), ("population", "<u4"), ("offset", "<u4")]
)

_MAX_EDGE_KM: Final = 30.0
_CELL_DEG: Final = 0.5
_BATCH: Final = 2048

Floats = NDArray[np.float64]


class _Cities(NamedTuple):
    """The cities in the order of their latitudes: arrays (n,).

    Attributes:
        latitudes: Degrees.
        longitudes: Degrees.
        edges_km: Distance of the edge of each city from its centre.
        offsets: Where its line begins; see `mmsearch.core.places.place_at`.
    """

    latitudes: Floats
    longitudes: Floats
    edges_km: Floats
    offsets: NDArray[np.int64]

    def select(self, rows: slice | NDArray[np.bool_]) -> _Cities:
        """Return some of the cities."""
        latitudes, longitudes, edges_km, offsets = self
        return _Cities(latitudes[rows], longitudes[rows], edges_km[rows], offsets[rows])


def nearest_cities(latitudes: Sequence[float], longitudes: Sequence[float]) -> list[Place | None]:
    """Return the city of each place; None if none is near.

    Args:
        latitudes: Degrees north, (n,).
        longitudes: Degrees east, (n,).
    """
    places = np.array([latitudes, longitudes], dtype=np.float64).T.reshape(-1, 2)
    unique, inverse = np.unique(places, axis=0, return_inverse=True)
    offsets = np.full(len(unique), -1, dtype=np.int64)
    # Neighbours have the same candidates.
    cells, members = np.unique(np.floor(unique / _CELL_DEG), axis=0, return_inverse=True)
    order = np.argsort(members.reshape(-1), kind="stable")
    starts = np.searchsorted(members.reshape(-1)[order], np.arange(len(cells) + 1))
    for cell, (south, west) in enumerate(cells * _CELL_DEG):
        cities = _near_cell(float(south), float(west))
        for first in range(starts[cell], starts[cell + 1], _BATCH):
            rows = order[first : min(first + _BATCH, starts[cell + 1])]
            offsets[rows] = _choose(unique[rows], cities)
    found = {offset: place_at(offset) for offset in np.unique(offsets).tolist()}
    return [found[offset] for offset in offsets[inverse.reshape(-1)].tolist()]


def place_names(city: Place) -> tuple[str, ...]:
    """Return the names of a city, its region and its country, without repetitions."""
    return tuple(dict.fromkeys(name for name in (city.name, city.region, city.country) if name))


def _near_cell(south: float, west: float) -> _Cities:
    """Return the cities that may be near a place in a cell."""
    cities = _load_cities()
    margin = (MAX_DISTANCE_KM + _MAX_EDGE_KM) / KM_PER_DEGREE
    low, high = np.searchsorted(cities.latitudes, [south - margin, south + _CELL_DEG + margin])
    near = cities.select(slice(low, high))
    farthest = min(89.0, max(abs(south - margin), abs(south + _CELL_DEG + margin)))
    # The longitudes of both sides of the date line are neighbours.
    apart = np.abs((near.longitudes - (west + _CELL_DEG / 2) + 180) % 360 - 180)
    is_near = apart <= _CELL_DEG / 2 + margin / np.cos(np.radians(farthest))
    return near.select(is_near)


def _choose(places: Floats, cities: _Cities) -> NDArray[np.int64]:
    """Return the offset of the city of each place (n, 2); -1 if none is near."""
    if not len(cities.offsets):
        return np.full(len(places), -1, dtype=np.int64)
    # The plane is flat enough for such distances.
    north = (places[:, :1] - cities.latitudes) * KM_PER_DEGREE
    east = (places[:, 1:] - cities.longitudes + 180) % 360 - 180
    east *= np.cos(np.radians(places[:, :1])) * KM_PER_DEGREE
    km = np.hypot(north, east)
    km -= cities.edges_km
    best = np.argmin(km, axis=1)
    is_near = km[np.arange(len(places)), best] <= MAX_DISTANCE_KM
    return np.where(is_near, cities.offsets[best], -1)


@cache
def _load_cities() -> _Cities:
    stored = np.load(CITIES_FILE)
    # A million people live within about ten kilometres.
    edges_km = np.minimum(_MAX_EDGE_KM, np.sqrt(stored["population"] / 1e4))
    return _Cities(
        stored["latitude"].astype(np.float64),
        stored["longitude"].astype(np.float64),
        edges_km,
        stored["offset"].astype(np.int64),
    )
