"""Searches in one index, and in two indexes of half its size that are searched as one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mmsearch
from benchmarks.speed.compare import machine
from mmsearch.core.arguments import Texts
from mmsearch.core.filters import Filters
from mmsearch.core.identity import Identity
from mmsearch.core.protocols import Encoder
from mmsearch.core.query import SearchRequest
from mmsearch.core.settings import load_settings
from mmsearch.core.types import FusionSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_encoder, make_fusion
from mmsearch.indexing.build import AUTO
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import store_vectors

PICTURES = 100_000
BLOCK = 25_000
ROUNDS = 15
QUERIES = {
    "a description": {},
    "its words, too (hybrid)": {"mode": "hybrid"},
    "a filter that all pass": {"filters": Filters(min_width=100)},
}


def measure(photos: Path, cache: Path, rows: int = PICTURES) -> dict[str, Any]:
    """Measure the wall time of searches, alternating, and compare their hits."""
    settings = load_settings()
    encoder = make_encoder("starter", settings, lambda line: None)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for index, first, last in (("one", 0, rows), ("a", 0, rows // 2), ("b", rows // 2, rows)):
            _fill(IndexLayout.for_name(home, index), encoder, first, last)
        with (
            mmsearch.open_index("one", home=home) as one,
            mmsearch.open_indexes(["a", "b"], home=home) as two,
        ):
            measured = [_compare(label, one, two, options) for label, options in QUERIES.items()]
        first_s = _median([lambda: _first(home, ["one"]), lambda: _first(home, ["a", "b"])], 3)
    return {"machine": machine(), "pictures": rows, "rows": measured, "first_s": first_s}


def _fill(layout: IndexLayout, encoder: Encoder, first: int, last: int) -> None:
    """Create an index of the pictures from one number to another; their vectors are random."""
    fusion = make_fusion(FusionSpec())
    identity = Identity(encoder.spec, fusion.spec, AUTO, ())
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.set_identity(identity)
        for number, start in enumerate(range(first, last, BLOCK), start=1):
            random = np.random.default_rng(start)
            size = (min(BLOCK, last - start), encoder.spec.dim)
            vectors = as_unit_vectors(random.standard_normal(size, dtype=np.float32))
            store_vectors(layout, catalog, encoder.spec, vectors, start + 1, number)
        builder = make_index_builder(layout, catalog, lambda: encoder)
        catalog.publish(builder.build(catalog.segments(), fusion, identity, {}))


def _compare(label: str, one: Any, two: Any, options: dict[str, Any]) -> dict[str, Any]:
    request = SearchRequest(mmsearch.parse_query("a windmill", **options), 20)
    answers = [index.query(request) for index in (one, two)]
    found = [[(hit.path, round(hit.score, 6)) for hit in answer.hits] for answer in answers]
    times = _median([lambda: one.query(request), lambda: two.query(request)], ROUNDS)
    same = sum(hit in found[0] for hit in found[1])
    return {"label": label, "one_s": times[0], "two_s": times[1], "same": same, "k": 20}


def _median(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median seconds of calls, which take turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for position, call in enumerate(calls):
            started = time.perf_counter()
            call()
            seconds[position].append(time.perf_counter() - started)
    return [float(np.median(each)) for each in seconds]


def _first(home: Path, names: Texts) -> None:
    """Open indexes and search once, as the first query of a process."""
    with mmsearch.open_indexes(names, home=home) as indexes:
        indexes.query(SearchRequest(mmsearch.parse_query("a windmill"), 20))


def page(results: dict[str, Any]) -> str:
    """Return the section of RESULTS.md."""
    lines = [
        "## Several indexes as one",
        "",
        f"{results['pictures']:,} random vectors in one index, and the same in two of half its size, "
        f"searched as one; medians of {ROUNDS} rounds that take turns, wall time. {results['machine']['processor']}, load {results['machine']['load']}.",
        "",
        "| query | one index, ms | two halves, ms | of 20 hits the same |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {each['label']} | {each['one_s'] * 1e3:.1f} | {each['two_s'] * 1e3:.1f} |"
        f" {each['same']} |"
        for each in results["rows"]
    ]
    one_s, two_s = results["first_s"]
    lines += [
        "",
        f"Opening and the first search: {one_s:.2f} s and {two_s:.2f} s, which compares the contents"
        " of the indexes.",
        "",
    ]
    return "\n".join(lines)
