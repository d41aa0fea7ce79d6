"""Texts and slides of office programs beside photographs: found by words, shown, and kept."""

import json
import shutil
from io import BytesIO

import pytest
from PIL import Image

import mmsearch as library
from mmsearch.core.settings import Settings
from mmsearch.maintenance.repair import repair
from mmsearch.storage.layout import IndexLayout
from tests.http_client import http_client
from tests.office_files import docx, odf, package, pptx

NUM_PHOTOS = 6
LONG = 80
"""Slides of the long presentation: more than one window of decoding."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("office")
    for photo in sorted((photos / "photos").iterdir())[:NUM_PHOTOS]:
        shutil.copy(photo, folder)
    facts = {"title": "Care of pumps", "creator": "Jo Lindqvist", "created": "2019-05-17T12:00:00Z"}
    pages = [f"chapter {number} " + "of the long manual " * 150 for number in range(5)]
    pages[3] = "The impeller is replaced with a hexagonal key. " + pages[3]
    (folder / "manual.docx").write_bytes(docx(*pages, **facts))
    slides = [[f"Slide {number}"] for number in range(LONG)]
    slides[71] = ["Quarterly numbers of zeppelins"]
    (folder / "talk.pptx").write_bytes(pptx(*slides))
    (folder / "letter.odt").write_bytes(odf("text", "<text:p>Dear harbour master</text:p>"))
    (folder / "broken.docx").write_bytes(docx("lost words")[:200])
    table = package({"[Content_Types].xml": "<Types/>", "xl/workbook.xml": "<workbook/>"})
    (folder / "table.xlsx").write_bytes(table)
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    return folder


@pytest.fixture(scope="module")
def home(mmsearch, folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    out = mmsearch("index", folder, "--model", "starter", "--home", home, code=None).out
    assert f"{NUM_PHOTOS + 3} added" in out
    return home


def search(mmsearch, home, *arguments):
    return json.loads(mmsearch("query", *arguments, "--json", "--home", home).out)["hits"]


def test_words_find_slides_and_texts_without_further_options(mmsearch, home):
    first = search(mmsearch, home, "zeppelins")[0]
    assert (first["key"], first["page"], first["kind"]) == ("talk.pptx", 72, "document")
    assert (first["format"], first["width"], first["height"]) == ("PPTX", 0, 0)
    first = search(mmsearch, home, "hexagonal key for the impeller")[0]
    assert (first["key"], first["page"], first["part"]) == ("manual.docx", None, 3)
    assert search(mmsearch, home, "harbour master")[0]["key"] == "letter.odt"
    line = mmsearch("query", "zeppelins", "-k", 1, "--home", home).out
    assert line.rstrip().endswith("p. 72")


def test_facts_filters_and_failures(mmsearch, home):
    assert search(mmsearch, home, "Lindqvist", "--mode", "text")[0]["key"] == "manual.docx"
    (hit,) = search(mmsearch, home, "impeller", "--mode", "text", "--before", "2020")
    assert (hit["taken_at"], hit["taken_from"]) == ("2019-05-17T12:00:00", "document")
    hits = search(mmsearch, home, "slide", "--mode", "text", "--format", "pptx")
    assert [hit["key"] for hit in hits] == ["talk.pptx"]
    failures = mmsearch("status", "--failures", "--home", home).out
    assert "an office file of which the end is missing" in failures
    assert "xlsx" not in failures


def test_server_shows_a_card_and_gives_the_original_as_download(home, folder):
    with http_client(home) as client:
        body = {"query": "zeppelins", "mode": "text"}
        (hit,) = (
            client.post("/v1/indexes/default/search", json=body).raise_for_status().json()["hits"]
        )
        small = client.get(hit["links"]["thumbnail"]).raise_for_status()
        with Image.open(BytesIO(small.content)) as image:
            assert image.width > image.height
            assert image.convert("L").getextrema()[0] < 128
        original = client.get(hit["links"]["original"]).raise_for_status()
        assert original.headers["content-type"].endswith("presentationml.presentation")
        assert original.headers["content-disposition"].startswith("attachment")
        assert original.content == (folder / "talk.pptx").read_bytes()


def test_changed_file_is_read_again_and_an_unchanged_one_is_not(folder, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(folder, files)
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(files)
        (files / "letter.odt").write_bytes(odf("text", "<text:p>Dear lighthouse keeper</text:p>"))
        (report,) = index.refresh().values()
        assert (report.added, report.changed) == (0, 1)
        (hit,) = index.search("lighthouse", mode="text")
        assert hit.path.name == "letter.odt"
        assert index.search("harbour", mode="text") == []


def test_lost_catalog_is_rebuilt(home, tmp_path):
    copy = IndexLayout(shutil.copytree(home / "default", tmp_path / "default"))
    copy.catalog.write_bytes(b"no catalog")
    settings = Settings(home=tmp_path, device="cpu")
    repair(copy, settings, lambda message: None, 0, lambda progress: None)
    with library.open_index(home=tmp_path) as index:
        index.refresh()
        (hit,) = index.search("zeppelins", mode="text")
        assert (hit.path.name, hit.page) == ("talk.pptx", 72)


def test_program_adds_a_text(tmp_path):
    with library.open_index(home=tmp_path, model="starter") as index:
        index.add([docx("a note about a lighthouse")], ids=["note"])
        assert [hit.key for hit in index.search("lighthouse", mode="text")] == ["note"]
