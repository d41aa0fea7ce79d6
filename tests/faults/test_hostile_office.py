"""Untrusted office files: mutants, bombs, nesting, false directories, and disguises."""

import os
import random
import struct
import zipfile

import pytest

from mmsearch.core.results import TaskFailure
from mmsearch.modalities import document, image, office
from tests.faults.hostile_files import decoding, mutate
from tests.office_files import docx, docx_parts, odf, package, pptx, pptx_parts, word_part
from tests.pdf_files import pdf, words

MUTANTS = 500
LIMIT_S = 60.0
MEMORY_MB = 1024
NO_END = "an office file of which the end is missing"


class NoPixels:
    """Preprocessor that is not called: these files have no pixels, and some are refused."""

    edge_px = 260

    def __call__(self, pixels):
        return pixels[:1, :1]


@pytest.fixture(scope="module")
def decode():
    """Function that decodes files in worker processes and returns the outcome of each path."""
    with decoding(
        (image.build(), document.build(), office.build()), NoPixels(), LIMIT_S, MEMORY_MB
    ) as run:
        yield run


@pytest.fixture
def outcome_of(decode, tmp_path):
    def run(content, name="hostile.docx"):
        path = tmp_path / name
        path.write_bytes(content)
        (outcome,) = decode([path]).values()
        return outcome

    return run


def page_texts(window):
    return [
        text.text for item in window.items for text in item.picture.texts if text.kind == "page"
    ]


def test_mutated_files_end_in_texts_or_in_one_reason(decode, tmp_path):
    rng = random.Random(7)
    facts = {"title": "Sound", "creator": "Jo", "created": "2019-05-17T12:00:00Z"}
    slides = pptx_parts(["one", "two"], ["three"], notes={1: "four"}, **facts)
    originals = {
        "docx": docx("one", "two " * 300, **facts),
        "pptx": package(slides),
        "odt": odf("text", "<text:p>one</text:p><text:p>two</text:p>"),
        # A change of a stored part is one of its text.
        "docm": package(docx_parts("one", "two", **facts), compression=zipfile.ZIP_STORED),
        "pptm": package(slides, compression=zipfile.ZIP_STORED),
    }
    paths = []
    for number in range(MUTANTS):
        suffix = list(originals)[number % len(originals)]
        path = tmp_path / f"{number:03}.{suffix}"
        path.write_bytes(mutate(originals[suffix], rng))
        paths.append(path)
    outcomes = decode(paths)
    assert len(outcomes) == MUTANTS
    refused = 0
    for path, outcome in outcomes.items():
        if isinstance(outcome, TaskFailure):
            refused += 1
            assert not outcome.crashed, (path, outcome)
            assert 5 < len(outcome.reason) < 200, (path, outcome)
            assert outcome.reason.isprintable(), (path, outcome)
            assert "Error" not in outcome.reason, (path, outcome)
        else:
            assert outcome.kind == "document"
            assert outcome.items
    assert MUTANTS // 10 < refused < MUTANTS * 9 // 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (
            b"PK\3\4" + random.Random(3).randbytes(50_000),
            "an office file of which the end is missing",
        ),
        (docx("words " * 500)[:300], "an office file of which the end is missing"),
        (b"once upon a time\n" * 20, "not an office file"),
        (package({"photo.txt": "no office file"}), "a zip archive, but no office file"),
    ],
    ids=["empty", "random", "truncated", "text", "zip"],
)
def test_file_named_docx_that_is_none_has_one_reason(outcome_of, content, reason):
    assert outcome_of(content) == TaskFailure(reason)


def test_pictures_and_pdf_named_docx_are_read_as_what_they_are(outcome_of, photos):
    pytest.importorskip("pypdfium2")
    picture = outcome_of(min(photos.rglob("*.jpg")).read_bytes())
    assert (picture.kind, len(picture.items)) == ("image", 1)
    assert page_texts(outcome_of(pdf([words("a page")]))) == ["a page"]


def test_bomb_of_text_is_refused_before_it_is_unpacked(outcome_of):
    bomb = docx("a" * 400_000_000)
    assert len(bomb) < 1_000_000
    assert outcome_of(bomb).reason == "it unpacks to 400 MB of text, more than is safe"


def test_bomb_of_paragraphs_ends_within_the_limits(outcome_of):
    window = outcome_of(docx(raw="<w:p><w:r><w:t>a</w:t></w:r></w:p>" * 1_500_000))
    assert window.has_more
    assert page_texts(window)[0].startswith("a a a")


def test_directory_that_lies_about_sizes_is_damaged(outcome_of):
    content = bytearray(docx("a" * 400_000_000))
    entry = content.rindex(b"word/document.xml") - 46
    struct.pack_into("<I", content, entry + 24, 1000)
    assert outcome_of(bytes(content)) == TaskFailure("its text is damaged")


def test_deep_nesting_ends(outcome_of):
    raw = "<w:p>" * 200_000 + "<w:r><w:t>deep</w:t></w:r>" + "</w:p>" * 200_000
    parts = docx_parts(raw=raw)
    assert page_texts(outcome_of(package(parts, compression=zipfile.ZIP_STORED))) == ["deep"]


@pytest.mark.parametrize(
    "declaration",
    [
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;'>]>",
        "<!DOCTYPE d [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
        "<!DOCTYPE d SYSTEM 'http://127.0.0.1/d.dtd'>",
    ],
)
def test_declarations_are_refused(outcome_of, declaration):
    parts = docx_parts("&b;")
    parts["word/document.xml"] = declaration + word_part("b").replace(">b<", ">&b;<")
    assert outcome_of(package(parts)).reason == (
        "it declares entities, which office programs never do"
    )


def test_slides_that_name_one_part_a_million_times_end(outcome_of):
    parts = pptx_parts(["the only slide"])
    parts["ppt/presentation.xml"] = parts["ppt/presentation.xml"].replace(
        "</p:sldIdLst>", '<p:sldId r:id="rId1"/>' * 300_000 + "</p:sldIdLst>"
    )
    window = outcome_of(package(parts, compression=zipfile.ZIP_STORED), "hostile.pptx")
    assert "only the first 1,000 of 300,001 slides are read" in window.items[0].picture.damage
    assert len(window.items) == 64


def test_large_thumbnail_is_left_out(tmp_path):
    parts = docx_parts("words") | {"docProps/thumbnail.jpeg": bytes(5_000_000)}
    path = tmp_path / "a.docx"
    path.write_bytes(package(parts))
    assert office.build().thumbnail(os.fsencode(path), 64).startswith(b"\xff\xd8")


def test_many_parts_end(outcome_of):
    parts = pptx_parts(["a slide"]) | {f"ppt/media/{n}.png": b"" for n in range(66_000)}
    assert outcome_of(package(parts), "a.pptx").reason == "it has more than 65,535 parts"
    assert page_texts(outcome_of(pptx(["a slide"]), "b.pptx")) == ["a slide"]
