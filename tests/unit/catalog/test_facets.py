"""Facets count the same pictures as a check of each, and their filters narrow to exactly these."""

import os
import sqlite3
import tempfile
from collections import defaultdict
from contextlib import closing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.catalog import facets as facets_module
from mmsearch.catalog.open import open_writer
from mmsearch.core.facets import FACET_FIELDS, apply_narrowing
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import NO_FILTERS, Filters
from tests.unit.catalog.samples import indexed
from tests.unit.catalog.test_filters import PLAIN, facts, fill

FOLDERS = (b"", b"trips/", b"Trips/", b"trips/more/", b"a [1]/b/", b"a [1]/", b"\xff/", b"!x/#/")
NO_STACK = 0

pictures = st.lists(
    st.tuples(
        facts,
        st.lists(st.sampled_from(FOLDERS), max_size=2, unique=True),
        st.sampled_from((NO_STACK, NO_STACK, 101, 102)),
    ),
    max_size=7,
)
wanted = st.one_of(
    st.just(NO_FILTERS),
    st.builds(
        Filters,
        after=st.sampled_from((None, "2019", "2020-01-01T00:00:01", "2020-06")),
        before=st.sampled_from((None, "2020-06-15T13", "2021", "2031")).map(
            lambda date: f"{date}:00" if date and "T" in date else date
        ),
        file_dates=st.booleans(),
    ),
    st.builds(Filters, cameras=st.sampled_from(((), ("nikon", "can"), ("=NIKON",)))),
    st.builds(
        Filters, people=st.sampled_from(((), ("anna",), ("=bob",))), where=st.just("width > 1")
    ),
    st.builds(
        Filters,
        paths=st.sampled_from(
            ((), ("/trips/",), ("/TRIPS/",), ("*.jpg",), ("/a \\[1\\]/",), ("/trips/", "/x/"))
        ),
    ),
)


def local_month(mtime_ns):
    return datetime.fromtimestamp(mtime_ns // 10**9).isoformat()[:7]  # noqa: DTZ006


def place_files(pictures):
    """Return the facts with a file in each of the folders, whose time is that of the facts."""
    placed = []
    for number, (own, folders, _) in enumerate(pictures, start=1):
        times = [mtime_ns for _, mtime_ns in own["files"]] or [0]
        files = [
            (folder + b"%d.jpg" % number, times[at % len(times)])
            for at, folder in enumerate(folders)
        ]
        placed.append({**own, "files": files})
    return placed


def write_stacks(path, stacks):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO duplicates (content_id, stack_id, near_id) VALUES (?, ?, ?)",
            ((content, stack, stack) for content, stack in stacks),
        )


def expected_values(own, field, filters):
    """Return the values of a picture, except folders."""
    months = {own["taken_at"][:7]} if own["taken_at"] else set()
    if not months and filters.file_dates:
        dates = [datetime.fromtimestamp(t // 10**9).isoformat() for _, t in own["files"]]  # noqa: DTZ006
        months = {
            date[:7] for date in dates if (filters.after or "") <= date < (filters.before or "9999")
        }
    camera = own["camera"] and own["camera"].casefold()
    return {
        "month": months,
        "year": {month[:4] for month in months},
        "camera": {camera} - {None},
        "format": {own["format"].casefold()},
        "kind": {"image"},
        "rating": {str(own["rating"])} - {"None"},
        "person": {name.casefold() for name in own["people"]},
        "place": {name.casefold() for name in own["place"]},
        "tag": {name.casefold() for name in own["tags"]},
    }[field]


@given(pictures, wanted, st.booleans(), st.sampled_from((2, 20)), st.booleans())
def test_facets_count_as_oracle_and_their_filters_narrow_to_exactly_as_many(
    drawn, filters, fold, limit, is_read_by_ids
):
    few = facets_module.MAX_READ_BY_IDS if is_read_by_ids else -1
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(facets_module, "MAX_READ_BY_IDS", few)
        path = Path(folder) / "catalog.sqlite"
        catalog = open_writer(path, create=True)
        placed = place_files(drawn)
        fill(catalog, placed, numbered=False)
        stacks = [(n, s) for n, (*_, s) in enumerate(drawn, start=1) if s != NO_STACK]
        write_stacks(path, stacks)
        unit_of = {number: number + 10 for number in range(1, len(drawn) + 1)}
        if fold:
            unit_of |= dict(stacks)
        with catalog.snapshot() as snapshot:
            ids = None if not filters else snapshot.filter_ids(make_filter_tree(filters))
            passed = snapshot.filter_ids(make_filter_tree(filters)).tolist()
            counted, found = snapshot.count_facets(
                tuple(FACET_FIELDS), ids, filters, limit=limit, fold=fold
            )
            assert counted == len({unit_of[number] for number in passed})
            for facet in found:
                for value in facet.values:
                    if value.filter is None:
                        assert facet.field == "folder"
                        continue
                    narrowed = apply_narrowing(filters, value.filter)
                    left = snapshot.filter_ids(make_filter_tree(narrowed)).tolist()
                    assert value.count == len({unit_of[number] for number in left}), value
                    assert value.count > 0
        catalog.close()
    for facet in found:
        assert len(facet.values) == min(limit, facet.distinct)
        if facet.field == "folder":
            continue
        units = defaultdict(set)
        for number in passed:
            for value in expected_values(placed[number - 1], facet.field, filters):
                units[value].add(unit_of[number])
        assert facet.distinct == len(units)
        assert all(len(units[v.value.casefold()]) == v.count for v in facet.values)
        listed = {unit for v in facet.values for unit in units[v.value.casefold()]}
        with_value = set().union(*units.values())
        assert facet.other == len(with_value - listed)
        assert facet.missing == counted - len(with_value)


def facet(catalog, field, filters=NO_FILTERS, *, limit=20):
    with catalog.snapshot() as snapshot:
        ids = snapshot.filter_ids(make_filter_tree(filters))
        return snapshot.count_facets((field,), ids, filters, limit=limit, fold=True)[1][0]


def values(catalog, field, filters=NO_FILTERS):
    return [(each.value, each.count) for each in facet(catalog, field, filters).values]


def fill_folders(catalog, *keys):
    fill(catalog, [{**PLAIN, "files": [(os.fsencode(key), 1)]} for key in keys], numbered=False)


def test_folders_are_those_of_first_level_with_a_choice_and_below_that_of_filter(catalog):
    fill_folders(catalog, "p/2019/a.jpg", "p/2019/May/b.jpg", "p/2019/June/c.jpg", "p/2020/d.jpg")
    found = facet(catalog, "folder")
    assert [(each.value, each.count) for each in found.values] == [("p/2019", 3), ("p/2020", 1)]
    (narrower, _) = found.values
    assert narrower.filter == {"path": ["/p/2019/"]}
    below = facet(catalog, "folder", Filters(paths=narrower.filter["path"]))
    assert [each.value for each in below.values] == ["p/2019/June", "p/2019/May"]
    assert below.missing == 1


def test_folder_with_other_patterns_has_no_filter(catalog):
    fill_folders(catalog, "a/1.jpg", "a/2.png", "b/3.jpg")
    found = facet(catalog, "folder", Filters(paths=("*.jpg",)))
    assert [(each.value, each.count, each.filter) for each in found.values] == [
        ("a", 1, None),
        ("b", 1, None),
    ]


def test_folder_named_like_the_root_has_no_filter(catalog):
    fill_folders(catalog, "photos/1.jpg", "b/2.jpg")
    assert {each.value: each.filter for each in facet(catalog, "folder").values} == {
        "b": {"path": ["/b/"]},
        "photos": None,
    }


def test_folder_that_is_not_utf8_is_printed_and_has_no_filter(catalog):
    fill_folders(catalog, b"\xff/1.jpg", "b/2.jpg")
    found = facet(catalog, "folder")
    assert {each.value: each.filter for each in found.values} == {
        "b": {"path": ["/b/"]},
        r"\xff": None,
    }


def test_years_are_newest_first_and_names_by_count_with_their_spelling(catalog):
    shared = {**PLAIN, "people": {"Anna Schmidt"}, "files": [(b"x", 1)]}
    fill(
        catalog,
        [
            {**shared, "taken_at": "2018-03-01T00:00:00"},
            {**shared, "taken_at": "2020-03-01T00:00:00", "people": {"Émile", "anna schmidt"}},
            {**shared, "taken_at": "2018-04-01T00:00:00"},
        ],
    )
    assert values(catalog, "year") == [("2020", 1), ("2018", 2)]
    assert values(catalog, "month") == [("2020-03", 1), ("2018-04", 1), ("2018-03", 1)]
    assert values(catalog, "person") == [("Anna Schmidt", 3), ("Émile", 1)]


def test_last_year_has_no_end(catalog):
    fill(catalog, [{**PLAIN, "taken_at": "9999-12-31T23:59:59", "files": [(b"x", 1)]}])
    assert facet(catalog, "year").values[0].filter == {"after": "9999"}
    assert facet(catalog, "month").values[0].filter == {"after": "9999-12"}


def test_facets_of_newer_generation_are_read_again(catalog, root):
    fill_folders(catalog, "a/1.jpg", "b/2.jpg")
    everything = np.arange(1, facets_module.MAX_READ_BY_IDS + 10)
    with catalog.snapshot() as snapshot:
        assert snapshot.count_facets(("year",), None, NO_FILTERS, limit=1, fold=True)[0] == 2
    catalog.commit_shard(indexed(root, {}, removed=[b"a/1.jpg"]))
    with catalog.snapshot() as snapshot:
        counted, _ = snapshot.count_facets(("year",), everything, NO_FILTERS, limit=1, fold=True)
    assert counted == 1
