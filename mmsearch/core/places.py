"""Gazetteer: places of the world by their names in five languages, without a network.

It knows continents, countries, the regions below them, islands and landscapes, and cities of 1,000
inhabitants or more. Names are English, German, French, Spanish, Italian or local; case and accents
do not count. Data: GeoNames (CC BY 4.0) and CLDR; ``scripts/build_places.py`` builds the files.

What a name means without more context:

- `lookup` returns every place of a name, the best first. A small city whose name is a common word
  of one of the languages (*Forest*, *Playa*) has no name here.
- `is_common_word` returns True for the names left that are words, first names or brands, too:
  *Nice*, *Essen*, *Turkey*, *Jordan*. Such a name is a place only after a preposition of place
  (in, near, bei, à, en, a), and *in Nice* only with a capital, or if nothing else follows.
- `stands_alone` returns True for names that mean their place without any preposition: those of
  continents, countries, regions, cities of at least `MIN_ALONE_POPULATION` and well-known small
  ones, as far as they are no common words.

The files are mapped, not read: a lookup compares about twenty lines, and costs neither memory nor
time before it.
"""

from __future__ import annotations

import math
import mmap
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, Literal

PlaceKind = Literal["city", "region", "country", "continent"]

PLACES_FILE: Final = Path(__file__).with_name("place_data") / "places.tsv"
"""A line for each place; its fields are those of `Place`, regions and countries as codes."""

NAMES_FILE: Final = PLACES_FILE.with_name("names.tsv")
"""Sorted lines: a folded name, its mark, and the offsets of its places in the other file.

Codes of countries and regions are among the names, after ``=``, and the version of the data.
"""

WORD_MARK, ALONE_MARK = "*", "!"
"""Marks of names that are common words, and of names that mean their place without more words."""

MAX_NAME_WORDS: Final = 6
"""Largest number of words in a name."""

MIN_ALONE_POPULATION: Final = 100_000
"""Population from which the name of a city means the city without a preposition."""

_ALIASES: Final = {
    "pise": "pisa",
    "vegas": "las vegas",
    "philly": "philadelphia",
    "bcn": "barcelona",
    "ny": "new york",
    "gb": "great britain",
    "cracovie": "krakow",
    "dresde": "dresden",
    "dresda": "dresden",
    "brujas": "bruges",
    "rioja": "la rioja",
    "sud tirol": "sudtirol",
    "burgund": "bourgogne franche comte",
    "borgogna": "bourgogne franche comte",
}
"""Folded names that the data lacks, and those that it has for the same places."""

_KINDS: Final[dict[str, PlaceKind]] = {
    "ci": "city",
    "re": "region",
    "co": "country",
    "cn": "continent",
}
_LETTERS: Final = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "\u0131": "i",
        "þ": "th",
        "ð": "d",
    }
)
_SEPARATORS: Final = re.compile(r"[\W_]+")
_APOSTROPHES: Final = re.compile("['`\u00b4\u2018\u2019\u02bb\u02bc]")


@dataclass(frozen=True)
class Place:
    """A place of the gazetteer.

    Attributes:
        name: Its English name.
        kind: ``city``, ``region`` (below a country, an island, a landscape), ``country`` or
            ``continent``.
        latitude: Degrees north of its centre.
        longitude: Degrees east.
        radius_km: Radius of the circle of what is in it or near it.
        country: English name of its country; for a country, its own; empty if it has none or lies
            in several.
        country_code: ISO 3166 code of the country.
        region: English name of its region; for a region, its own; empty if unknown.
        population: Number of inhabitants, roughly.
        names: All its names, `name` first.
        is_landscape: True for regions without borders: islands, lakes, mountains, coasts.
    """

    name: str
    kind: PlaceKind
    latitude: float
    longitude: float
    radius_km: float
    country: str
    country_code: str
    region: str
    population: int
    names: tuple[str, ...]
    is_landscape: bool = False

    @property
    def label(self) -> str:
        """The name with what it lies in, such as ``Lisbon, Portugal``."""
        parts = [self.name, self.country] if self.country != self.name else [self.name]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class PlaceMatch:
    """A name in a text.

    Attributes:
        words: Number of words that it has.
        places: Its places, the best first.
    """

    words: int
    places: tuple[Place, ...]


def fold_name(name: str) -> str:
    """Return a name in the form in which names are compared.

    Case, accents, apostrophes and other punctuation do not count: ``Côte d'Or`` is ``cote dor``.
    """
    text = _APOSTROPHES.sub("", name).casefold().translate(_LETTERS)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text)
        text = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _SEPARATORS.sub(" ", text).strip()


def _key(name: str) -> str:
    """Return the key of a name in the data."""
    folded = fold_name(name)
    return _ALIASES.get(folded, folded)


def lookup(name: str) -> tuple[Place, ...]:
    """Return the places of a name, the best first; empty if it is the name of no place.

    Continents and countries come before regions and cities, and these by their population.
    """
    return _places_of(_key(name))


def other_names(name: str) -> list[str]:
    """Return the other names of the best-known place of a name, folded; empty if it has none."""
    from mmsearch.core.query import fold_text  # noqa: PLC0415 - looking up places imports little

    found = lookup(name)[:1]
    return sorted({fold_text(other) for best in found for other in best.names} - {fold_text(name)})


def find_place(words: Sequence[str], start: int = 0) -> PlaceMatch | None:
    """Return the longest name of a place that begins with a word; None if no name does.

    Args:
        words: The words of a text, without punctuation.
        start: Index of the word.
    """
    for end in range(min(len(words), start + MAX_NAME_WORDS), start, -1):
        if found := lookup(" ".join(words[start:end])):
            return PlaceMatch(end - start, found)
    return None


def is_common_word(name: str) -> bool:
    """Return True if a name of a place is also a word, a first name or a brand."""
    return _find(_key(name)).startswith(WORD_MARK.encode())


def stands_alone(name: str) -> bool:
    """Return True if a name means its place without a preposition before it."""
    return _find(_key(name)).startswith(ALONE_MARK.encode())


def data_version() -> str:
    """Return the version of the data."""
    return _find("=version").decode()


def place_by_code(code: str) -> Place | None:
    """Return a country (``PT``) or a region (``PT.14``) by its code; None if it is unknown."""
    return place_at(int(_find(f"={code}") or -1))


@lru_cache(maxsize=4096)
def _places_of(folded: str) -> tuple[Place, ...]:
    offsets = _find(folded).strip((WORD_MARK + ALONE_MARK).encode())
    found = (place_at(int(offset)) for offset in offsets.split())
    return tuple(place for place in found if place is not None)


def _find(key: str) -> bytes:
    """Return the value of a key of `NAMES_FILE`; empty if it is not there."""
    if not key or "\t" in key or "\n" in key:
        return b""
    names, wanted = _mapped(NAMES_FILE), key.encode("utf-8", "replace") + b"\t"
    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        # The line in which the middle lies.
        start = names.rfind(b"\n", low, middle) + 1 or low
        end = names.find(b"\n", middle)
        line = names[start:end]
        if line.startswith(wanted):
            return line[len(wanted) :]
        if line < wanted:
            low = end + 1
        else:
            high = start
    return b""


@lru_cache(maxsize=4096)
def place_at(offset: int) -> Place | None:
    """Return the place whose line starts at an offset of `PLACES_FILE`; None below 0."""
    if offset < 0:
        return None
    data = _mapped(PLACES_FILE)
    values = data[offset : data.find(b"\n", offset)].decode().split("\t")
    name, kind, latitude, longitude, radius_km, country_code, region_code, population, names = (
        values
    )
    country = region = name
    if kind != "co":
        found = place_by_code(country_code) if country_code else None
        country = found.name if found else ""
    if kind != "re":
        found = place_by_code(f"{country_code}.{region_code}") if region_code else None
        region = found.name if found else ""
    return Place(
        name,
        _KINDS[kind],
        float(latitude),
        float(longitude),
        float(radius_km) if radius_km else _city_radius(int(population)),
        country,
        country_code,
        region,
        int(population),
        (name, *filter(None, names.split("|"))),
        is_landscape=kind == "re" and not region_code,
    )


def _city_radius(population: int) -> float:
    """Return the radius in km of what is near a city."""
    return float(round(min(50.0, 10 + 1.2 * math.sqrt(population / 1e4))))


@cache
def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
