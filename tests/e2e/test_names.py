"""Names as people have them: Google Takeout, other Unicode forms, brackets, and printed paths."""

import json

import pytest
from PIL import Image

ALBUM = "Takeout/Google Photos/Rome [2019]"
ZURICH = "Zu\u0308rich.jpg"
PICTURES = ("IMG_1.jpg", "IMG_1-edited.jpg", "photo [1].jpg", "Cat.jpg", "cat.jpg", ZURICH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    album = folder / ALBUM
    album.mkdir(parents=True)
    for number, name in enumerate(PICTURES):
        Image.new("RGB", (40, 30), (40 * number, 90, 200)).save(album / name)
    details = {
        "title": "IMG_1.jpg",
        "description": "A fountain",
        "photoTakenTime": {"timestamp": "1558081800"},
        "geoData": {"latitude": 41.9, "longitude": 12.5},
        "people": [{"name": "Anna"}],
    }
    (album / "IMG_1.jpg.supplemental-metadata.json").write_text(json.dumps(details))
    (album / "metadata.json").write_text(json.dumps({"title": "An album"}))
    (album / "Cat.txt").write_text("a big cat")
    (album / "cat.txt").write_text("a small cat")
    (album / "Z\u00fcrich.txt").write_text("a lake")
    return folder


@pytest.fixture(scope="module")
def home(mmsearch, folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    mmsearch("index", "Takeout", "--home", home, "--model", "starter", cwd=folder)
    return home


@pytest.fixture(scope="module")
def hits(mmsearch, home):
    answer = json.loads(mmsearch("query", "a thing", "-k99", "--json", "--home", home).out)
    return {hit["path"].rpartition("/")[2]: hit for hit in answer["hits"]}


def test_takeout_describes_its_picture_and_the_edited_copy(hits):
    assert set(hits) == set(PICTURES)
    dated = {name: hit["taken_from"] for name, hit in hits.items() if hit["taken_at"]}
    assert dated == {"IMG_1.jpg": "takeout", "IMG_1-edited.jpg": "takeout"}
    for name in dated:
        assert (hits[name]["latitude"], hits[name]["longitude"]) == (41.9, 12.5)
    words = {
        name: {text["text"] for text in hit["texts"] if text["source"] == "sidecar"}
        for name, hit in hits.items()
    }
    assert words == {
        "IMG_1.jpg": {"A fountain", "Anna"},
        "IMG_1-edited.jpg": {"A fountain", "Anna"},
        "photo [1].jpg": set(),
        "Cat.jpg": {"a big cat"},
        "cat.jpg": {"a small cat"},
        ZURICH: {"a lake"},
    }


@pytest.mark.parametrize("inside", ["", ALBUM])
def test_printed_paths_work_as_path_filter(mmsearch, folder, home, inside):
    def rows(*options):
        done = mmsearch("query", "a thing", "-k99", *options, "--home", home, cwd=folder / inside)
        return [line.split("\t")[2] for line in done.out.splitlines()]

    printed = rows()
    assert len(printed) == len(PICTURES)
    for path in printed:
        found = rows("--path", path)
        # A bare file name is a pattern, and patterns ignore case.
        assert found == [path] or (inside and sorted(found) == ["Cat.jpg", "cat.jpg"])
        assert rows("--path", f"{folder}/{ALBUM}/{path.rpartition('/')[2]}") == [path]


def test_path_filter_takes_absolute_paths_home_folder_and_other_unicode_form(
    mmsearch, folder, home
):
    def names(*paths):
        options = [option for path in paths for option in ("--path", path)]
        found = mmsearch(
            *("query", "a thing", "-k99", "--paths", "--home", home, *options),
            cwd=folder,
            env={"HOME": str(folder)},
        )
        return {line.rpartition("/")[2] for line in found.out.splitlines()}

    assert names("Z\u00fcrich.jpg") == {ZURICH}
    assert names(f"{folder}/{ALBUM}/Z\u00fcrich.jpg") == {ZURICH}
    assert names(folder) == names("Takeout") == names("./Takeout") == set(PICTURES)
    assert names(f"~/{ALBUM}/photo [1].jpg") == {"photo [1].jpg"}
    assert names("Takeout/*/*/IMG*") == {"IMG_1.jpg", "IMG_1-edited.jpg"}
    assert names("*.jpg", f"!{ALBUM}/Cat.jpg") == set(PICTURES) - {"Cat.jpg"}
    assert names("~/elsewhere") == set()
