"""Tests of the orders of hits, and of the path that a hit shows."""

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Band
from mmsearch.core.results import Hit
from mmsearch.core.sorting import SORTS, sort_hits


def make_hit(number, score, name, taken_at=None, size=1, copies=()):
    return Hit(
        width=4,
        height=3,
        format="JPEG",
        taken_at=taken_at,
        id=number,
        path=Path(name),
        modified_at=5.0,
        size_bytes=size,
        copies=tuple(map(Path, copies)),
        rank=number,
        score=score,
        visual=score,
        text=0.0,
        matched=None,
        confidence=0.5,
        band=Band.LIKELY,
    )


HITS = [
    make_hit(1, 0.9, "/p/img10.jpg", "2020-05-01T00:00:00", 30),
    make_hit(2, 0.8, "/p/IMG9.jpg", None, 20),
    make_hit(3, 0.7, "/p/Zoo.jpg", "1957-01-01T00:00:00", 30),
    make_hit(4, 0.7, unicodedata.normalize("NFD", "/p/über.jpg"), "2021-01-01T00:00:00", 10),
    make_hit(5, 0.6, "/a/b2.jpg", None, 40),
    make_hit(6, 0.5, "/p/Über.jpg", "2020-05-01T00:00:00", 10),
]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("score", [1, 2, 3, 4, 5, 6]),
        ("date", [3, 1, 6, 4, 2, 5]),
        ("-date", [4, 1, 6, 3, 2, 5]),
        ("name", [5, 2, 1, 3, 4, 6]),
        ("-name", [4, 6, 3, 1, 2, 5]),
        ("size", [4, 6, 2, 1, 3, 5]),
        ("-size", [5, 1, 3, 2, 4, 6]),
    ],
)
def test_sort_hits_orders_values_and_keeps_score_order_of_equal_hits(order, ids):
    assert [hit.id for hit in sort_hits(HITS, order)] == ids


def test_sort_hits_by_name_compares_folders_before_names_and_all_digits():
    names = ["/a/b/2.jpg", "/a/b/10.jpg", "/a/b c/1.jpg", "/a/b10/1.jpg", "/a/b²/1.jpg"]
    hits = [make_hit(number, 0.0, name) for number, name in enumerate(reversed(names))]
    assert [str(hit.path) for hit in sort_hits(hits, "name")][:2] == names[:2]
    assert {str(hit.path) for hit in sort_hits(hits, "name")} == set(names)


@pytest.mark.parametrize("order", ["", "Date", "taken", "-score", "--date"])
def test_sort_hits_unknown_order_names_the_known_ones(order):
    with pytest.raises(InvalidQueryError, match="Known: score, date, -date, name"):
        sort_hits(HITS, order)
    assert order not in SORTS


@pytest.fixture
def files(tmp_path):
    """Two files of one content, and the hit that shows them."""
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")]
    for path in paths:
        path.write_bytes(b"12345")
        os.utime(path, (100.0, 100.0))
    first, *copies = paths
    return paths, make_hit(1, 0.5, first, size=5, copies=copies)


def test_prefer_existing_file_unchanged_files_keep_their_order(files):
    assert files[1].prefer_existing_file() is files[1]


def test_prefer_existing_file_shows_only_files_that_exist(files):
    (first, second, third), hit = files
    first.unlink()
    shown = hit.prefer_existing_file()
    assert (shown.path, shown.copies, shown.modified_at) == (second, (third,), 100.0)
    second.unlink()
    second.mkdir()
    assert (shown := hit.prefer_existing_file()).path == third
    assert shown.copies == ()


def test_prefer_existing_file_puts_files_of_another_size_last(files):
    (first, second, third), hit = files
    first.write_bytes(b"other content")
    shown = hit.prefer_existing_file()
    assert (shown.path, shown.copies) == (second, (third, first))


def test_prefer_existing_file_leaves_out_copies_that_are_gone(files):
    (first, second, third), hit = files
    second.unlink()
    shown = hit.prefer_existing_file()
    assert (shown.path, shown.copies, shown.modified_at) == (first, (third,), 5.0)


def test_prefer_existing_file_without_any_file_changes_nothing(files):
    paths, hit = files
    for path in paths:
        path.unlink()
    assert hit.prefer_existing_file() == hit
    lonely = replace(hit, copies=())
    assert lonely.prefer_existing_file() is lonely
