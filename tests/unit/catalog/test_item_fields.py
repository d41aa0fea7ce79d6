"""Search servers filter by the fields of items as the catalog does."""

import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.catalog.open import open_writer
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters, GeoCircle
from mmsearch.core.query import (
    FILTER_FIELDS,
    Arithmetic,
    Compare,
    Contains,
    FieldName,
    Not,
    OneOf,
)
from mmsearch.core.server_filters import ItemFields, make_server_condition
from tests.memory_server import passes
from tests.unit.catalog.test_filters import PLAIN, facts, fill, sparse

WIDTH = FieldName("width")


@given(st.lists(facts, max_size=6), sparse)
def test_server_condition_passes_the_items_of_the_catalog(pictures, wanted):
    tree = make_filter_tree(dataclasses.replace(wanted, paths=()))
    condition = make_server_condition(tree)
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_writer(Path(folder) / "catalog.sqlite", create=True)
        fill(catalog, pictures)
        with catalog.snapshot() as snapshot:
            passing = snapshot.filter_ids(tree).tolist()
            items = snapshot.item_fields(range(10))
            live = [n for n, own in enumerate(pictures, start=1) if own["files"]]
        catalog.close()
    assert [item.id for item in items] == list(range(1, len(pictures) + 1))
    if condition is None:
        return
    passed = [item.id for item in items if item.id in live and passes(item.values, condition)]
    if wanted.near is None:
        assert passed == passing
    else:
        assert set(passing) <= set(passed)


@pytest.mark.parametrize(
    ("filters", "can_evaluate"),
    [
        (Filters(min_width=5, after="2019", tags=("a",), near=GeoCircle(1.0, 2.0, 3.0)), True),
        (Filters(places=("Lissabon",), formats=("jpeg",), cameras=("=Canon",)), True),
        (Filters(where=Not(Compare(5, "<", WIDTH))), True),
        (Filters(paths=("*.jpg",)), False),
        (Filters(after="2019", file_dates=True), False),
        (Filters(where=Compare(FieldName("metadata.a"), "==", 5)), False),
        (Filters(where=Compare(Arithmetic(WIDTH, "*", 2), ">", 5)), False),
        (Filters(where=Compare(WIDTH, ">", FieldName("height"))), False),
        (Filters(where=Compare(WIDTH, ">", 2**60)), False),
        (Filters(where=Compare(WIDTH, ">", float("nan"))), False),
        (Filters(where=OneOf("width", (5, "a"))), False),
        (Filters(where=Contains("camera", "a\0")), False),
    ],
)
def test_make_server_condition_leaves_what_servers_cannot_evaluate_to_the_catalog(
    filters, can_evaluate
):
    assert (make_server_condition(make_filter_tree(filters)) is not None) is can_evaluate


def test_item_fields_digest_changes_with_each_value():
    values = dict.fromkeys(FILTER_FIELDS) | dict.fromkeys(
        ("tags", "auto_tags", "people", "place"), ()
    )
    digests = {ItemFields(1, values).digest}
    for name in values:
        other = ("a",) if values[name] == () else "a"
        digests.add(ItemFields(1, {**values, name: other}).digest)
    assert len(digests) == 1 + len(values)
    assert all(0 < digest < 2**63 for digest in digests)
    assert ItemFields(2, values).digest == ItemFields(1, values).digest


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_item_fields_digest_of_texts_that_no_server_keeps_is_zero(text):
    values = dict.fromkeys(FILTER_FIELDS, ()) | {"camera": text}
    assert ItemFields(1, values).digest == 0
    assert ItemFields(1, {**values, "camera": None, "people": (text,)}).digest == 0


def test_item_fields_are_folded_and_lists_sorted(catalog):
    fill(
        catalog,
        [{**PLAIN, "camera": "CANON", "tags": {"b", "A"}, "files": [(b"a.jpg", 1)]}],
    )
    with catalog.snapshot() as snapshot:
        (item,) = snapshot.item_fields([1, 2])
    assert (item.values["camera"], item.values["tags"]) == ("canon", ("a", "b"))
