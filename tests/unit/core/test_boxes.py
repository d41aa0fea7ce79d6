"""Places of texts in pictures."""

import json

import pytest

from mmsearch.core.boxes import LineBox, dump_boxes, load_boxes, matching_boxes, parse_boxes

BOXES = (LineBox(0, 4, 0.0, 0.1, 0.5, 0.2), LineBox(5, 9, 0.5, 0.25, 1.0, 1.0))


def test_boxes_survive_a_catalog_and_json():
    assert load_boxes(dump_boxes(BOXES)) == BOXES
    assert parse_boxes(json.loads(json.dumps(BOXES))) == BOXES
    assert dump_boxes(()) is None
    assert load_boxes(None) == ()


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "7",
        "null",
        "{}x",
        "[7]",
        "[[0, 4]]",
        '[["a", 4, 0, 0, 1, 1]]',
        "[[0, 4, NaN, 0, 1, 1]]",
        "[[0, 4, 0, 0, 1, 1e400]]",
        "[[4, 0, 0, 0, 1, 1]]",
        "[[0, 4, 0.6, 0, 0.5, 1]]",
        "[" * 100_000,
    ],
)
def test_damaged_boxes_of_a_catalog_are_left_out(damaged):
    assert load_boxes(damaged) == ()


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 4)], BOXES[:1]),
        ([(8, 9)], BOXES[1:]),
        ([(2, 7)], BOXES),
        ([(4, 5)], ()),
        ([(9, 12)], ()),
        ([], ()),
    ],
)
def test_lines_with_a_span_match(spans, expected):
    assert matching_boxes(BOXES, spans) == expected
