"""Counts of pictures by year, place, camera and other fields, in a large catalog."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.compare import compare, machine, row, table
from mmsearch.core.facets import FACET_FIELDS, FACET_HITS, Facet
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import NO_FILTERS, Filters
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout

PICTURES = 100_000
ROUNDS = 7
LIMIT = 20
FIELDS = tuple(FACET_FIELDS)
THREE_YEARS = Filters(after="2015", before="2018")
CAMERAS = tuple(f"Maker {number % 7} Model {number}" for number in range(60))
PEOPLE = tuple(f"Person {number}" for number in range(100))
FIRST_YEAR, YEARS = 2005, 20

STATEMENTS = {
    "year": "SELECT substr(taken_at, 1, 4), count(*) FROM items WHERE is_live GROUP BY 1",
    "month": "SELECT substr(taken_at, 1, 7), count(*) FROM items WHERE is_live GROUP BY 1",
    "camera": "SELECT camera, count(*) FROM items WHERE is_live GROUP BY 1",
    "format": "SELECT format, count(*) FROM items WHERE is_live GROUP BY 1",
    "rating": "SELECT rating, count(*) FROM items WHERE is_live GROUP BY 1",
    "kind": "SELECT kind, count(*) FROM contents WHERE asset_count > 0 GROUP BY 1",
    "folder": "SELECT substr(key, 1, instr(key, x'2f') - 1), count(DISTINCT content_id)"
    " FROM assets GROUP BY 1",
    "place": "SELECT tag, count(*) FROM tags WHERE kind = 'place' GROUP BY 1",
    "person": "SELECT tag, count(*) FROM tags WHERE kind = 'people' GROUP BY 1",
    "tag": "SELECT tag, count(*) FROM tags WHERE kind = 'keywords' GROUP BY 1",
}
"""A statement for each field, for a catalog in which a picture has one item, file and text."""


def measure(photos: Path, cache: Path, rows: int = PICTURES) -> dict[str, Any]:
    """Measure the CPU time of counts in a catalog of some pictures."""
    with tempfile.TemporaryDirectory() as name:
        layout = IndexLayout.for_name(Path(name), "default")
        _fill_catalog(layout, rows)
        connection = sqlite3.connect(layout.catalog)
        connection.execute("ANALYZE")
        connection.commit()
        first_ms = _first_ms(layout, FIELDS)
        one_first_ms = _first_ms(layout, ("year",))
        random = np.random.default_rng(2)
        best = np.sort(random.permutation(rows)[:FACET_HITS] + 1)
        best_first_ms = _first_ms(layout, FIELDS, best)
        measured = []
        with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:

            def count(ids: Any = None, filters: Filters = NO_FILTERS) -> Sequence[Facet]:
                return snapshot.count_facets(FIELDS, ids, filters, limit=LIMIT, fold=True)[1]

            def by_statements() -> dict[str, dict[str, int]]:
                return {
                    field: dict(connection.execute(statement).fetchall())
                    for field, statement in STATEMENTS.items()
                }

            passed = snapshot.filter_ids(make_filter_tree(THREE_YEARS))
            measured.append(
                row(
                    "all pictures, all fields",
                    compare(count, by_statements, rounds=ROUNDS),
                    None,
                    _describe_guard(count(), by_statements()),
                )
            )
            filtered_ms = _median_ms(lambda: count(passed, THREE_YEARS))
            best_ms = _median_ms(lambda: count(best))
        connection.close()
    return {
        "machine": machine(),
        "pictures": rows,
        "rows": measured,
        "first_ms": first_ms,
        "one_first_ms": one_first_ms,
        "best_first_ms": best_first_ms,
        "filtered_ms": filtered_ms,
        "filtered": len(passed),
        "best_ms": best_ms,
    }


def _first_ms(layout: IndexLayout, fields: Sequence[str], ids: Any = None) -> float:
    """Return the milliseconds of the first count of a process, after the file was read once."""
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        started_s = time.process_time()
        snapshot.count_facets(fields, ids, NO_FILTERS, limit=LIMIT, fold=True)
        return (time.process_time() - started_s) * 1e3


def _median_ms(work: Callable[[], object]) -> float:
    times_ms = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        work()
        times_ms.append((time.process_time() - started_s) * 1e3)
    return float(np.median(times_ms))


def _describe_guard(facets: Sequence[Facet], expected: dict[str, dict[str, int]]) -> str:
    """Return how many of the listed values have the number of the statement."""
    listed = same = 0
    for facet in facets:
        numbers = {
            (value.decode() if isinstance(value, bytes) else str(value).casefold()): number
            for value, number in expected[facet.field].items()
        }
        listed += len(facet.values)
        same += sum(numbers.get(value.value.casefold()) == value.count for value in facet.values)
    return f"{same:,} of {listed:,} numbers the same"


def _fill_catalog(layout: IndexLayout, rows: int) -> None:
    """Fill a catalog with pictures of one file each, with dates, cameras, places and so on."""
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.ensure_root(b"/photos")
    random = np.random.default_rng(0)
    months, days = random.integers(1, 13, rows), random.integers(1, 29, rows)
    cameras = random.integers(0, 2 * len(CAMERAS), rows)
    ratings = random.integers(0, 30, rows)
    people = random.integers(0, len(PEOPLE), (rows, 2))
    words = random.integers(0, 3000, (rows, 3))
    name = f"segments/000001-{'0' * 16}.vectors"
    connection = sqlite3.connect(layout.catalog)
    # The catalog is thrown away.
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        connection.execute(
            "INSERT INTO segments (number, name, bytes, sha256, rows, dim, space_id)"
            " VALUES (1, ?, 1, ?, ?, 512, 1)",
            [name, "0" * 64, rows],
        )
        connection.executemany(
            "INSERT INTO contents (id, digest, kind) VALUES (?, ?, ?)",
            (
                (at + 1, at.to_bytes(32, "big"), "video" if at % 50 == 0 else "image")
                for at in range(rows)
            ),
        )
        connection.executemany(
            "INSERT INTO items (id, content_id, width, height, format, taken_at, camera, rating)"
            " VALUES (?, ?, 4000, 3000, ?, ?, ?, ?)",
            (
                (
                    at + 1,
                    at + 1,
                    ("JPEG", "JPEG", "JPEG", "HEIF", "PNG")[at % 5],
                    f"{_year(at, rows)}-{months[at]:02d}-{days[at]:02d}T12:30:00"
                    if at % 10
                    else None,
                    CAMERAS[cameras[at]] if cameras[at] < len(CAMERAS) else None,
                    int(ratings[at]) if ratings[at] <= 5 else None,
                )
                for at in range(rows)
            ),
        )
        connection.executemany(
            "INSERT INTO assets (source_id, key, size, mtime_ns, checked_ns, digest, content_id)"
            " VALUES (1, ?, 1000, 1, 9, ?, ?)",
            ((_path(at, rows), at.to_bytes(32, "big"), at + 1) for at in range(rows)),
        )
        texts = list(_iter_texts(rows, people, words))
        connection.executemany(
            "INSERT INTO texts (id, item_id, kind, text, source) VALUES (?, ?, ?, ?, 'metadata')",
            texts,
        )
        connection.executemany(
            "INSERT INTO tags (text_id, item_id, kind, tag) VALUES (?, ?, ?, ?)",
            (
                (text_id, item_id, kind, value.casefold())
                for text_id, item_id, kind, text in texts
                for value in text.split("; ")
            ),
        )
    connection.close()


def _year(at: int, rows: int) -> int:
    return FIRST_YEAR + at * YEARS // rows


def _path(at: int, rows: int) -> bytes:
    return b"%d/Trip %d/IMG_%07d.jpg" % (_year(at, rows), at // 500, at)


def _iter_texts(rows: int, people: Any, words: Any) -> Iterator[tuple[int, int, str, str]]:
    """Yield places of two fifths of the pictures, people of a quarter, and keywords of a third."""
    text_id = 0
    for at in range(rows):
        texts = {
            "place": f"City {at // 50 % 2000}; Region {at // 500 % 200}; Country {at // 5000 % 20}",
            "people": "; ".join(dict.fromkeys(PEOPLE[number] for number in people[at])),
            "keywords": "; ".join(dict.fromkeys(f"word {number}" for number in words[at])),
        }
        has_text = {"place": at % 5 < 2, "people": at % 4 == 0, "keywords": at % 3 == 0}
        for kind, text in texts.items():
            if has_text[kind]:
                text_id += 1
                yield text_id, at + 1, kind, text


def page(results: dict[str, Any]) -> str:
    """Return the section of the results as Markdown."""
    return f"""\
## Counts by year, place and camera: {results["pictures"]:,} pictures

Processor time of the numbers of pictures by all {len(FIELDS)} fields, of a catalog: mmsearch once
the values are in memory, beside a statement GROUP BY for each field. The guard: listed numbers that are the same.

{table(results["rows"], "mmsearch", "GROUP BY")}
The first count of a process, which reads the values: {results["first_ms"]:,.0f} ms by all fields, {results["one_first_ms"]:,.0f} ms by year
alone; of the {FACET_HITS:,} hits of a description, {results["best_first_ms"]:,.0f} ms. Later counts: {results["best_ms"]:,.0f} ms of these hits,
{results["filtered_ms"]:,.0f} ms of the {results["filtered"]:,} pictures of three years.
"""
