"""Documents: pages of real PDFs, found by words and by their look, in real processes."""

import json
import os
import shutil
from io import BytesIO

import pytest
from PIL import Image

import mmsearch as library
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.storage.layout import IndexLayout
from tests.http_client import http_client
from tests.pdf_files import pdf, words

pytest.importorskip("pypdfium2")

LONG = 70
"""Pages of the long document: more than one window of decoding."""


@pytest.fixture(scope="module")
def pictures(photos):
    return sorted((photos / "photos").iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    """A folder with photographs and documents."""
    folder = tmp_path_factory.mktemp("documents")
    for photo in pictures[:12]:
        shutil.copy(photo, folder)
    pages = [words(f"chapter {number}", "of the long manual") for number in range(1, LONG + 1)]
    pages[16] = words("the impeller", "is replaced with a hexagonal key")
    info = "/Title(Care of pumps)/Author(Jo Lindqvist)/CreationDate(D:20190517120000)"
    (folder / "manual.pdf").write_bytes(pdf(pages, info=info))
    scans = []
    for photo in pictures[12:17]:
        with Image.open(photo) as image:
            scans.append(image.convert("RGB"))
    scans[0].save(folder / "album.pdf", save_all=True, append_images=scans[1:])
    return folder


@pytest.fixture(scope="module")
def home(folder, environment, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", environment["MMSEARCH_CACHE"])
        with library.open_index(home=home, model="starter") as index:
            report = index.add_folder(folder)
    assert (report.added, report.failed, report.skipped) == (14, (), ())
    return home


@pytest.fixture
def index(home):
    with library.open_index(home=home) as index:
        yield index


def found(index, query, **options):
    return [(hit.path.name, hit.page) for hit in index.search(query, **options)]


def test_page_is_found_by_its_words_without_further_options(index):
    hits = index.search("hexagonal key for the impeller", k=14)
    best = hits[0]
    assert (best.path.name, best.page, best.kind, best.format) == (
        "manual.pdf",
        17,
        "document",
        "PDF",
    )
    assert best.position == "p. 17"
    assert best.matched.kind == "page"
    assert len({hit.path for hit in hits}) == len(hits) == 14
    assert found(index, "chapter 67 manual", k=1, mode="text") == [("manual.pdf", 67)]


def test_other_pages_with_the_words_are_moments_of_the_hit(index):
    (hit,) = index.search("the long manual", k=1, mode="text")
    assert len(hit.moments) == 5
    assert hit.page not in {moment.page for moment in hit.moments}


def test_page_is_found_by_its_picture(index, pictures):
    hits = index.similar(pictures[14], k=3)
    assert (hits[0].path.name, hits[0].page) == ("album.pdf", 3)
    thumbnail = BytesIO(index.thumbnail(hits[0], 64))
    with Image.open(thumbnail) as small, Image.open(pictures[14]) as whole:
        expected = whole.convert("RGB").resize((1, 1)).getpixel((0, 0))
        mean = small.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert all(abs(a - b) < 14 for a, b in zip(mean, expected, strict=True))


def test_facts_of_a_document_are_found(index):
    assert found(index, "Lindqvist", k=1, mode="text") == [("manual.pdf", 1)]
    assert found(index, "care of pumps", k=1, mode="text") == [("manual.pdf", 1)]
    (hit,) = index.search("impeller", k=1, mode="text", filters={"before": "2020"})
    assert (hit.taken_at, hit.taken_from) == ("2019-05-17T12:00:00", "document")
    assert {
        hit.path.suffix for hit in index.search("a photo", k=20, filters={"format": "pdf"})
    } == {".pdf"}


def test_page_texts_have_no_vectors_and_only_the_title_is_encoded(home):
    with catalogs.open_read(IndexLayout(home / "default")) as catalog:
        kinds = {}
        for picture in catalog.list_live_pictures(0, 1000):
            for text in picture.picture.texts:
                kinds.setdefault((text.source, text.kind), []).append(picture.texts_digest)
    assert len(kinds["document", "page"]) == LONG
    assert [digest != b"" for digest in kinds["document", "page"]] == [True] + [False] * (LONG - 1)
    # Pillow names a document after its file.
    assert len(kinds["metadata", "title"]) == 2


def test_command_prints_page_of_hit(installed_mmsearch, home):
    env = {"MMSEARCH_HOME": str(home)}
    done = installed_mmsearch("query", "impeller key", "-k", 1, env=env)
    columns = done.out.rstrip("\n").split("\t")
    assert columns[2].endswith("manual.pdf")
    assert columns[-1] == "p. 17"
    done = installed_mmsearch("query", "impeller key", "--json", "-k", 1, env=env)
    assert json.loads(done.out)["hits"][0]["page"] == 17
    done = installed_mmsearch("status", env=env)
    assert "14" in done.out


def test_server_shows_page_and_gives_document_as_download(home, folder):
    with http_client(home) as client:
        body = {"query": "impeller", "mode": "text"}
        (hit,) = (
            client.post("/v1/indexes/default/search", json=body).raise_for_status().json()["hits"]
        )
        assert (hit["page"], hit["part"], hit["kind"]) == (17, 16, "document")
        small = client.get(hit["links"]["thumbnail"]).raise_for_status()
        with Image.open(BytesIO(small.content)) as image:
            assert image.height == 400
        original = client.get(hit["links"]["original"]).raise_for_status()
        assert original.headers["content-type"] == "application/pdf"
        assert original.headers["content-disposition"].startswith(
            'attachment; filename="manual.pdf"'
        )
        assert original.content == (folder / "manual.pdf").read_bytes()
        page = client.get("/", params={"q": "impeller", "mode": "text"}).text
        assert "manual.pdf · p. 17" in page


def test_lost_catalog_is_rebuilt_with_the_texts_of_pages(home, tmp_path):
    copy = IndexLayout(shutil.copytree(home / "default", tmp_path / "default"))
    copy.catalog.write_bytes(b"no catalog")
    settings = Settings(home=tmp_path, device="cpu")
    repair(copy, settings, lambda message: None, 0, lambda progress: None)
    with library.open_index(home=tmp_path) as index:
        assert found(index, "impeller", k=1, mode="text") == [("manual.pdf", 17)]


def test_document_that_is_encoded_again_keeps_its_texts_once(home, tmp_path):
    shutil.copytree(home / "default", tmp_path / "default")
    with library.open_index(home=tmp_path) as index:
        assert index.reindex(fusion="attention", reencode=True).failed == ()
        (hit,) = index.search("impeller", k=1, mode="text")
        assert (hit.page, len(hit.texts)) == (17, 1)
        (first,) = index.search("Lindqvist", k=1, mode="text")
        assert sorted(text.kind for text in first.texts) == [
            "author",
            "filename",
            "page",
            "title",
        ]
    settings = Settings(home=tmp_path, device="cpu")
    layout = IndexLayout(tmp_path / "default")
    report = check(layout, settings, lambda message: None, sources=False, content=False)
    assert report.verdict == "sound", report.findings


def test_index_without_texts_has_documents_and_finds_no_words(folder, tmp_path):
    with library.open_index(home=tmp_path, model="starter") as index:
        assert index.add_folder(folder, texts="none").failed == ()
        assert found(index, "impeller", k=20, mode="text") == []
        assert len(index.search("a red square", k=20)) == 14
    report = check(
        IndexLayout(tmp_path / "default"),
        Settings(home=tmp_path, device="cpu"),
        lambda message: None,
        sources=False,
        content=False,
    )
    assert report.verdict == "sound", report.findings


def test_program_adds_document_and_sees_thumbnail_of_each_page(tmp_path):
    content = pdf([words("one"), words("two"), words("three")])
    with library.open_index(home=tmp_path, model="starter") as index:
        assert index.add([content], ids=["leaflet"]).failed == ()
        (hit,) = index.search("three", k=1, mode="text")
        assert (hit.key, hit.page) == ("leaflet", 3)
        ids = [hit.id, hit.id - 1, hit.id - 2]
        assert len({index.thumbnail(number, 128) for number in ids}) == 3


def test_documents_are_read_once_their_extra_is_installed(tmp_path, monkeypatch, pictures):
    folder = tmp_path / "files"
    folder.mkdir()
    shutil.copy(pictures[0], folder)
    (folder / "manual.pdf").write_bytes(pdf([words("impeller")]))
    (folder / "scan").write_bytes(pdf([words("gasket")]))
    finder = "mmsearch.modalities._reader.find_spec"
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        with monkeypatch.context() as patch:
            patch.setattr(finder, lambda name: None if name == "pypdfium2" else os)
            report = index.add_folder(folder)
            assert report.added == 1
            assert {(c.kind, c.reason, c.files) for c in report.skipped} == {
                ("PDF", "install '.[documents]'", 1),
                ("files without ending", "install '.[documents]'", 1),
            }
        report = index.add_folder(folder)
        assert (report.added, report.skipped) == (2, ())
        assert found(index, "gasket", k=1, mode="text") == [("scan", 1)]


def test_long_documents_fill_a_shard_by_their_size(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.pdf").write_bytes(pdf([words(f"manual {number}")]))
    size = (folder / "0.pdf").stat().st_size
    monkeypatch.setattr("mmsearch.indexing.run.MAX_SHARD_BYTES", 2 * size)
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        assert index.add_folder(folder).added == 6
        assert found(index, "manual 5", k=1, mode="text") == [("5.pdf", 1)]
    with catalogs.open_read(IndexLayout(tmp_path / "home" / "default")) as catalog:
        assert [segment.rows for segment in catalog.segments()] == [2, 2, 2]


def test_files_of_unknown_names_get_the_ids_that_their_content_needs(tmp_path, pictures):
    folder = tmp_path / "files"
    folder.mkdir()
    for number, photo in enumerate(pictures[:4]):
        shutil.copy(photo, folder / f"photo{number}")
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        assert index.add_folder(folder).added == 4
        (folder / "scan").write_bytes(pdf([words("gasket"), words("washer")]))
        assert index.add_folder(folder).added == 1
        assert found(index, "washer", k=1, mode="text") == [("scan", 2)]
    with catalogs.open_read(IndexLayout(tmp_path / "home" / "default")) as catalog:
        assert catalog.next_free_ids()[0] == 7


def test_client_and_assistants_have_the_page(home, index):
    from mmsearch.mcp.schemas import PictureHit, format_hit

    with http_client(home) as http:
        body = {"query": "impeller", "mode": "text"}
        answer = http.post("/v1/indexes/default/search", json=body).raise_for_status().json()
        hit = library.Hit.from_dict(answer["hits"][0])
    assert (hit.page, hit.position) == (17, "p. 17")
    shown = format_hit(PictureHit.from_hit(1, hit))
    assert "manual.pdf (p. 17)" in shown
    assert "page: the impeller is replaced" in shown


def test_langchain_document_is_the_text_of_the_page(index):
    pytest.importorskip("langchain_core")
    from mmsearch.integrations.langchain import MMSearchRetriever

    (found_page,) = MMSearchRetriever(source=index, k=1, mode="text").invoke("impeller")
    assert found_page.page_content == "the impeller is replaced with a hexagonal key"
    assert (found_page.metadata["page"], found_page.metadata["position"]) == (17, "p. 17")


def test_llama_index_node_is_the_text_of_the_page_and_no_picture_file(home, index):
    pytest.importorskip("llama_index.core")
    from mmsearch.integrations.llama_index import MMSearchRetriever, to_node

    (found_page,) = MMSearchRetriever(source=index, k=1, mode="text").retrieve("impeller")
    node = found_page.node
    assert node.text == "the impeller is replaced with a hexagonal key"
    assert node.metadata["page"] == 17
    assert (node.image_path, node.image_mimetype) == (None, None)
    with http_client(home) as http:
        body = {"query": "impeller", "mode": "text"}
        answer = http.post("/v1/indexes/default/search", json=body).raise_for_status().json()
    node = to_node(library.Hit.from_dict(answer["hits"][0]), "http://host")
    assert node.image_url.endswith("/thumbnail")


def test_pdf_with_the_name_of_another_program_is_read_by_its_content(tmp_path, pictures):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "logo.ai").write_bytes(pdf([words("emblem")]))
    shutil.copy(pictures[0], folder / "photo.pdf")
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        assert index.add_folder(folder).added == 2
        assert found(index, "emblem", k=1, mode="text") == [("logo.ai", 1)]
        assert found(index, "photo", k=1, mode="text") == [("photo.pdf", None)]


def test_evaluation_measures_right_pages_apart_from_right_files(index, folder, tmp_path):
    evaluate = pytest.importorskip("mmsearch.api.evaluate")
    pytest.importorskip("ir_measures")
    table = folder / "queries.csv"
    rows = ["hexagonal impeller key,manual.pdf,17", "chapter 33,manual.pdf,34"]
    table.write_text("query,path,page\n" + "\n".join(rows) + "\n", encoding="utf-8")
    settings = evaluate.SearchSettings(mode="text")
    try:
        rating = evaluate.evaluate_index(index, evaluate.CaptionedSet(table), settings)
    finally:
        table.unlink()
    values = {name: own.value for name, own in rating.metrics.items()}
    assert (rating.queries, rating.placed_queries) == (2, 2)
    assert (values["Success@1"], values["Place@1"]) == (1.0, 0.5)
    with pytest.raises(library.UsageError, match="no tolerance"):
        evaluate.evaluate_index(index, evaluate.CaptionedSet(table), within_s=-1)
