"""Excerpts of texts that match a query, and times."""

import pytest

from mmsearch.core.display import excerpt, format_position


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("caption", {}, ("FIRE EXIT", ((5, 9),))),
        ("ocr", {}, ("written: FIRE EXIT", ((14, 18),))),
        ("ocr", {"with_origin": False}, ("FIRE EXIT", ((5, 9),))),
    ],
)
def test_excerpt_says_what_was_read_in_a_picture(kind, options, expected):
    assert (
        excerpt({"kind": kind, "text": "FIRE EXIT", "spans": [(5, 9)]}, 20, **options) == expected
    )


def test_excerpt_says_what_a_model_saw():
    caption = {"kind": "caption", "source": "captions", "text": "a dog", "spans": [(2, 5)]}
    assert excerpt(caption, 20) == ("described: a dog", ((13, 16),))
    assert excerpt(caption | {"source": "sidecar"}, 20) == ("a dog", ((2, 5),))


def test_excerpt_says_when_a_line_is_said():
    line = {"kind": "subtitle", "text": "FIRE EXIT", "spans": [(5, 9)], "start_ms": 62_900}
    assert excerpt(line, 20) == ("1:02: FIRE EXIT", ((11, 15),))
    assert excerpt(line, 20, with_origin=False) == ("FIRE EXIT", ((5, 9),))


@pytest.mark.parametrize(
    ("start_ms", "page", "expected"),
    [
        (0, None, "0:00"),
        (42_999, None, "0:42"),
        (600_000, None, "10:00"),
        (3_723_999, None, "1:02:03"),
        (None, 17, "p. 17"),
        (None, None, ""),
    ],
)
def test_position_is_a_time_or_a_page(start_ms, page, expected):
    assert format_position(start_ms, page) == expected
