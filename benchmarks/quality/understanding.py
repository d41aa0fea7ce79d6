"""Readings of queries with dates, places and people, judged by hand-written ones.

The rules of what is right are in sets/understanding.md. A reading is right if its dates, place and
people are those of the set, and its text has the same words, apart from function words.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mmsearch
from benchmarks.quality.trips_library import Copy, save_picture
from benchmarks.speed.compare import machine
from mmsearch.core.catalog import SnapshotReader
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.core.understood import Understood
from mmsearch.factories import catalogs
from mmsearch.search.query_reader import QueryReader
from mmsearch.storage.layout import IndexLayout

SETS = Path(__file__).with_name("sets")
RESULTS = Path(__file__).resolve().parents[1] / "results/understanding.json"
SET_NAMES = {
    "understanding": "judging",
    "understanding_check": "check",
    "understanding_check2": "second check",
    "understanding_check3": "third check",
    "understanding_check4": "fourth check",
    "understanding_check5": "fifth check",
    "understanding_fresh": "fresh",
    "understanding_dev": "development",
}
FIRST_RUNS = {
    "first": "understanding",
    "first_fresh": "understanding_fresh",
    "first_check": "understanding_check",
    "first_check2": "understanding_check2",
    "first_check3": "understanding_check3",
    "first_check4": "understanding_check4",
    "first_check5": "understanding_check5",
}
LIBRARIES = {
    "understanding_library": (
        "understanding",
        "understanding_check",
        "understanding_check2",
        "understanding_fresh",
        "understanding_dev",
    ),
    "understanding_library2": ("understanding_check3", "understanding_check4"),
    "understanding_library3": ("understanding_check5",),
}
"""Sets by the library whose people and places they name."""
CHECKS = tuple(name for name in FIRST_RUNS if name.startswith("first_check"))
ERRORS = ("invented", "different", "missed")
LANGUAGES = ("en", "de", "fr", "es", "it")
KINDS = ("date", "place", "person", "mixed", "trap")
Z = 1.96
TAKEN_AT = datetime(2015, 6, 1, 12)  # noqa: DTZ001 - cameras write local times
SIZES = (100_000, 1_000_000)
ROUNDS = 5
FIRST_DAY, TODAY = date(2006, 12, 1), date(2026, 11, 30)
PEOPLE = 25
COLD_QUERY, PLAIN_QUERY = "Anna in Lisbon last summer", "a red car"
LARGE_QUERIES = (
    PLAIN_QUERY,
    "beach 2019",
    "beach in July",
    "Anna at the beach",
    "beach in Lisbon",
    "beach near Lisbon",
    "beach in Portugal",
    COLD_QUERY,
)
COLD_SCRIPT = """
import sys, time
from pathlib import Path
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.factories import catalogs
from mmsearch.search.query_reader import QueryReader
from mmsearch.storage.layout import IndexLayout
home, query = sys.argv[1:]
with catalogs.open_read(IndexLayout.for_name(Path(home), "readings")) as catalog:
    started_s = time.perf_counter()
    QueryReader(catalog).read(SearchRequest(Query((Term(query),))))
    print((time.perf_counter() - started_s) * 1e3)
"""

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """a an the of in on at by to from for with and as is are was were we i my our me you your he
            she it its his her their they them that this these those where when which who what at s all
            everything photo photos picture pictures pic pics image images shot shots show find can give
            please look looking""",
        "de": """der die das den dem des ein eine einen einem einer eines in im an am auf aus bei beim mit
            von vom zu zum zur für und als ist sind war waren wir ich mein meine meinen meiner unser unsere
            unserem mir uns er sie es ihr sein seine dass wo was welche welcher welches alle alles foto
            fotos bild bilder aufnahme aufnahmen zeig zeige zeigen such suche finde haben habe hat""",
        "fr": """le la les l un une des d de du au aux a à en dans sur par pour avec et que qu qui où ce c
            cette ces est sont était nous on je j mon ma mes notre nos son sa ses leur chez tout toute tous
            toutes photo photos image images cliché clichés montre montrez cherche trouve moi y""",
        "es": """el la los las lo un una unos unas de del al a en por para con y e que cual es son era mi mis
            nuestro nuestra nuestros nuestras su sus me nos yo todo toda todos todas foto fotos imagen
            imágenes enséñame muéstrame busco busca encuentra ver""",
        "it": """il lo la i gli le l un uno una di del dello della dei degli delle d a ad al allo alla ai agli
            alle in nel nello nella nei negli nelle da dal dallo dalla dai dagli dalle su sul sulla sui per
            con e ed che cui è sono era mio mia miei mie nostro nostra suo sua mi ci io tutto tutta tutti
            tutte foto immagine immagini mostrami cerco cerca trova""",
    }.items()
}
"""Words that do not count when two texts are compared, by language."""


@dataclass(frozen=True)
class Judgement:
    """A reading compared with the expected one.

    Attributes:
        language: Language of the query.
        kind: ``date``, ``place``, ``person``, ``mixed`` or ``trap``.
        query: The query.
        right: True if the filters and the words of the text are the expected ones.
        verbatim: True if the text also is the same, apart from case and spaces.
        invented: Filters (``date``, ``place``, ``people``) that the query does not have.
        different: Filters with another value than expected.
        missed: Filters that are not read.
        got: The reading, as the set writes readings.
        expected: The reading of the set.
    """

    language: str
    kind: str
    query: str
    right: bool
    verbatim: bool
    invented: tuple[str, ...]
    different: tuple[str, ...]
    missed: tuple[str, ...]
    got: Mapping[str, Any]
    expected: Mapping[str, Any]


def load_set(name: str) -> list[dict[str, Any]]:
    """Return the queries of a set: ``understanding``, ``understanding_dev`` and so on."""
    lines = (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judge(row: Mapping[str, Any], understood: Understood) -> Judgement:
    """Compare the reading of a query with that of its row in a set."""
    expected = row["understood"]
    got = {
        "after": understood.after,
        "before": understood.before,
        "months": sorted(understood.months),
        "place": understood.place,
        "near": understood.near,
        "people": list(understood.people),
        "text": understood.text,
    }
    wanted, found = _filters(expected), _filters(got)
    invented, different, missed = [], [], []
    for name, value in found.items():
        if value and not wanted[name]:
            invented.append(name)
        elif wanted[name] and not value:
            missed.append(name)
        elif value != wanted[name]:
            different.append(name)
    language = row["language"]
    words = content_words(expected["text"], language) == content_words(got["text"], language)
    right = found == wanted and words
    verbatim = right and _normalized(got["text"]) == _normalized(expected["text"])
    return Judgement(
        language,
        row["kind"],
        row["query"],
        right,
        verbatim,
        tuple(invented),
        tuple(different),
        tuple(missed),
        got,
        expected,
    )


def content_words(text: str, language: str) -> list[str]:
    """Return the words of a text that count in a comparison, without case and accents."""
    words = (word.lower() for word in re.findall(r"[^\W_]+", text))
    return [_fold(word) for word in words if word not in FUNCTION_WORDS[language]]


def _filters(reading: Mapping[str, Any]) -> dict[str, Any]:
    place = reading["place"] and (_fold(reading["place"]), bool(reading.get("near")))
    ends = reading["after"], reading["before"]
    months = tuple(reading.get("months") or ())
    return {
        "date": (*ends, months) if any(ends) or months else None,
        "place": place or None,
        "people": sorted(_fold(name) for name in reading["people"]),
    }


def _fold(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _normalized(text: str) -> str:
    return " ".join(text.casefold().replace(",", " ").split())


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of a share by Wilson's formula."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, Z * Z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / trials / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


@contextmanager
def make_library(library_name: str = "understanding_library") -> Iterator[IndexLayout]:
    """Make a temporary index with a picture of each person and of each place of a library."""
    library = _load_library(library_name)
    points = [(place["latitude"], place["longitude"]) for place in library["places"]]
    shown = [(point, ()) for point in points] + [(None, (name,)) for name in library["people"]]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for number, (point, people) in enumerate(shown):
            picture = Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            copy = Copy(f"{number}.jpg", "photo", "", "", TAKEN_AT, point, people)
            save_picture(folder / copy.path, picture, copy, ("", ""))
        with mmsearch.open_index("readings", home=name, model="starter") as index:
            index.add_folder(folder)
        yield IndexLayout.for_name(Path(name), "readings")


def _load_library(library_name: str = "understanding_library") -> dict[str, Any]:
    library: dict[str, Any] = json.loads(
        (SETS / f"{library_name}.json").read_text(encoding="utf-8")
    )
    return library


def measure() -> dict[str, Any]:
    """Judge the readings of all sets, and measure how long readings and their filters take.

    The numbers of the first run with a judging set are kept: nothing was corrected by it yet.
    """
    results: dict[str, Any] = {"machine": machine(), "sets": {}}
    for library_name, names in LIBRARIES.items():
        with make_library(library_name) as layout, catalogs.open_read(layout) as catalog:
            for name in names:
                results["sets"][name] = summarize(judge_set(name, _Reading(catalog)))
            if library_name == "understanding_library":
                results["reading"] = _time_readings(QueryReader(catalog), layout)
    results["filters"] = [_time_filters(size) for size in SIZES]
    return results | first_runs(results["sets"])


class _Reading:
    """Reads queries on days."""

    def __init__(self, catalog: SnapshotReader) -> None:
        self._day = date.min
        self._reader = QueryReader(catalog, today=lambda: self._day)

    def __call__(self, query: str, today: date) -> Understood:
        self._day = today
        _, understood = self._reader.read(_request(query))
        return understood or Understood(query)


def first_runs(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of the first runs with the judging sets; later runs keep them."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    first: dict[str, Any] = {
        name: {key: sets[of][key] for key in ("queries", "all", *ERRORS)}
        for name, of in FIRST_RUNS.items()
    }
    for name in CHECKS:
        first[name]["wrong"] = [
            {key: row[key] for key in ("language", "kind", *ERRORS)}
            for row in sets[FIRST_RUNS[name]]["wrong"]
        ]
    return {name: kept.get(name, numbers) for name, numbers in first.items()}


def _request(query: str) -> SearchRequest:
    return SearchRequest(Query((Term(query),)))


def _time_readings(reader: QueryReader, layout: IndexLayout) -> dict[str, float]:
    """Measure milliseconds a query: of the sets in this process, and the first of a process."""
    warm_ms = []
    for row in load_set("understanding"):
        request = _request(row["query"])
        started_s = time.perf_counter()
        reader.read(request)
        warm_ms.append((time.perf_counter() - started_s) * 1e3)
    cold_ms = []
    for query in (COLD_QUERY, PLAIN_QUERY):
        command = [sys.executable, "-c", COLD_SCRIPT, str(layout.folder.parent), query]
        outputs = [
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for _ in range(ROUNDS)
        ]
        cold_ms.append(float(np.median([float(output) for output in outputs])))
    return {
        "median_ms": float(np.median(warm_ms)),
        "p95_ms": float(np.quantile(warm_ms, 0.95)),
        "cold_ms": cold_ms[0],
        "cold_plain_ms": cold_ms[1],
    }


def _time_filters(size: int) -> dict[str, Any]:
    """Measure the reading and the filters of some queries in a catalog of many pictures."""
    with tempfile.TemporaryDirectory() as name:
        layout = IndexLayout.for_name(Path(name), "large")
        _fill_catalog(layout, size)
        with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
            started_s = time.perf_counter()
            reader = QueryReader(catalog, today=lambda: TODAY)
            reader.read(_request(COLD_QUERY))
            first_ms = (time.perf_counter() - started_s) * 1e3
            rows = []
            for query in LARGE_QUERIES:
                readings_ms, filters_ms, found = [], [], size
                for _ in range(ROUNDS):
                    started_s = time.perf_counter()
                    request, understood = reader.read(_request(query))
                    read_s = time.perf_counter()
                    if understood is not None:
                        tree = make_filter_tree(request.query.filters)
                        found = len(snapshot.filter_ids(tree))
                    readings_ms.append((read_s - started_s) * 1e3)
                    filters_ms.append((time.perf_counter() - read_s) * 1e3)
                row = {"query": query, "found": found}
                row["reading_ms"] = float(np.median(readings_ms))
                row["filters_ms"] = float(np.median(filters_ms))
                rows.append(row)
                print(size, row, flush=True)
    return {"pictures": size, "first_ms": first_ms, "rows": rows}


def _fill_catalog(layout: IndexLayout, size: int) -> None:
    """Fill a catalog with pictures of all days of 20 years, at the places and of the people."""
    library = _load_library()
    random = np.random.default_rng(0)
    days = random.integers(0, 365 * 20, size).tolist()
    places = random.integers(0, len(library["places"]), size).tolist()
    people = random.integers(0, 3 * len(library["people"]), size).tolist()
    named = [(at + 1, library["people"][who]) for at, who in enumerate(people) if who < PEOPLE]
    points = [(place["latitude"], place["longitude"]) for place in library["places"]]
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.ensure_root(b"/photos")
    with closing(sqlite3.connect(layout.catalog)) as connection, connection:
        connection.execute(
            "INSERT INTO segments VALUES (1, 'segments/000001.vectors', 1, ?, ?, 512, 1)",
            ["0" * 64, size],
        )
        connection.executemany(
            "INSERT INTO contents (id, digest, kind) VALUES (?, ?, 'image')",
            ((at + 1, at.to_bytes(32, "big")) for at in range(size)),
        )
        connection.executemany(
            "INSERT INTO items (id, content_id, is_live, width, height, format, taken_at, latitude,"
            " longitude) VALUES (?, ?, 1, 1024, 768, 'JPEG', ?, ?, ?)",
            (
                (
                    at + 1,
                    at + 1,
                    f"{FIRST_DAY + timedelta(days=days[at])}T12:00:00",
                    *points[places[at]],
                )
                for at in range(size)
            ),
        )
        connection.executemany(
            "INSERT INTO embeddings (item_id, space_id, segment, texts_digest)"
            " VALUES (?, 1, 1, x'')",
            ((at + 1,) for at in range(size)),
        )
        names = [
            list(dict.fromkeys([place["city"], place["region"], place["country"]]))
            for place in library["places"]
        ]
        located = [(at + 1, names[place]) for at, place in enumerate(places)]
        _add_names(connection, "people", 0, [(at, [name]) for at, name in named])
        _add_names(connection, "place", size, located)


def _add_names(
    connection: sqlite3.Connection, kind: str, first: int, named: list[tuple[int, list[str]]]
) -> None:
    """Add a text of names to pictures; its id is that of the picture after ``first``."""
    connection.executemany(
        "INSERT INTO texts (id, item_id, kind, text, source) VALUES (?, ?, ?, ?, 'metadata')",
        ((first + at, at, kind, "; ".join(names)) for at, names in named),
    )
    connection.executemany(
        "INSERT INTO tags (text_id, item_id, kind, tag) VALUES (?, ?, ?, ?)",
        ((first + at, at, kind, name.casefold()) for at, names in named for name in names),
    )


def judge_set(name: str, read: Callable[[str, date], Understood]) -> list[Judgement]:
    """Judge the readings of all queries of a set.

    Args:
        name: Name of the set.
        read: Reads a query on a day.
    """
    return [
        judge(row, read(row["query"], date.fromisoformat(row["today"]))) for row in load_set(name)
    ]


def summarize(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Return shares of right readings by language and kind, and the wrong ones."""
    return {
        "queries": len(judgements),
        "all": _share(judgements),
        "languages": {
            language: _share([j for j in judgements if j.language == language])
            for language in LANGUAGES
        },
        "kinds": {kind: _share([j for j in judgements if j.kind == kind]) for kind in KINDS},
        "verbatim": sum(j.verbatim for j in judgements),
        "invented": sum(bool(j.invented) for j in judgements),
        "different": sum(bool(j.different) for j in judgements),
        "missed": sum(bool(j.missed) for j in judgements),
        "wrong": [
            {
                "language": j.language,
                "kind": j.kind,
                "query": j.query,
                "invented": j.invented,
                "different": j.different,
                "missed": j.missed,
                "expected": j.expected,
                "got": j.got,
            }
            for j in judgements
            if not j.right
        ],
    }


def _share(judgements: Sequence[Judgement]) -> dict[str, Any]:
    right = sum(j.right for j in judgements)
    low, high = wilson_interval(right, len(judgements))
    return {"right": right, "total": len(judgements), "low": low, "high": high}


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    lines = [
        "## Dates, places and people in words\n",
        "Queries in five languages, written by hand by the rules of quality/sets/understanding.md, about 40% of them with something "
        "that\nlooks like a date, a place or a name and must stay text. *right*: the filters and the words of the text are the "
        "expected ones; 95%\nintervals by Wilson's formula. *invented*: queries with a filter that they do not have; *different*: "
        "with a filter of another value;\n*missed*: without one of their filters. Only the first runs are of unseen queries: the "
        "corrections after them know the wrong readings of\n*judging*, and repair their kinds. The other rows say that nothing is broken, "
        "not how other queries are read. *check* and *second check* were written\nafter these corrections, by others who did not know the grammar, "
        "and were not seen before their first runs.\n\n"
        "*Third check*: queries of other kinds, with another library, by somebody who had a list of kinds, but had read neither the grammar nor the rules. Its "
        "first\nrun is judged by what the author expected; in 14 queries, the rules say something else, and by them "
        f"{_by_rules(results['first_check3'])} of {results['first_check3']['queries']} were right.\nThe set of today is judged by the "
        "rules; its lines keep both. *Fourth check*: kinds of queries that no set had, by the "
        "same\nauthor, who knew the grammar by then, before they were run. Both were used to correct the grammar after their first runs, and "
        "the third\nbefore the first run of the fourth. *Fifth check*: ordinary queries, with a third library, by somebody who had read "
        "neither the\ngrammar, nor the rules, nor the other sets; its first run is judged by what the author expected.\n",
        "| queries | right | invented | different | missed |",
        "|---|--:|--:|--:|--:|",
    ]
    for first, name in FIRST_RUNS.items():
        title = f"{SET_NAMES[name]}, first run"
        lines.append(f"| {title} | {_cell(results[first]['all'])} | {_errors(results[first])} |")
    for name, title in SET_NAMES.items():
        judged = results["sets"][name]
        lines.append(f"| {title} | {_cell(judged['all'])} | {_errors(judged)} |")
    for first in CHECKS[:2]:
        lines += [
            "",
            f"Wrong in the first run with *{SET_NAMES[FIRST_RUNS[first]]}*:\n",
            "| language | kind | error |",
            "|---|---|---|",
        ]
        lines += [
            f"| {row['language']} | {row['kind']} | {_error(row)} |"
            for row in results[first]["wrong"]
        ]
    lines += ["", "Wrong in the first runs with the last three checks:\n"]
    lines += ["| set | wrong, by kind |", "|---|---|"]
    for first in CHECKS[2:]:
        wrong = Counter(row["kind"] for row in results[first]["wrong"])
        kinds = ", ".join(f"{kind} {count}" for kind, count in wrong.most_common())
        lines.append(f"| {SET_NAMES[FIRST_RUNS[first]]} | {kinds} |")
    judged = results["sets"]["understanding"]
    parts = judged["languages"] | judged["kinds"]
    lines += ["", "The parts of *judging*:\n", "| queries | right |", "|---|--:|"]
    lines += [f"| {name} | {_cell(share)} |" for name, share in parts.items()]
    if judged["wrong"]:
        lines += ["", "Its wrong readings:\n", "| query | read as | expected |", "|---|---|---|"]
        lines += [
            f"| {row['query']} | {_reading(row['got'])} | {_reading(row['expected'])} |"
            for row in judged["wrong"]
        ]
    reading, filters = results["reading"], results["filters"]
    sizes = " | ".join(f"{part['pictures']:,}" for part in filters)
    first = " | ".join(f"{part['first_ms']:.0f}" for part in filters)
    lines += [
        "",
        f"A reading takes {reading['median_ms']:.2f} ms (median; 95% of the queries below "
        f"{reading['p95_ms']:.2f} ms), the first of a process {reading['cold_ms']:.0f} ms, and "
        f"{reading['cold_plain_ms']:.1f} ms if\nno word may be a filter. Reading and filters together, in "
        "milliseconds, in catalogs with pictures of 20 years, 74 places and 25\npeople; the first reading of a "
        "generation lists its people and places.\n",
        f"| query | {sizes} |",
        f"|---|{'--:|' * len(filters)}",
        f"| the first reading | {first} |",
    ]
    for at, row in enumerate(filters[0]["rows"]):
        found = [part["rows"][at] for part in filters]
        times = (f"{one['reading_ms']:.1f} + {one['filters_ms']:.0f}" for one in found)
        shares = (f" ({one['found']:,} pictures)" for one in found)
        cells = " | ".join(map("".join, zip(times, shares, strict=True)))
        lines.append(f"| {row['query']} | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(share: Mapping[str, Any]) -> str:
    of = f"{share['right']} of {share['total']}"
    return f"{of} = {share['right'] / share['total']:.1%} [{share['low']:.3f}, {share['high']:.3f}]"


def _by_rules(first: Mapping[str, Any]) -> int:
    return int(first.get("by_rules", first["all"]["right"]))


def _errors(judged: Mapping[str, Any]) -> str:
    return " | ".join(str(judged[name]) for name in ERRORS)


def _error(row: Mapping[str, Any]) -> str:
    """Return the error of a wrong reading in words, without its query."""
    found = [f"{name} {', '.join(row[name])}" for name in ERRORS if row[name]]
    return "; ".join(found) or "other words in the text"


def _reading(reading: Mapping[str, Any]) -> str:
    values = {name: value for name, value in reading.items() if value and name != "near"}
    near = {"near": True} if reading.get("near") else {}
    return ", ".join(f"{name} {value}" for name, value in (values | near).items())
