"""Filters return the same pictures as a check of each picture."""

import dataclasses
import tempfile
import time
from datetime import datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmsearch.catalog import place_texts
from mmsearch.catalog.open import open_writer
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DeadlineError, InvalidQueryError
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters, GeoCircle
from mmsearch.core.query import (
    FILTER_FIELDS,
    LIST_FIELDS,
    AllOf,
    AnyOf,
    Arithmetic,
    Compare,
    Contains,
    FieldName,
    IsMissing,
    Not,
    OneOf,
)
from mmsearch.core.records import EncodedPicture, IndexedFile, ScannedFile, ShardCommit
from mmsearch.core.types import Picture, Text
from tests.unit.catalog.filter_oracle import distance_km, matches_filters
from tests.unit.catalog.samples import IDENTITY, digest_of, segment

CAMERAS = ("Nikon D700", "Canon", "ÉCLAIR 16", "nikon", None)
FORMATS = ("JPEG", "PNG", "WEBP")
DATES = ("2019-12-31T23:59:59", "2020-01-01T00:00:00", "2020-06-15T12:00:00", None)
LENSES = ("EF 50mm", "éclair lens", None)
LABELS = ("Red", "Grün", None)
RATINGS = (-1, 0, 3, 5, None)
PEOPLE = ("Anna Schmidt", "Émile", "Bob")
NAMES_OF_PLACES = ("Lisbon", "Portugal", "Évora")
TAGS = ("Beach", "straße", "ÉTÉ", "b")
SIZES = (1, 480, 640, 641, 4000)
PLACES = ((48.86, 2.35), (48.9, 2.4), (-89.9, 10.0), (0.0, 179.99), (0.0, -179.99), (None, None))
FOLDERS = (b"a.jpg", b"trips/b.jpg", b"Trips/c.png", b"trips/more/d.jpg")

facts = st.fixed_dictionaries(
    {
        "width": st.sampled_from(SIZES),
        "height": st.sampled_from(SIZES),
        "format": st.sampled_from(FORMATS),
        "taken_at": st.sampled_from(DATES),
        "camera": st.sampled_from(CAMERAS),
        "lens": st.sampled_from(LENSES),
        "label": st.sampled_from(LABELS),
        "rating": st.sampled_from(RATINGS),
        "position": st.sampled_from(PLACES),
        "people": st.frozensets(st.sampled_from(PEOPLE)),
        "place": st.frozensets(st.sampled_from(NAMES_OF_PLACES)),
        "tags": st.frozensets(st.sampled_from(TAGS)),
        "auto_tags": st.frozensets(st.sampled_from(TAGS)),
        "files": st.lists(
            st.tuples(st.sampled_from(FOLDERS), st.integers(0, 2 * 10**18)),
            max_size=2,
            unique_by=lambda file: file[0],
        ),
    }
)

numbers = [name for name, kind in FILTER_FIELDS.items() if kind is not str]
words = [name for name, kind in FILTER_FIELDS.items() if kind is str and name not in LIST_FIELDS]
number_values = st.sampled_from((*SIZES, 0.5, 1.0, 48.86, -10))
word_values = st.sampled_from(
    ("jpeg", "nikon", "é", "Landscape", "2020-01-01T00:00:00", "", "%", "_")
)
operators = st.sampled_from("+-*/")
leaves = st.sampled_from(numbers).map(FieldName) | number_values | st.sampled_from((0, 2**53 - 1))
pairs = leaves | st.builds(Arithmetic, leaves, operators, leaves)
operands = pairs | st.builds(Arithmetic, pairs, operators, pairs)
signs = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
atoms = st.one_of(
    st.builds(Compare, operands, signs, operands),
    st.builds(Compare, st.sampled_from(numbers).map(FieldName), signs, number_values),
    st.builds(Compare, number_values, signs, st.sampled_from(numbers).map(FieldName)),
    st.builds(
        Compare,
        st.sampled_from(numbers).map(FieldName),
        signs,
        st.sampled_from(numbers).map(FieldName),
    ),
    st.builds(Compare, st.sampled_from(words).map(FieldName), signs, word_values),
    st.builds(Contains, st.sampled_from(words), word_values),
    st.builds(Contains, st.just("tags"), st.sampled_from(("beach", "STRASSE", "été", "x"))),
    st.builds(Contains, st.sampled_from(("people", "place")), st.sampled_from(("ANNA", "li", ""))),
    st.builds(OneOf, st.sampled_from(words), st.lists(word_values, max_size=3).map(tuple)),
    st.builds(OneOf, st.sampled_from(numbers), st.lists(number_values, max_size=3).map(tuple)),
    st.builds(IsMissing, st.sampled_from(list(FILTER_FIELDS))),
)
conditions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
dates = st.sampled_from(("1990-01-01T00:00:00", "2020-01-01T00:00:00", "2020-06-15T12:00:00"))
filters = st.builds(
    Filters,
    paths=st.lists(st.sampled_from(("trips/*.jpg", "*.JPG", "*/b.jpg", "x")), max_size=1).map(
        tuple
    ),
    after=st.none() | dates,
    before=st.none() | dates,
    min_width=st.none() | st.sampled_from(SIZES),
    min_height=st.none() | st.sampled_from(SIZES),
    orientation=st.none() | st.sampled_from(("landscape", "portrait", "square")),
    formats=st.lists(st.sampled_from(("jpeg", "PNG")), max_size=2).map(tuple),
    cameras=st.lists(st.sampled_from(("NIKON", "éclair", "")), max_size=2).map(tuple),
    near=st.none()
    | st.builds(
        GeoCircle,
        st.sampled_from((48.86, -90.0, 90.0, 0.0)),
        st.sampled_from((2.35, 180.0, -180.0, 0.0)),
        st.sampled_from((0.1, 5.7, 50.0, 21000.0)),
    ),
    tags=st.lists(st.sampled_from(("beach", "Straße", "ÉTÉ")), max_size=2).map(tuple),
    auto_tags=st.lists(st.sampled_from(("beach", "ÉTÉ")), max_size=1).map(tuple),
    file_dates=st.booleans(),
    people=st.lists(st.sampled_from(("anna", "E\u0301MILE", "b")), max_size=1).map(tuple),
    places=st.lists(st.sampled_from(("lisbon", "o", "e\u0301")), max_size=2).map(tuple),
    min_rating=st.none() | st.sampled_from((0, 3, 5)),
    where=st.none() | conditions,
)
# Each filter keeps at most three fields; with more, almost no picture passes.
names = [field.name for field in dataclasses.fields(Filters)]
sparse = st.builds(
    lambda full, kept: Filters(**{name: getattr(full, name) for name in kept}),
    filters,
    st.sets(st.sampled_from(names), max_size=3),
)


def fill(catalog, pictures, *, numbered=True):
    """Commit one picture per entry, with ids from 1, each in a folder with its id if numbered."""
    catalog.set_identity(IDENTITY)
    root, _ = catalog.ensure_root(b"/photos")
    items, placed = [], []
    for number, own in enumerate(pictures, start=1):
        texts = tuple(
            Text(kind, "; ".join(sorted(own[name])))
            for name, kind in (
                ("tags", "keywords"),
                ("auto_tags", "tag"),
                ("people", "people"),
                ("place", "place"),
            )
            if own.get(name)
        )
        latitude, longitude = own["position"]
        picture = Picture(
            own["width"],
            own["height"],
            own["format"],
            **{
                name: own.get(name)
                for name in ("taken_at", "taken_from", "camera", "lens", "rating", "label")
            },
            latitude=latitude,
            longitude=longitude,
            texts=texts,
        )
        items.append(EncodedPicture(number, digest_of(str(number)), picture))
        for path, mtime_ns in own["files"]:
            place = b"%d/%b" % (number, path) if numbered else path
            file = ScannedFile(place, 10, mtime_ns)
            placed.append(IndexedFile(file, items[-1].digest))
    # The oracle knows no names of coordinates.
    with patch.object(place_texts, "_name_items", return_value={}):
        if items:
            catalog.commit_shard(ShardCommit(root.id, 1, segment(1, len(items)), items, placed))


def oracle_facts(number, own):
    """Convert the facts of a picture to the form that the oracle takes."""
    latitude, longitude = own["position"]
    return {
        **own,
        "latitude": latitude,
        "longitude": longitude,
        "taken_from": None,
        "damage": None,
        **{name: {value.casefold() for value in own[name]} for name in LIST_FIELDS},
        "files": [(b"%d/%b" % (number, path), mtime_ns) for path, mtime_ns in own["files"]],
    }


@given(st.lists(facts, max_size=6), sparse)
def test_filter_ids_any_filters_returns_same_pictures_as_oracle(pictures, wanted):
    wanted = dataclasses.replace(wanted, paths=tuple(f"*/{path}" for path in wanted.paths))
    if wanted.near is not None:
        for own in pictures:
            if own["position"][0] is not None:
                # At the edge of the circle, the two formulas may round to different sides.
                assume(abs(distance_km(wanted.near, *own["position"]) - wanted.near.km) > 1e-6)
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_writer(Path(folder) / "catalog.sqlite", create=True)
        fill(catalog, pictures)
        with catalog.snapshot() as snapshot:
            allowed = snapshot.filter_ids(make_filter_tree(wanted))
        catalog.close()
    expected = [
        n
        for n, own in enumerate(pictures, start=1)
        if matches_filters(oracle_facts(n, own), wanted)
    ]
    assert allowed.dtype == np.int64
    assert allowed.tolist() == expected


def test_filter_ids_without_filters_returns_all_pictures_with_files(catalog):
    live_picture = {"width": 1, "height": 1, "format": "PNG", "taken_at": None, "camera": None}
    live_picture |= {"position": (None, None), "files": [(b"a", 1)]}
    fill(catalog, [live_picture, {**live_picture, "files": []}, live_picture])
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(make_filter_tree(Filters())).tolist() == [1, 3]


def test_filter_ids_invalid_path_pattern_raises_error_naming_pattern(catalog):
    with catalog.snapshot() as snapshot, pytest.raises(InvalidQueryError, match="'!'"):
        snapshot.filter_ids(make_filter_tree(Filters(paths=("!",))))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/photos/1/Z\u00fcrich.jpg", [1]),
        ("Z\u00fcrich.jpg", [1]),
        ("photos/2/photo [1].jpg", [2]),
        ("/photos/2/photo [1].jpg", [2]),
        ("/photos/3/[a.jpg", [3]),
        ("/photos/[12]/*", [1, 2]),
        (r"3\*.jpg", [3]),
        ("/photos", [1, 2, 3]),
        ("/other/1", []),
        ("/photos/\ud800", []),
    ],
)
def test_filter_ids_path_is_compared_as_people_write_it(catalog, pattern, found):
    names = ("Zu\u0308rich.jpg", "photo [1].jpg", "[a.jpg")
    fill(catalog, [{**PLAIN, "files": [(name.encode(), 1)]} for name in names])
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(make_filter_tree(Filters(paths=(pattern,)))).tolist() == found
        rest = snapshot.filter_ids(make_filter_tree(Filters(paths=("*", f"!{pattern}")))).tolist()
    exact = [number for number in found if names[number - 1] in pattern]
    assert not set(exact) & set(rest)


def test_filter_ids_path_of_file_means_this_file_and_other_patterns_ignore_case(catalog):
    names = (b"Cat.jpg", b"cat.jpg", b"a/Cat.jpg")
    files = [[(name, 1)] for name in names]
    fill(catalog, [{**PLAIN, "files": own} for own in files], numbered=False)
    expected = {
        ("/photos/Cat.jpg",): [1],
        ("/photos/cat.jpg",): [2],
        ("/photos/cat.jpg", "/photos/Cat.jpg"): [1, 2],
        ("/photos/CAT.jpg",): [1, 2],
        ("/Cat.jpg",): [1, 2],
        ("cat.jpg",): [1, 2, 3],
        ("*.jpg", "!/photos/Cat.jpg"): [2, 3],
        ("/photos/Cat.jpg", "a/cat.jpg"): [1, 3],
        ("/photos/A/Cat.jpg",): [3],
    }
    with catalog.snapshot() as snapshot:
        found = {
            given: snapshot.filter_ids(make_filter_tree(Filters(paths=given))).tolist()
            for given in expected
        }
    assert found == expected


def test_filter_ids_path_pattern_after_deadline_raises_deadline_error(catalog):
    live_picture = {"width": 1, "height": 1, "format": "PNG", "taken_at": None, "camera": None}
    fill(catalog, [live_picture | {"position": (None, None), "files": [(b"a", 1)]}])
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(make_filter_tree(Filters(paths=("a",)))).tolist() == [1]
        with pytest.raises(DeadlineError), deadline(time.monotonic() - 1):
            snapshot.filter_ids(make_filter_tree(Filters(paths=("a",))))


@pytest.mark.parametrize("name", ["formats", "cameras", "tags", "auto_tags", "people", "places"])
def test_filter_ids_list_over_100_values_raises_invalid_query_error(catalog, name):
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(make_filter_tree(Filters(**{name: ("a",) * 100}))).tolist() == []
        with pytest.raises(
            InvalidQueryError, match=f"^The query has 2,000 {name}; at most 100 are allow"
        ):
            snapshot.filter_ids(make_filter_tree(Filters(**{name: ("a",) * 2000})))


PLAIN = {
    "width": 1,
    "height": 1,
    "format": "PNG",
    "taken_at": None,
    "camera": None,
    "position": (None, None),
}


def local_ns(text):
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def test_date_filter_last_nanosecond_of_year_counts_as_old_year(catalog):
    new_year = local_ns("2020-01-01T00:00:00")
    fill(
        catalog,
        [{**PLAIN, "files": [(b"a", new_year - 1)]}, {**PLAIN, "files": [(b"b", new_year)]}],
    )
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(
            make_filter_tree(Filters(after="2020-01-01T00:00:00", file_dates=True))
        ).tolist() == [2]
        assert snapshot.filter_ids(
            make_filter_tree(Filters(before="2020-01-01T00:00:00", file_dates=True))
        ).tolist() == [1]


def test_date_range_filter_requires_one_file_between_both_dates(catalog):
    files = [(b"old", local_ns("1990-05-01T00:00:00")), (b"new", local_ns("2021-05-01T00:00:00"))]
    fill(catalog, [{**PLAIN, "files": files}])
    with catalog.snapshot() as snapshot:
        between = Filters(
            after="2000-01-01T00:00:00", before="2010-01-01T00:00:00", file_dates=True
        )
        assert snapshot.filter_ids(make_filter_tree(between)).tolist() == []
        assert snapshot.filter_ids(
            make_filter_tree(Filters(after="2000-01-01T00:00:00", file_dates=True))
        ).tolist() == [1]


@pytest.mark.parametrize(
    "senseless",
    [{"min_width": 2**70}, {"tags": ("\ud800",)}, {"cameras": ("\udfff",)}],
)
def test_filter_ids_value_not_storable_in_sqlite_raises_invalid_query_error(catalog, senseless):
    with (
        catalog.snapshot() as snapshot,
        pytest.raises(InvalidQueryError, match="too large"),
    ):
        snapshot.filter_ids(make_filter_tree(Filters(**senseless)))


def test_filter_ids_50_nested_conditions_returns_pictures(catalog):
    fill(catalog, [{**PLAIN, "files": [(b"a", 1)]}])
    condition = Compare(FieldName("width"), ">", 0)
    for level in range(50):
        condition = (AllOf if level % 2 else AnyOf)((Contains("camera", "x"), condition))
    with catalog.snapshot() as snapshot:
        assert snapshot.filter_ids(make_filter_tree(Filters(where=condition))).tolist() == []


def test_filter_ids_condition_past_parser_stack_raises_invalid_query_error(catalog):
    operand = FieldName("width")
    for _ in range(50):
        operand = Arithmetic(1, "-", operand)
    with catalog.snapshot() as snapshot, pytest.raises(InvalidQueryError, match="nested too deep"):
        snapshot.filter_ids(make_filter_tree(Filters(where=Compare(operand, ">", 0))))


@pytest.mark.parametrize(
    ("left", "operator", "right", "passing"),
    [
        # With 64-bit integers, the product would overflow.
        (Arithmetic(Arithmetic(FieldName("width"), "*", 2**52), "*", 2**52), ">", 0, [1, 2]),
        (Arithmetic(FieldName("width"), "/", 2), "==", 0.5, [1]),
        (
            Arithmetic(FieldName("width"), "-", Arithmetic(FieldName("height"), "-", 4)),
            "==",
            4,
            [1],
        ),
        (Arithmetic(1, "/", Arithmetic(FieldName("width"), "-", 1)), "<", 1, [2]),
        (Arithmetic(FieldName("latitude"), "+", 1), "!=", 0, []),
        (Arithmetic(FieldName("size_bytes"), "/", 4), "==", 2.5, [1, 2]),
    ],
)
def test_filter_arithmetic_on_integers_calculates_with_floats(
    catalog, left, operator, right, passing
):
    fill(
        catalog,
        [{**PLAIN, "files": [(b"a", 1)]}, {**PLAIN, "width": 3, "files": [(b"a", 1), (b"b", 1)]}],
    )
    with catalog.snapshot() as snapshot:
        allowed = snapshot.filter_ids(
            make_filter_tree(Filters(where=Compare(left, operator, right)))
        )
    assert allowed.tolist() == passing
