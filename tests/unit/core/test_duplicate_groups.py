from pathlib import Path

import pytest

from mmsearch.core.duplicate_groups import (
    DuplicateFile,
    DuplicateGroups,
    DuplicateKind,
    check_kind,
    check_limit,
    make_cursor,
    make_group,
    parse_cursor,
)
from mmsearch.core.errors import UsageError


def file(number, **values):
    defaults = {
        "path": Path(f"/photos/{number}.jpg"),
        "width": 400,
        "height": 300,
        "format": "JPEG",
        "size_bytes": 1000,
        "modified_at": 100.0,
        "taken_at": None,
    }
    return DuplicateFile(id=number, **(defaults | values))


def choose(*files):
    best, *others = make_group(DuplicateKind.NEAR, files).hits
    assert best.keep
    assert not any(other.keep or other.reason for other in others)
    return best.id, best.reason


@pytest.mark.parametrize(
    ("better", "reason"),
    [
        ({"width": 800}, "largest"),
        ({"format": "NEF"}, "original format"),
        ({"format": "HEIF"}, "original format"),
        ({"has_camera": True}, "names the camera"),
        ({"size_bytes": 1001}, "largest file"),
        ({"modified_at": 99.0}, "oldest"),
        ({"path": Path("/photos/a")}, "shortest path"),
        ({"path": Path("/photos/0.jpg")}, "shortest path"),
    ],
)
def test_better_file_is_kept_with_the_reason(better, reason):
    assert choose(file(1), file(2, **better)) == (2, reason)
    assert choose(file(2, **better), file(1)) == (2, reason)


def test_first_criterion_decides():
    assert choose(file(1, width=401), file(2, has_camera=True, format="NEF")) == (1, "largest")


def test_reason_compares_with_other_pictures_not_with_own_copies():
    copy = file(1, path=Path("/photos/copy of 1.jpg"))
    assert choose(copy, file(1), file(2, width=100)) == (1, "largest")


def test_freed_bytes_are_those_of_the_others():
    files = [file(1, size_bytes=10), file(2, size_bytes=30), file(3, size_bytes=20)]
    assert make_group(DuplicateKind.EXACT, files).freed_bytes == 30


def test_page_survives_json():
    group = make_group(DuplicateKind.BURST, [file(1, taken_at="2020-01-02T03:04:05"), file(2)])
    page = DuplicateGroups((group,), {"burst": 1}, 3, "17")
    values = page.to_dict()
    assert values["groups"][0]["hits"][0]["path"] == "/photos/1.jpg"
    assert values["groups"][0]["kind"] == "burst"
    assert DuplicateGroups.from_dict(values | {"unknown": 1}) == page


def parse_near_cursor(cursor):
    return parse_cursor(cursor, "photos", DuplicateKind.NEAR)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check_kind, "same"),
        (check_limit, 0),
        (check_limit, 1001),
        (parse_near_cursor, "-1"),
        (parse_near_cursor, ""),
        (parse_near_cursor, "²"),
        (parse_near_cursor, make_cursor(42, "photos", None)),
        (parse_near_cursor, make_cursor(42, "others", DuplicateKind.NEAR)),
    ],
)
def test_invalid_values_are_refused(check, value):
    with pytest.raises(UsageError):
        check(value)


def test_valid_values_are_returned():
    assert (check_kind(None), check_kind("near")) == (None, DuplicateKind.NEAR)
    cursor = make_cursor(42, "photos", DuplicateKind.NEAR)
    assert (parse_near_cursor(None), parse_near_cursor(cursor)) == (0, 42)
