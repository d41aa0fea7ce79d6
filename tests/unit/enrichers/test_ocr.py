"""OCR: which lines count, what is enlarged and divided, and what its fingerprint depends on."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.boxes import LineBox
from mmsearch.core.derived import EnricherOptions
from mmsearch.core.errors import DecodeError, MissingExtraError, ModelUnavailableError
from mmsearch.core.texts import MAX_TEXT_CHARS
from mmsearch.core.types import EncoderSpec, Picture, Text
from mmsearch.enrichers import ocr

ENCODER = EncoderSpec("toy", 3, "a" * 64, {}, 1, 16)


def line(text, confidence=0.9, box=(0.1, 0.1, 0.9, 0.2)):
    return ocr.TextLine(text, confidence, box)


@pytest.mark.parametrize(
    ("text", "confidence", "counts"),
    [
        ("EXIT", 0.8, True),
        ("EXIT", 0.79, False),
        ("A", 0.99, False),
        ("A.-", 0.99, False),
        ("A1", 0.9, True),
        ("出口", 0.9, True),
        ("出", 0.9, False),
        ("", 1.0, False),
    ],
)
def test_lines_count_that_are_sure_and_have_two_characters(text, confidence, counts):
    assert ocr.is_readable(text, confidence) is counts


def test_lines_become_one_text_in_their_order():
    lines = [line("FIRE", 0.8), line("EXITS!!!", 1.0)]
    (text,) = ocr.join_lines(lines)
    assert replace(text, boxes=()) == Text("ocr", "FIRE EXITS!!!", None, "ocr", None, 0.933)
    assert ocr.join_lines([]) == ()


def test_each_line_of_a_text_has_its_box_within_the_picture():
    lines = [
        line("FIRE", 0.8, (-0.01, 0.1, 0.50001, 0.2)),
        line("EXIT", 1.0, (0.5, 0.9, 1.2, 1.01)),
    ]
    (text,) = ocr.join_lines(lines)
    assert text.boxes == (LineBox(0, 4, 0.0, 0.1, 0.5, 0.2), LineBox(5, 9, 0.5, 0.9, 1.0, 1.0))
    assert [text.text[box.start : box.end] for box in text.boxes] == ["FIRE", "EXIT"]


def test_text_is_no_longer_than_others():
    (text,) = ocr.join_lines([line("word " * 100)] * 100)
    assert MAX_TEXT_CHARS - 6 < len(text.text) <= MAX_TEXT_CHARS
    assert text.boxes[-1].end == len(text.text)


@pytest.mark.parametrize(
    ("shape", "factor"), [((10, 649), 2), ((649, 10), 2), ((10, 650), 1), ((2000, 30), 1)]
)
def test_only_small_pictures_are_enlarged(shape, factor):
    pixels = np.full((*shape, 3), 7, np.uint8)
    enlarged = ocr.enlarge(pixels)
    assert enlarged.shape == (factor * shape[0], factor * shape[1], 3)
    assert (enlarged == 7).all()


@given(height=st.integers(1, 100_000), width=st.integers(1, 3000))
def test_tiles_own_each_row_once_and_overlap(height, width):
    tiles = ocr.split_tall(height, width)
    assert len(tiles) <= ocr.MAX_TILES
    assert tiles[0].own.start == 0
    assert all(upper.own.stop == lower.own.start for upper, lower in pairwise(tiles))
    assert tiles[-1].own.stop == height + 1
    for tile in tiles:
        assert 0 <= tile.start <= tile.own.start < min(tile.own.stop, height) <= tile.stop <= height
    assert len(tiles) == 1 or height >= ocr.TALL * width


def test_line_of_a_tile_has_its_place_in_the_picture():
    tile = ocr.split_tall(4000, 1000)[1]
    placed = tile.place(line("EXIT", box=(0.1, 0.5, 0.9, 0.5)), 4000)
    middle = (tile.start + tile.stop) / 2 / 4000
    assert placed == line("EXIT", box=(0.1, middle, 0.9, middle))
    assert tile.owns(placed, 4000)
    assert not ocr.split_tall(4000, 1000)[0].owns(placed, 4000)


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ((), True),
        ((Text("title", "A title of the first page of all"),), True),
        ((Text("page", "x" * 19),), True),
        ((Text("page", "x" * 20),), False),
        ((Text("page", "x" * 10), Text("page", "y" * 10)), False),
    ],
)
def test_pages_with_their_text_are_not_read(texts, wanted):
    assert ocr.wants(Picture(1, 1, "PDF", texts=texts)) is wanted


def test_fingerprint_depends_on_each_model_and_the_limits(tmp_path, monkeypatch):
    models = {}
    for task in ("Det", "Rec"):
        models[task] = tmp_path / task
        models[task].write_bytes(b"weights")
    monkeypatch.setattr(ocr, "_find_models", lambda: models)
    known = [ocr.fingerprint(EnricherOptions(), ENCODER)]
    assert known[0].startswith("ocr-")
    for task, path in models.items():
        path.write_bytes(f"other weights of {task}".encode())
        known.append(ocr.fingerprint(EnricherOptions(), ENCODER))
    monkeypatch.setattr(ocr, "MIN_CONFIDENCE", 0.7)
    known.append(ocr.fingerprint(EnricherOptions(), ENCODER))
    assert len(set(known)) == 4
    assert ocr.fingerprint(EnricherOptions(), ENCODER) == known[-1]


def test_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtraError, match="'rapidocr', which is not installed") as caught:
        ocr.fingerprint(EnricherOptions(), ENCODER)
    assert "'.[ocr]'" in caught.value.hint


def test_missing_model_is_named(monkeypatch):
    monkeypatch.setattr(ocr, "_MODELS", {"Det": "none.onnx"})
    with pytest.raises(ModelUnavailableError, match=r"none\.onnx"):
        ocr.build(EnricherOptions())


# --- with an engine that says what it is asked to ---


class Result:
    def __init__(self, txts, scores, boxes):
        self.txts, self.scores, self.boxes = txts, scores, boxes


class ToyEngine:
    """Finds the given lines; upside down, it reads each as ``turned``."""

    def __init__(self, lines, turned=("", 0.0), error=None):
        self.lines, self.turned, self.error = lines, turned, error

    def __call__(self, image):
        if self.error:
            raise self.error
        if not self.lines:
            return Result(None, None, None)
        texts, scores = zip(*self.lines, strict=True)
        height, width = image.shape[:2]
        box = [[0, 0], [width / 2, 0], [width / 2, height / 4], [0, height / 4]]
        return Result(texts, scores, np.array([box] * len(texts), np.float32))

    def crop_text_regions(self, image, boxes):
        return [image[:10, :40]] * len(boxes)

    def recognize_txt(self, crops):
        return Result(*zip(*[self.turned] * len(crops), strict=True), None)


def reader(monkeypatch, *lines, **options):
    monkeypatch.setattr(ocr, "_load_engine", lambda models: ToyEngine(lines, **options))
    return ocr.TextReader({})


def test_boxes_are_shares_of_the_picture(monkeypatch):
    (found,) = reader(monkeypatch, ("EXIT", 0.9)).find_lines(np.zeros((100, 200, 3), np.uint8))
    assert found == line("EXIT", 0.9, (0.0, 0.0, 0.5, 0.25))


def test_weak_lines_are_read_upside_down(monkeypatch):
    pixels = np.zeros((100, 200, 3), np.uint8)
    weak = reader(monkeypatch, ("ENTER", 0.9), ("LIX3", 0.5), turned=("EXIT", 0.97))
    assert [found.text for found in weak.find_lines(pixels)] == ["ENTER", "EXIT"]
    no_better = reader(monkeypatch, ("LIX3", 0.5), turned=("EXIT", 0.4))
    assert no_better.find_lines(pixels) == ()


def test_errors_of_the_engine_become_reasons(monkeypatch):
    pixels = np.zeros((100, 200, 3), np.uint8)
    broken = reader(monkeypatch, error=ValueError("first\nno such shape"))
    with pytest.raises(DecodeError, match="no text can be read in it: no such shape"):
        broken.read(pixels)
    with pytest.raises(MemoryError):
        reader(monkeypatch, error=MemoryError()).read(pixels)
    assert reader(monkeypatch).read(pixels) == ()
