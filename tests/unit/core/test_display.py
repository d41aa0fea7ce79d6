"""Excerpts of texts that match a query."""

import pytest

from mmsearch.core.display import excerpt


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
