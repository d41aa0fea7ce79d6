"""Texts and slides of office files."""

import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import ItemLocator
from mmsearch.modalities import office
from mmsearch.modalities._office import package as packages
from mmsearch.modalities._office import texts as office_texts
from tests.office_files import (
    docx,
    docx_parts,
    odf,
    package,
    pptx,
    pptx_parts,
    relations,
    word_part,
)

MODALITY = office.build()
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.fixture
def write(tmp_path):
    def run(content, name="file.docx"):
        path = tmp_path / name
        path.write_bytes(content)
        return os.fsencode(path)

    return run


def pages(items):
    return [
        (item.locator.page, *(text.text for text in item.picture.texts if text.kind == "page"))
        for item in items
    ]


def read(path):
    return list(MODALITY.items(path, 0))


def page_texts(path):
    return [text for _, *texts in pages(read(path)) for text in texts]


def test_text_is_one_item_without_pixels_and_without_a_page(write):
    (item,) = read(write(docx("The impeller", "is replaced.")))
    assert (item.picture.width, item.picture.height, item.picture.format) == (0, 0, "DOCX")
    assert item.locator == ItemLocator(0)
    (text,) = item.picture.texts
    assert (text.kind, text.source, text.text) == ("page", "document", "The impeller is replaced.")


def test_words_are_what_a_reader_sees(write):
    raw = (
        "<w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t></w:r><w:r><w:t>2nd </w:t></w:r>"
        "<w:r><w:t>well</w:t><w:noBreakHyphen/><w:t>known</w:t><w:br/><w:t>next</w:t></w:r></w:p>"
        "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
        "<w:r><w:instrText>PAGEREF</w:instrText></w:r></w:p>"
        '<mc:AlternateContent xmlns:mc="m"><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p>'
        "</mc:Choice><mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback>"
        "</mc:AlternateContent><w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc>"
        "</w:tr></w:tbl><w:p><w:r><w:t>o\N{LATIN SMALL LIGATURE FFI}ce</w:t></w:r></w:p>"
    )
    (text,) = page_texts(write(docx(raw=raw)))
    assert text.split() == ["one", "two2nd", "well-known", "next", "box", "cell", "office"]


def test_long_texts_are_cut_between_paragraphs(write):
    paragraphs = [f"paragraph {number} " + "word " * 200 for number in range(10)]
    texts = page_texts(write(docx(*paragraphs)))
    assert len(texts) == 5
    assert all(len(text) < 3000 for text in texts)
    assert [text.count("paragraph") for text in texts] == [2] * 5
    assert " ".join(texts).split() == " ".join(paragraphs).split()


@pytest.mark.parametrize("separator", [" ", ""])
def test_endless_paragraphs_are_cut_and_lose_nothing(separator):
    words = [f"w{number:05}" for number in range(5000)]
    sections = office_texts.split_sections([separator.join(words)])
    assert all(len(section) <= 6000 for section in sections)
    assert "".join(sections) == separator.join(words)


def test_text_beyond_the_limit_is_left_out_and_said(write, monkeypatch):
    monkeypatch.setattr(office_texts, "MAX_CHARS", 2000)
    items = read(write(docx(*["hello there " * 50] * 10)))
    assert "only its first" in items[0].picture.damage
    assert sum(len(text) for _, text in pages(items)) < 2700


def test_slides_have_their_numbers_in_the_order_of_the_presentation(write):
    slides = [["Welcome", "to all"], [], ["Pumps"], ["Questions?"]]
    path = write(pptx(*slides, notes={2: "mention the impeller"}), "talk.pptx")
    items = read(path)
    assert pages(items) == [
        (1, "Welcome to all"),
        (3, "Pumps mention the impeller"),
        (4, "Questions?"),
    ]
    assert {item.picture.format for item in items} == {"PPTX"}
    for part in range(5):
        assert list(MODALITY.items(path, 0, part)) == [i for i in items if i.locator.part >= part]


def test_long_file_is_parsed_once_and_another_one_is_not_mistaken_for_it(write, monkeypatch):
    calls = []

    def count(package):
        calls.append(package)
        return office_texts.read_texts(package)

    monkeypatch.setattr(office, "read_texts", count)
    first, second = write(pptx(["a"], ["b"]), "a.pptx"), write(pptx(["c"], ["d"]), "b.pptx")
    for part in range(2):
        assert pages(MODALITY.items(first, 0, part))[-1] == (2, "b")
    MODALITY.thumbnail(first, 64)
    assert len(calls) == 1
    assert pages(read(second)) == [(1, "c"), (2, "d")]


def test_facts_belong_to_the_first_item(write):
    facts = {
        "title": "Care of pumps",
        "creator": "Jo Lindqvist",
        "subject": "Maintenance",
        "keywords": "pump, impeller; seal",
        "created": "2019-05-17T12:00:00Z",
    }
    first, second = read(write(pptx(["one"], ["two"], **facts), "a.pptx"))
    assert (first.picture.taken_at, first.picture.taken_from) == ("2019-05-17T12:00:00", "document")
    assert {(text.kind, text.text, text.source) for text in first.picture.texts} == {
        ("title", "Care of pumps", "metadata"),
        ("description", "Maintenance", "metadata"),
        ("keywords", "pump; impeller; seal", "metadata"),
        ("author", "Jo Lindqvist", "document"),
        ("page", "one", "document"),
    }
    assert [text.kind for text in second.picture.texts] == ["page"]
    assert second.picture.taken_at == first.picture.taken_at


def test_open_documents_are_read(write):
    body = (
        "<text:h>Pumps</text:h><text:p>one<text:s/>two<text:tab/><text:span>three</text:span>"
        "<office:annotation><text:p>a comment</text:p></office:annotation></text:p>"
    )
    meta = "<dc:title>Care</dc:title><meta:keyword>pump</meta:keyword>"
    (item,) = read(write(odf("text", body, meta), "a.odt"))
    assert item.picture.format == "ODT"
    assert [text.text for text in item.picture.texts] == ["Care", "pump", "Pumps one two three"]
    slide = "<draw:page><draw:frame><text:p>{}</text:p></draw:frame></draw:page>"
    path = write(odf("presentation", slide.format("first") + slide.format("second")), "a.odp")
    assert pages(read(path)) == [(1, "first"), (2, "second")]
    assert {item.picture.format for item in read(path)} == {"ODP"}


@pytest.mark.parametrize(
    ("content", "recognized"),
    [
        (docx("a"), True),
        (pptx(["a"]), True),
        (odf("text", ""), True),
        (odf("presentation", ""), True),
        (package({"mimetype": "application/epub+zip"}), False),
        (package({"photos/word.txt": "word/"}), False),
        (b"PK\3\4", False),
    ],
)
def test_first_bytes_say_that_an_office_program_wrote_a_file(content, recognized):
    assert MODALITY.recognizes(content[:64]) == recognized


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"just a text " * 9, "not an office file"),
        (docx("a" * 100)[:-40], "an office file of which the end is missing"),
        (package({"a.txt": "a"}), "a zip archive, but no office file"),
        (odf("spreadsheet", ""), "an office file that is no text and no presentation"),
        (
            package(
                {
                    "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
                    "xl/workbook.xml": "<workbook/>",
                }
            ),
            "an office file that is no text and no presentation",
        ),
        (
            docx_parts("a") | {"word/document.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"},
            "it declares entities, which office programs never do",
        ),
        (docx_parts("a") | {"word/document.xml": "<a>"}, "its text is damaged"),
        (docx_parts("a") | {"word/document.xml": b"<?xml encoding='x'?>"}, "its text is damaged"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
            + bytes(9000)
            + "EncryptedPackage".encode("utf-16-le"),
            "it can only be opened with its password",
        ),
        (
            OLE + bytes(9000),
            "a file of an old office format; save it as DOCX, PPTX or PDF",
        ),
        (
            package({"content.xml": "?", "META-INF/manifest.xml": "<m:encryption-data/>"}),
            "it can only be opened with its password",
        ),
    ],
    ids=str,
)
def test_unreadable_files_have_one_reason(write, content, reason):
    path = write(package(content) if isinstance(content, dict) else content)
    for attempt in (read, lambda path: MODALITY.thumbnail(path, 64)):
        with pytest.raises(DecodeError) as caught:
            attempt(path)
        assert caught.value.message == reason


def test_damaged_slide_leaves_the_others(write):
    parts = pptx_parts(["one"], ["two"], ["three"])
    parts["ppt/slides/slide2.xml"] = "<broken"
    items = read(write(package(parts), "a.pptx"))
    assert pages(items) == [(1, "one"), (3, "three")]
    assert items[0].picture.damage == "1 of 3 slides cannot be read"


def test_text_before_a_damage_is_read(write):
    parts = docx_parts("a")
    parts["word/document.xml"] = word_part("the beginning", "the end").replace("the end", "<oops")
    (item,) = read(write(package(parts)))
    assert pages([item]) == [(None, "the beginning")]
    assert item.picture.damage == "only the beginning of its text can be read: its text is damaged"


def test_targets_outside_the_package_are_not_followed(write, tmp_path):
    (tmp_path / "secret.xml").write_text(word_part("secret"))
    for target, mode in [("../secret.xml", ()), (f"file://{tmp_path}/secret.xml", ("External",))]:
        parts = docx_parts("own") | {"_rels/.rels": relations(("officeDocument", target, *mode))}
        assert page_texts(write(package(parts))) == ["own"]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("a" * 5_000_000, {}),
        ("ab" * 1000, {"MAX_PART_BYTES": 1000}),
        ("ab" * 1000, {"MAX_READ_BYTES": 2000}),
    ],
)
def test_parts_that_unpack_to_too_much_are_not_unpacked(write, monkeypatch, text, limits):
    for name, value in limits.items():
        monkeypatch.setattr(packages, name, value)
    parts = docx_parts(text)
    del parts["_rels/.rels"]
    path = write(package(parts))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it is unpacked"))
    with pytest.raises(DecodeError, match=r"it unpacks to \d MB of text, more than is safe"):
        read(path)


def test_thumbnail_is_the_own_picture_of_the_file(write):
    red = io.BytesIO()
    Image.new("RGB", (200, 100), "red").save(red, "JPEG")
    parts = docx_parts("words") | {"docProps/thumbnail.jpeg": red.getvalue()}
    with Image.open(io.BytesIO(MODALITY.thumbnail(write(package(parts)), 50))) as small:
        assert small.size == (50, 25)
        assert np.asarray(small)[10, 10, 0] > 240
    parts["docProps/thumbnail.jpeg"] = b"no picture"
    with Image.open(io.BytesIO(MODALITY.thumbnail(write(package(parts)), 50))) as small:
        assert small.height == 50


def test_thumbnail_of_a_slide_is_a_card_with_its_words(write):
    path = write(pptx(["one"], ["two words on it"]), "a.pptx")
    first, second = (
        np.asarray(Image.open(io.BytesIO(MODALITY.thumbnail(path, 640, "JPEG", ItemLocator(part)))))
        for part in (0, 1)
    )
    assert first.shape == second.shape == (480, 640, 3)
    assert 0 < (first < 128).sum() < (second < 128).sum()
    with pytest.raises(DecodeError, match="it has no part 3"):
        MODALITY.thumbnail(path, 640, "JPEG", ItemLocator(2))


@pytest.mark.parametrize("text", ["", "\0\x1b[31m", "x" * 100_000, "\n" * 100_000, "東京 \ud83d"])
def test_card_of_any_text_can_be_drawn(text):
    assert office.draw_card(text, (480, 640)).shape == (640, 480, 3)


def test_empty_files_have_one_item(write):
    assert pages(read(write(docx()))) == [(None,)]
    assert pages(read(write(pptx(), "a.pptx"))) == [(1,)]
