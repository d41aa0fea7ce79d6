"""A modality of another package, with several items a file: real photographs, real processes."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

import mmsearch as library
from tests.http_client import http_client

PLUGIN = Path(__file__).parents[1] / "slides_plugin"
LONG = 150


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """Make the package visible to this process and to those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLUGIN)
        patch.setenv("PYTHONPATH", str(PLUGIN))
        yield


@pytest.fixture(scope="module")
def slides(plugin, tmp_path_factory, photos):
    """A folder with photographs and with files of 1, 5 and 150 slides."""
    from slides_modality import write_slides

    folder = tmp_path_factory.mktemp("slides")
    pictures = sorted((photos / "photos").iterdir())
    for photo in pictures[:12]:
        shutil.copy(photo, folder)
    write_slides(folder / "one.slides", [(pictures[12], "a lonely slide")])
    five = [(photo, f"number {place}") for place, photo in enumerate(pictures[13:18])]
    write_slides(folder / "five.slides", five)
    write_slides(folder / "long.slides", [(photo, "") for photo in pictures[18 : 18 + LONG]])
    return folder


@pytest.fixture(scope="module")
def home(slides, environment, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", environment["MMSEARCH_CACHE"])
        with library.open_index(home=home, model="starter") as index:
            report = index.add_folder(slides)
    assert (report.added, report.failed) == (15, ())
    return home


@pytest.fixture
def index(home):
    with library.open_index(home=home) as index:
        yield index


def test_files_of_slides_are_found_once_and_each_slide_by_its_look(index, slides, photos):
    status = index.status()
    assert (status.pictures, status.files) == (15, 15)
    assert len(index) == len(list(index)) == 15
    wanted = sorted((photos / "photos").iterdir())[18 + 100]
    hits = index.similar(wanted, k=15)
    assert (hits[0].path.name, hits[0].page, hits[0].kind) == ("long.slides", 101, "document")
    assert hits[0].confidence > 0.99
    assert len({hit.path for hit in hits}) == len(hits) == 15
    assert len(hits[0].moments) == 5
    (found,) = index.search("number 3", k=1, mode="text")
    assert (found.path.name, found.page, found.matched.text) == ("five.slides", 4, "number 3")


def test_thumbnail_of_hit_shows_its_slide(index, photos):
    wanted = sorted((photos / "photos").iterdir())[18 + 100]
    (hit, *_) = index.similar(wanted, k=1)
    with Image.open(BytesIO(index.thumbnail(hit, 64))) as found, Image.open(wanted) as expected:
        assert found.size[0] / found.size[1] == pytest.approx(
            expected.size[0] / expected.size[1], abs=0.05
        )
        mean = Image.Image.resize(found.convert("RGB"), (1, 1)).getpixel((0, 0))
        true_mean = expected.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert all(abs(a - b) < 12 for a, b in zip(mean, true_mean, strict=True))


def test_command_shows_page_of_hit(installed_mmsearch, home):
    env = {"MMSEARCH_HOME": str(home), "PYTHONPATH": str(PLUGIN)}
    done = installed_mmsearch("query", "number 3", "--mode", "text", "-k", 1, env=env)
    assert done.out.rstrip("\n").split("\t")[-1] == "p. 4"
    done = installed_mmsearch("query", "a lonely slide", "--json", env=env)
    hits = json.loads(done.out)["hits"]
    assert [hit["page"] for hit in hits if hit["path"].endswith("one.slides")] == [1]
    assert all("moments" in hit for hit in hits)


def test_command_exports_and_imports_files_of_slides(installed_mmsearch, home, slides, tmp_path):
    def run(home, *arguments):
        env = {"MMSEARCH_HOME": str(home), "PYTHONPATH": str(PLUGIN)}
        return installed_mmsearch(*arguments, env=env)

    done = run(home, "export", tmp_path / "a")
    assert done.out.startswith("15 pictures, 153 further moments and pages,")
    other = tmp_path / "other"
    assert run(other, "import", tmp_path / "a").out.startswith("15 pictures read: 15 added,")
    for query in ("number 3", "a lonely slide", "a dog"):
        found = [run(at, "query", query, "-k", 15, "--json").out for at in (home, other)]
        ours, theirs = ([without_ids(hit) for hit in json.loads(out)["hits"]] for out in found)
        assert ours == theirs
    report = json.loads(run(other, "index", slides, "--json").out)["report"]
    assert (report["unchanged"], report["encoded"]) == (15, 0)
    done = run(home, "export", tmp_path / "b", "--format", "clip-retrieval")
    assert done.out.startswith("12 pictures, 0 text vectors,")
    assert "Films and documents left out: 3." in done.err


def without_ids(hit):
    values = {name: value for name, value in hit.items() if name not in ("id", "links")}
    return values | {"moments": [without_ids(moment) for moment in hit.get("moments", ())]}


def test_server_returns_pages_and_their_thumbnails(home):
    with http_client(home) as client:
        body = {"query": "number 1", "mode": "text", "limit": 3}
        answer = client.post("/v1/indexes/default/search", json=body).raise_for_status().json()
        hit = answer["hits"][0]
        assert (hit["page"], hit["kind"], hit["part"]) == (2, "document", 1)
        small = [
            client.get(f"/v1/indexes/default/pictures/{number}/thumbnail").raise_for_status()
            for number in (hit["id"], *(moment["id"] for moment in hit["moments"]))
        ]
        assert len({reply.content for reply in small}) == len(small) > 1 or not hit["moments"]
        original = client.get(hit["links"]["original"])
        assert original.status_code in (200, 415), original.text
        page = client.get("/", params={"q": "number 1", "mode": "text"}).text
        assert "five.slides · p. 2" in page


def test_program_adds_slides_as_record_and_sees_each_thumbnail(slides, tmp_path):
    with library.open_index(home=tmp_path, model="starter") as index:
        report = index.add([(slides / "five.slides").read_bytes()], ids=["deck"])
        assert (report.added, report.failed) == (1, ())
        assert len(index) == 1
        hits = index.search("a photograph", k=5)
        assert [(hit.key, hit.kind) for hit in hits] == [("deck", "document")]
        ids = [hits[0].id, *(moment.id for moment in hits[0].moments)]
        thumbnails = {index.thumbnail(number, 128) for number in ids}
        assert len(thumbnails) == len(ids) == 5
        kept = list((tmp_path / "default" / "thumbnails").rglob("*.jpg"))
        assert len(kept) == 5
        index.export(tmp_path / "export", format="npy")
        with library.open_index("other", home=tmp_path) as other:
            assert other.import_embeddings(tmp_path / "export").added == 1
            (hit,) = other.search("a photograph", k=5)
            ids = [hit.id, *(moment.id for moment in hit.moments)]
            assert {other.thumbnail(number, 128) for number in ids} == thumbnails
        assert index.delete(["deck"]) == 1
        index.compact()
        assert not [path for path in kept if path.exists()]


def test_modality_that_is_gone_leaves_its_pictures_found(home, installed_mmsearch):
    env = {"MMSEARCH_HOME": str(home), "PYTHONPATH": ""}
    done = installed_mmsearch("query", "number 3", "--mode", "text", "-k", 1, env=env)
    assert "five.slides" in done.out
