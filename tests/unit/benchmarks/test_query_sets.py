"""Captions of the photographs, and the queries that no photograph answers."""

import csv
import struct
import zlib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SETS = ROOT / "benchmarks/quality/sets"
LANGUAGES = ("en", "de", "fr", "es", "ja", "zh", "it", "nl")
WITHOUT_SPACES = ("ja", "zh")


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def photo_captions():
    return read_rows(ROOT / "tests/photos/captions.csv")


@pytest.fixture(scope="module")
def photo_words():
    rows = read_rows(ROOT / "tests/photos/manifest.csv")
    return {row["path"]: row["word"].lower() for row in rows}


def test_photo_captions_one_row_for_every_photograph(photo_captions, photo_words):
    assert sorted(row["path"] for row in photo_captions) == sorted(photo_words)
    assert {(row["licence"], row["author"]) for row in photo_captions} == {
        ("CC0-1.0", "mmsearch project")
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_photo_captions_no_caption_twice(photo_captions, language):
    captions = [row[language].lower() for row in photo_captions]
    assert all(captions)
    assert len(set(captions)) == len(captions)
    if language not in WITHOUT_SPACES:
        assert all(3 <= len(caption.split()) <= 14 for caption in captions)


def test_photo_captions_splits_share_no_word_and_no_photograph(photo_captions, photo_words):
    splits_by_word = defaultdict(set)
    for row in photo_captions:
        splits_by_word[photo_words[row["path"]]].add(row["split"])
    assert all(len(splits) == 1 for splits in splits_by_word.values())
    split_of = {row["path"]: row["split"] for row in photo_captions}
    assert list(split_of.values()).count("dev") == len(split_of) // 2
    same_as = {row["path"]: row["same_as"] for row in photo_captions if row["same_as"]}
    assert len(same_as) == 6
    for path, twin in same_as.items():
        assert same_as[twin] == path
        assert split_of[twin] == split_of[path]


@pytest.mark.parametrize(("name", "least"), [("absent", 150), ("stop_word", 60), ("foreign", 60)])
def test_query_sets_hold_enough_distinct_queries(name, least):
    queries = [row["query"].lower() for row in read_rows(SETS / f"{name}_queries.csv")]
    assert all(query == query.strip() and query for query in queries)
    assert len(set(queries)) == len(queries) >= least


def test_absent_queries_are_in_no_caption(photo_captions, photo_words):
    queries = {row["query"].lower() for row in read_rows(SETS / "absent_queries.csv")}
    assert not queries & set(photo_words.values())
    captions = [row["en"].lower() for row in [*photo_captions, *read_rows(SETS / "wallpapers.csv")]]
    in_captions = {q for q in queries if any(f" {q} " in f" {caption} " for caption in captions)}
    assert not in_captions


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "ja", "zh"])
def test_wallpapers_no_caption_twice_nor_that_of_another_photograph(photo_captions, language):
    captions = [row[language].lower() for row in read_rows(SETS / "wallpapers.csv")]
    assert all(captions)
    assert len(set(captions)) == len(captions) >= 200
    assert not set(captions) & {row[language].lower() for row in photo_captions}


def test_wallpapers_name_package_file_and_licence():
    rows = read_rows(SETS / "wallpapers.csv")
    assert len({row["path"] for row in rows}) == len({(r["package"], r["file"]) for r in rows})
    assert all(row["licence"] and row["author"] for row in rows)


def qt_resources(files):
    """Return a resource file, version 3, of files in one folder: name, content, compressed."""
    names, contents, nodes = bytearray(), bytearray(), []
    for name, content, compressed in [("pictures", b"", False), *files]:
        offset = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if compressed else content
        nodes.append(struct.pack(">IHHHIQ", offset, int(compressed), 0, 0, len(contents), 0))
        contents += struct.pack(">I", len(stored)) + stored
    root = struct.pack(">IHIIQ", 0, 2, 1, 1, 0)
    nodes[0] = struct.pack(">IHIIQ", 0, 2, len(files), 2, 0)
    tree = root + b"".join(nodes)
    starts = (24, 24 + len(tree), 24 + len(tree) + len(contents))
    return b"qres" + struct.pack(">5I", 3, *starts, 0) + tree + bytes(contents + names)


@pytest.fixture
def wallpaper_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import eval_wallpapers

    return eval_wallpapers


def test_qt_resources_are_read_with_their_folders(wallpaper_scripts):
    data = qt_resources([("a.jpg", b"plain", False), ("b.svg", b"packed" * 9, True)])
    assert dict(wallpaper_scripts.read_qt_resources(data)) == {
        "pictures/a.jpg": b"plain",
        "pictures/b.svg": b"packed" * 9,
    }
    with pytest.raises(wallpaper_scripts.FetchError):
        list(wallpaper_scripts.read_qt_resources(b"PK" + data))
