"""Texts in pictures with the real models: signs, scanned pages, hostile pictures, the command."""

import json
import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmsearch.core.derived import EnricherOptions
from mmsearch.core.errors import DecodeError
from mmsearch.enrichers import ocr
from mmsearch.modalities import image
from tests.pdf_files import pdf, words

pytest.importorskip("rapidocr")
pdfium = pytest.importorskip("pypdfium2")

NUM_PHOTOS = 8
NUM_MUTANTS = 100


def draw(*lines, size=(800, 600), letters=60, ground="white", ink="black"):
    picture = Image.new("RGB", size, ground)
    font = ImageFont.load_default(letters)
    for number, text in enumerate(lines):
        place = (size[0] // 10, size[1] // 6 + number * 3 * letters // 2)
        ImageDraw.Draw(picture).text(place, text, fill=ink, font=font)
    return picture


@pytest.fixture(scope="module")
def reader():
    return ocr.build(EnricherOptions())


def read(reader, picture):
    return " ".join(text.text for text in reader.read(np.asarray(picture)))


@pytest.mark.parametrize("degrees", [-20, 0, 10, 90, 180, 270])
def test_signs_are_read_in_any_direction(reader, degrees):
    sign = draw("FIRE EXIT", "Keep Clear").rotate(degrees, fillcolor="white", expand=True)
    assert set(read(reader, sign).split()) == {"FIRE", "EXIT", "Keep", "Clear"}


def test_lines_are_read_from_top_to_bottom_with_their_boxes(reader):
    lines = reader.find_lines(np.asarray(draw("Platform 9", "to London")))
    assert [line.text for line in lines] == ["Platform 9", "to London"]
    for line in lines:
        left, top, right, bottom = line.box
        assert 0.05 < left < 0.12 < right < 0.7
        assert 0.15 < top < bottom < 0.5


def test_small_pictures_and_colours_are_read(reader):
    assert read(reader, draw("Room 214", size=(200, 100), letters=14)) == "Room 214"
    assert read(reader, draw("SALE", ground="red", ink="yellow")) == "SALE"


def test_long_screenshots_are_read_whole_and_each_line_once(reader):
    messages = [f"message number {number}" for number in range(100, 140)]
    picture = Image.new("RGB", (600, 4400), "white")
    font = ImageFont.load_default(28)
    for number, message in enumerate(messages):
        ImageDraw.Draw(picture).text((40, 20 + 108 * number), message, fill="black", font=font)
    found = read(reader, picture).split("message number ")
    assert [part.strip() for part in found[1:]] == [m.split()[-1] for m in messages]


@pytest.mark.parametrize(
    "shape", [(1, 1), (8, 3000), (3000, 8), (11, 11), (40, 3000), (3000, 40), (2000, 2600)]
)
def test_pictures_without_room_for_letters_and_noise_have_no_text(reader, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert reader.read(noise) == ()


def test_picture_that_is_too_narrow_says_so(reader):
    with pytest.raises(DecodeError, match="too narrow for its length"):
        reader.read(np.zeros((31, 5000, 3), np.uint8))


def test_damaged_pictures_end_in_texts_or_in_a_reason(reader, tmp_path):
    buffer = BytesIO()
    draw("EXIT", size=(240, 120), letters=40).save(buffer, "JPEG")
    generator = random.Random(0)
    modality = image.build()
    path = tmp_path / "sign.jpg"
    reasons = readable = 0
    for _ in range(NUM_MUTANTS):
        content = bytearray(buffer.getvalue())
        for _ in range(generator.randint(1, 20)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        path.write_bytes(content)
        try:
            for item in modality.items(bytes(path), reader.edge_px):
                reader.read(item.pixels)
                readable += 1
        except DecodeError:
            reasons += 1
    assert reasons + readable == NUM_MUTANTS
    assert readable > NUM_MUTANTS // 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """A folder with photographs, a sign, a scanned page, and a manual with one scanned page."""
    folder = tmp_path_factory.mktemp("ocr") / "files"
    folder.mkdir()
    for number, path in enumerate(sorted((photos / "photos").glob("*.jpg"))[:NUM_PHOTOS]):
        (folder / f"photo{number}.jpg").write_bytes(path.read_bytes())
    sign = Image.open(folder / "photo0.jpg").resize((1024, 768))
    sign.paste(draw("EXIT", size=(300, 120), ground="green", ink="white"), (360, 200))
    sign.save(folder / "IMG_1.jpg", quality=90)
    scan = draw("Minutes of the", "harbour committee", size=(1190, 1684), letters=44)
    scan.save(folder / "scan.pdf", resolution=144)
    (folder / "text.pdf").write_bytes(pdf([words("impeller", "replaced with a hexagonal key")]))
    with (
        pdfium.PdfDocument(folder / "text.pdf") as manual,
        pdfium.PdfDocument(folder / "scan.pdf") as page,
    ):
        manual.import_pages(page)
        manual.save(folder / "manual.pdf")
    return folder


@pytest.fixture(scope="module")
def command(mmsearch, folder):
    def run(*arguments, **options):
        return mmsearch(*arguments, "--home", folder.parent / "home", **options)

    run("index", folder, "--model", "starter")
    return run


def search(command, *arguments):
    return json.loads(command("query", *arguments, "--json").out)["hits"]


def ocr_texts(hits):
    return {
        (hit["key"], hit["page"]): text["text"]
        for hit in hits
        for text in hit["texts"]
        if text["kind"] == "ocr"
    }


def test_command_reads_each_file_once_and_searches_find_it(command):
    assert search(command, "EXIT")[0]["matched"] is None
    done = command("describe", "--ocr")
    assert done.out.startswith(f"ocr: 3 texts of {NUM_PHOTOS + 4} pictures in ")
    assert command("describe", "--ocr").out == "ocr: nothing to do.\n"
    assert f"ocr: {NUM_PHOTOS + 4} done" in command("status").out
    first = search(command, "EXIT")[0]
    assert (first["key"], first["matched"]["text"]) == ("IMG_1.jpg", "EXIT")
    assert first["matched"]["kind"] == "ocr"
    assert "written: EXIT" in command("query", "EXIT", "-k", "1").out
    (text,) = [text for text in first["texts"] if text["kind"] == "ocr"]
    assert text["source"] == "ocr"
    assert text["made_by"].startswith("ocr-")
    assert text["confidence"] > 0.9
    (box,) = first["matched"]["boxes"]
    assert box == text["boxes"][0]
    start, end, left, top, right, bottom = box
    assert (start, end) == (0, 4)
    assert 0.34 < left < right < 0.66
    assert 0.25 < top < bottom < 0.43


def test_pages_with_their_text_are_left_alone(command):
    command("describe", "--ocr")
    hits = search(command, "harbour committee", "--mode", "text")
    assert ocr_texts(hits) == {
        ("scan.pdf", 1): "Minutes of the harbour committee",
        ("manual.pdf", 2): "Minutes of the harbour committee",
    }
    assert ocr_texts(search(command, "impeller", "--mode", "text")) == {}


def test_missing_extra_is_one_sentence_before_any_work(command, monkeypatch):
    import mmsearch as library
    from mmsearch.core.errors import MissingExtraError

    home = json.loads(command("status", "--json").out)["folder"]
    monkeypatch.setitem(__import__("sys").modules, "rapidocr", None)
    with library.open_index(home=home.rpartition("/")[0]) as index:
        before = index.status().generation
        with pytest.raises(MissingExtraError, match="needs the Python package 'rapidocr'"):
            index.describe(["tags", "ocr"])
        assert index.status().generation == before
