"""PDF documents: pages, their texts and pictures, and files that are not sound."""

import dataclasses
import io
import os
import time

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import ItemLocator, Text
from mmsearch.modalities import document
from tests.pdf_files import pdf, words

pytest.importorskip("pypdfium2")

SQUARE = b"1 0 0 rg 50 50 100 100 re f"


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "document.pdf"
        path.write_bytes(content)
        return os.fsencode(path)

    return write


@pytest.fixture
def read(write):
    def read(content, edge_px=0, first_part=0, max_pixels=100_000_000):
        return list(document.build(max_pixels).items(write(content), edge_px, first_part))

    return read


def texts_of(item, kind="page"):
    return [text.text for text in item.picture.texts if text.kind == kind]


def test_each_page_is_an_item_with_its_number_picture_and_text(read):
    items = read(pdf([words("the first", "page"), SQUARE, words("the third")], size=(200, 300)))
    assert [item.locator for item in items] == [ItemLocator(n, page=n + 1) for n in range(3)]
    assert [texts_of(item) for item in items] == [["the first page"], [], ["the third"]]
    assert {(i.picture.width, i.picture.height, i.picture.format) for i in items} == {
        (400, 600, "PDF")
    }
    assert items[0].picture.texts == (Text("page", "the first page", None, "document"),)
    # Points count from the lower left corner.
    red = np.all(items[1].pixels == (255, 0, 0), axis=2)
    assert red[310:490, 110:290].all()
    assert not red[:290].any()
    assert (items[1].pixels[~red[:]] > 200).any()


def test_reading_goes_on_at_a_later_page(read):
    content = pdf([words(f"number {n}") for n in range(5)], info="/Title(Five)")
    all_items = read(content, 100)
    for first in range(6):
        items = read(content, 100, first)
        assert [i.picture for i in items] == [i.picture for i in all_items[first:]]
        assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(items, all_items[first:]))  # noqa: B905


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("/CreationDate(D:20200102030405+01'00')", "2020-01-02T03:04:05"),
        ("/CreationDate(D:20200102)", "2020-01-02T00:00:00"),
        ("/CreationDate(20200102030405Z)", "2020-01-02T03:04:05"),
        ("/CreationDate(D:20209902)", None),
        ("/CreationDate(yesterday)", None),
        ("", None),
    ],
)
def test_every_page_has_the_date_of_the_document(read, info, expected):
    for item in read(pdf([b"", b""], info=info)):
        assert item.picture.taken_at == expected
        assert item.picture.taken_from == (expected and "document")


def test_first_page_has_title_author_subject_and_keywords(read):
    info = "/Title(Microsoft Word - Pumps)/Author(Jo Li)/Subject(Care of pumps)"
    first, second = read(pdf([b"", b""], info=f"{info}/Keywords(pump, well; water)"))
    assert set(first.picture.texts) == {
        Text("title", "Pumps"),
        Text("description", "Care of pumps"),
        Text("keywords", "pump; well; water"),
        Text("author", "Jo Li", None, "document"),
    }
    assert second.picture.texts == ()


def test_words_that_are_divided_at_the_end_of_a_line_are_joined(read):
    (item,) = read(pdf([words("a manu-", "script")]))
    assert texts_of(item) == ["a manuscript"]


def test_text_of_page_is_cut_off(read):
    lines = ["word " * 20] * 3000
    content = b"BT /F1 1 Tf 1 TL 20 780 Td " + b"".join(
        f"({line}) Tj T*".encode() for line in lines
    )
    (item,) = read(pdf([content + b" ET"], size=(612, 9000)))
    (text,) = texts_of(item)
    assert len(text) in range(9_900, 10_001)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((612, 792), (1224, 1584)),
        ((2_000_000, 2_000_000), (8192, 8192)),
        ((2_000_000, 10), (8192, 1)),
        ((3, 4000), (6, 8000)),
        ((0, 0), (1224, 1584)),
    ],
)
def test_pages_of_any_size_are_drawn_at_the_wanted_size(read, write, size, expected):
    content = pdf([words("giant")], size=size)
    (item,) = read(content, 224)
    assert (item.picture.width, item.picture.height) == expected
    short, long = sorted(item.pixels.shape[:2])
    assert short == min(224, *expected)
    assert long <= 8192
    # What is beside the page is not on it.
    assert texts_of(item) == ([] if 0 < min(size) < 100 else ["giant"])
    small = document.build().thumbnail(write(content), 160)
    with Image.open(io.BytesIO(small)) as image:
        assert max(image.size) == 160


def test_thumbnail_shows_the_page_of_the_item(write):
    path = write(pdf([b"", SQUARE, b""], size=(200, 200)))
    for part, has_red in enumerate([False, True, False]):
        content = document.build().thumbnail(path, 100, "WEBP", ItemLocator(part, page=part + 1))
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.size) == ("WEBP", (100, 100))
            red, green, _ = image.convert("RGB").getpixel((50, 50))
        assert (green < 60) is has_red
        assert red > 200
    with pytest.raises(DecodeError, match="it has no page 4"):
        document.build().thumbnail(path, 100, "WEBP", ItemLocator(3))


def test_damaged_pages_are_left_out_and_the_others_stay(read):
    pages = [words("one"), None, words("three"), None, words("five")]
    items = read(pdf(pages), 100)
    assert [(item.locator.page, *texts_of(item)) for item in items] == [
        (1, "one"),
        (3, "three"),
        (5, "five"),
    ]
    assert [i.picture.damage for i in items] == ["2 of 5 pages cannot be read", None, None]
    assert [item.locator.part for item in read(pdf(pages), 100, 2)] == [2, 4]


def test_damaged_first_page_is_white(read):
    first, second = read(pdf([None, words("two")], info="/Title(Pumps)"), 100)
    assert (first.locator, second.locator) == (ItemLocator(0, page=1), ItemLocator(1, page=2))
    assert (first.pixels == 255).all()
    assert first.picture.damage == "page 1 cannot be read"
    assert texts_of(first, "title") == ["Pumps"]
    assert (second.picture.damage, texts_of(second)) == (None, ["two"])


def test_document_that_claims_more_pages_than_it_has_keeps_those(read):
    content = pdf([words("one"), words("two")]).replace(b"/Count 2", b"/Count 200000")
    started = time.thread_time()
    items = read(content, 10)
    assert time.thread_time() - started < 5
    assert [texts_of(item) for item in items] == [["one"], ["two"]]
    assert items[0].picture.damage == (
        "4,998 of 5,000 pages cannot be read; only the first 5,000 of 200,000 pages are read"
    )


def test_document_without_readable_page_is_refused(read):
    with pytest.raises(DecodeError, match="none of its pages can be read"):
        read(pdf([None] * 3))


def test_document_of_more_pages_than_the_limit_keeps_the_first_ones(read, monkeypatch):
    monkeypatch.setattr(document, "MAX_PAGES", 3)
    items = read(pdf([words(str(n)) for n in range(5)]), 10)
    assert [item.locator.page for item in items] == [1, 2, 3]
    assert [i.picture.damage for i in items] == [
        "only the first 3 of 5 pages are read",
        None,
        None,
    ]


def test_page_that_takes_too_long_to_draw_is_left_as_far_as_it_is(read, monkeypatch):
    monkeypatch.setattr(document, "MAX_DRAWING_S", 0.01)
    curves = b"".join(b"%d 0 m 0 %d 300 300 200 %d c S " % (n % 600, n % 700, n % 500)
                      for n in range(200_000))  # fmt: skip
    started = time.thread_time()
    (item,) = read(pdf([b"BT /F1 9 Tf 9 9 Td (map) Tj ET " + curves]), 400)
    assert time.thread_time() - started < 5
    assert item.picture.damage == "this page takes over 0.01 seconds to draw"
    assert texts_of(item) == ["map"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 9, "a PDF of which the end is missing"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 9 + b"%%EOF", "a PDF that is damaged"),
        (pdf([words("a")] * 9)[:1500], "a PDF of which the end is missing"),
        (pdf([]), "it has no pages"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a PDF"),
    ],
)
def test_file_that_cannot_be_read_has_one_reason(read, content, reason):
    with pytest.raises(DecodeError) as caught:
        read(content)
    assert caught.value.message == reason


def test_document_without_its_end_says_so(read):
    items = read(pdf([words("a"), words("b")]).removesuffix(b"%%EOF\n"))
    assert [texts_of(item) for item in items] == [["a"], ["b"]]
    assert [item.picture.damage for item in items] == ["its end is missing", None]


def test_scripts_and_links_do_nothing_and_other_files_are_not_read(read, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_bytes(words("a secret"))
    name = str(secret)
    extra = [
        f"<</S/JavaScript/JS(app.launchURL\\('file://{name}'\\))>>".encode(),
        f"<</Length 0/F({name})>>stream\n\nendstream".encode(),
    ]
    content = pdf([words("open"), words("other")], extra=extra)
    # An action on opening, and a page whose content is in another file.
    content = content.replace(b"/Type/Catalog", b"/Type/Catalog/OpenAction 9 0 R")
    content = content.replace(b"/Contents 8 0 R", b"/Contents 10 0 R")
    shown = [texts_of(item) for item in read(content)]
    assert shown == [["open"], []]


def test_document_without_its_extra_names_it(read, monkeypatch):
    monkeypatch.setattr("mmsearch.modalities._reader.find_spec", lambda name: None)
    assert document.build().missing_extra == "documents"
    with pytest.raises(DecodeError, match=r"\(pip install '.\[documents\]'\)"):
        read(pdf([b""]))


def test_modality_is_plain_data():
    assert dataclasses.asdict(document.build(5)) == {"max_pixels": 5}
