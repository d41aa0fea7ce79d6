"""Near duplicates and bursts in searches of the installed command, on copies of photographs."""

import csv
import json
import os
import re
import shutil

import pytest
from PIL import Image

from mmsearch.storage.layout import IndexLayout
from tests.e2e.test_serving import run_socket_server
from tests.stacked_index import write_stacks

pytestmark = pytest.mark.e2e

OTHERS = 12
COPIES = ("original.png", "poor.jpg", "small.jpg", "turned_away.jpg")


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """Photographs, among them one of a giraffe with three copies."""
    folder = tmp_path_factory.mktemp("copies")
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in [row for row in rows if row["word"].lower() != "giraffe"][:OTHERS]:
        shutil.copy(photos / row["path"], folder)
    giraffe = next(row for row in rows if row["word"].lower() == "giraffe")
    with Image.open(photos / giraffe["path"]) as image:
        width, height = image.size
        image.convert("RGB").save(folder / "original.png")
        image.convert("RGB").save(folder / "poor.jpg", quality=40)
        image.resize((width // 2, height // 2)).convert("RGB").save(folder / "small.jpg")
        image.crop((9, 9, width, height)).convert("RGB").save(folder / "turned_away.jpg")
    return folder


@pytest.fixture(scope="module")
def home(mmsearch, folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    mmsearch("index", folder, "--home", home)
    search = ("query", "a giraffe", "-k", "99", "--no-fold", "--json", "--home", home)
    hits = json.loads(mmsearch(*search).out)["hits"]
    ids = {hit["path"].rpartition("/")[2]: hit["id"] for hit in hits}
    stack = [ids[name] for name in COPIES]
    write_stacks(IndexLayout(home / "default"), [[stack[:3], stack[3:]]])
    return home


def test_query_prints_number_beside_one_of_the_copies(mmsearch, home):
    lines = mmsearch("query", "a giraffe", "--home", home).out.splitlines()
    assert len(lines) == 10
    rows = [line.split("\t") for line in lines]
    assert [row[8] for row in rows if row[8]] == ["+3"]
    (first,) = [row for row in rows if row[8]]
    assert first[2].rpartition("/")[2] in COPIES
    every = mmsearch("query", "a giraffe", "--no-fold", "-k99", "--home", home).out.splitlines()
    assert len(every) == OTHERS + 4
    assert {len(line.split("\t")) for line in every} == {7}


def test_paths_and_json_have_one_picture_of_a_stack(mmsearch, home):
    whole = mmsearch("query", "a giraffe", "-k99", "--paths", "--home", home).out.splitlines()
    assert len(whole) == OTHERS + 1
    answer = json.loads(mmsearch("query", "a giraffe", "-k99", "--json", "--home", home).out)
    assert [hit["path"] for hit in answer["hits"]] == whole
    (hit,) = [hit for hit in answer["hits"] if hit["folded"]]
    kinds = {each["path"].rpartition("/")[2]: each["kind"] for each in hit["duplicates"]}
    shown = hit["path"].rpartition("/")[2]
    assert {shown, *kinds} == set(COPIES)
    assert set(kinds.values()) <= {"near", "burst"}
    filtered = ("query", "a giraffe", "-k99", "--json", "--path", "*.jpg", "--home", home)
    answer = json.loads(mmsearch(*filtered).out)
    assert [hit["folded"] for hit in answer["hits"] if hit["folded"]] == [2]
    assert answer["passed"] == OTHERS + 3


def test_similar_shows_the_number_of_copies_and_lists_them_on_request(mmsearch, home, folder):
    given = ("similar", folder / "small.jpg", "--paths", "--home", home)
    one = mmsearch(*given, "-k2").out.splitlines()
    assert [path.rpartition("/")[2] in COPIES for path in one] == [True, False]
    each = mmsearch(*given, "-k4", "--no-fold").out.splitlines()
    assert {path.rpartition("/")[2] for path in each} == set(COPIES)
    assert "--no-fold" in mmsearch("similar", "--help").out


def test_batch_folds_unless_option_says_no(mmsearch, home):
    search = ("query", "--batch", "-", "-k99", "--home", home)
    (line,) = mmsearch(*search, stdin="a giraffe").out.splitlines()
    assert len(json.loads(line)["hits"]) == OTHERS + 1
    (line,) = mmsearch(*search, "--no-fold", stdin="a giraffe").out.splitlines()
    assert len(json.loads(line)["hits"]) == OTHERS + 4


@pytest.mark.skipif(os.name == "nt", reason="no Unix domain sockets")
def test_server_of_commands_folds_as_the_command(environment, mmsearch, home):
    alone = {"XDG_RUNTIME_DIR": environment["XDG_RUNTIME_DIR"] + "-none"}
    with run_socket_server(environment, home):
        for options in ((), ("--no-fold",), ("--paths",)):
            search = ("query", "a giraffe", "-k99", *options, "--home", home)
            assert mmsearch(*search).out == mmsearch(*search, env=alone).out
        details = mmsearch("query", "a giraffe", "--no-fold", "-v", "--home", home).err
        assert re.search(r"open 0 ms", details)


def test_contact_sheets_show_the_number(mmsearch, home, tmp_path):
    for name in ("sheet.html", "sheet.png"):
        mmsearch("query", "a giraffe", "--sheet", tmp_path / name, "--home", home)
    assert (tmp_path / "sheet.html").read_text(encoding="utf-8").count("<b>+3</b>") == 1
    mmsearch("query", "a giraffe", "--no-fold", "--sheet", tmp_path / "each.html", "--home", home)
    assert "<b>+" not in (tmp_path / "each.html").read_text(encoding="utf-8")
