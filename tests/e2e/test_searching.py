"""Texts, the query language, filters and evaluation, by the installed command on photographs."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.e2e

METRICS_IN_ORDER = [
    *(f"{metric}@{k}" for metric in ("Success", "Recall") for k in (1, 5, 10)),
    *("MRR", "nDCG@10", "median rank"),
]
METRICS = set(METRICS_IN_ORDER)
CAPTIONS = {"windmill": "an old mill by the canal", "giraffe": "the tall one at the zoo"}


@pytest.fixture(scope="module")
def collection(photos, tmp_path_factory):
    """Forty photographs, some with a sidecar or a table row, and the word of each."""
    folder = tmp_path_factory.mktemp("collection")
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = [row for row in rows if row["word"].lower() in CAPTIONS]
    others = [row for row in rows if row["word"].lower() not in CAPTIONS][:30]
    words = {}
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "caption", "tags"])
        for row in wanted + others:
            name = Path(row["path"]).name
            shutil.copy(photos / row["path"], folder / name)
            words[name] = row["word"].lower()
            if words[name] == "windmill":
                (folder / name).with_suffix(".txt").write_text(CAPTIONS["windmill"])
            elif words[name] == "giraffe":
                table.writerow([name, CAPTIONS["giraffe"], "zoo; africa"])
    return folder, words


@pytest.fixture(scope="module")
def home(mmsearch, collection, tmp_path_factory):
    folder, _ = collection
    home = tmp_path_factory.mktemp("home")
    mmsearch("index", folder, "--home", home, "--captions", folder / "captions.csv")
    return home


def names(done):
    return [Path(line).name for line in done.out.splitlines()]


def test_query_finds_and_marks_sidecar_and_table_captions(mmsearch, home, collection):
    _, words = collection
    answer = json.loads(mmsearch("query", "the old canal", "--json", "--home", home).out)
    first = answer["hits"][0]
    assert answer["mode"] == "hybrid"
    assert words[Path(first["path"]).name] == "windmill"
    matched = first["matched"]
    assert {matched["text"][a:b] for a, b in matched["spans"]} >= {"old", "canal"}
    assert first["band"] in {"likely", "possible", "unlikely"}
    texts = mmsearch("query", "zoo", "--mode", "text", "--paths", "--home", home)
    assert {words[name] for name in names(texts)} == {"giraffe"}


def test_reindex_fusion_without_source_files_changes_fusion(mmsearch, home, collection):
    folder, _ = collection
    moved = folder.rename(folder.with_name("away"))
    try:
        for fusion in ("weighted", "concat", "image"):
            mmsearch("reindex", "--fusion", fusion, "--text-weight", "0.3", "--home", home)
            assert fusion in mmsearch("status", "--home", home).out
    finally:
        moved.rename(folder)
    refused = mmsearch("reindex", "--fusion", "attention", "--home", home, code=2)
    assert "--reencode" in refused.err


@pytest.mark.parametrize(
    "line",
    ["2:windmill + water -people", 'bird -"in water"', "windmill + giraffe"],
)
def test_query_language_line_returns_ten_hits(mmsearch, home, line):
    whole = mmsearch("query", line, "--paths", "--home", home)
    assert len(names(whole)) == 10


def test_query_negative_term_notations_give_same_answer(mmsearch, home):
    ways = (["windmill -water"], ["windmill", "-water"], ["windmill", "--not", "water"])
    answers = {mmsearch("query", *way, "--paths", "--home", home).out for way in ways}
    assert len(answers) == 1


def test_query_picture_combined_with_words_finds_both(mmsearch, home, collection):
    folder, words = collection
    mill = next(folder / name for name, word in words.items() if word == "windmill")
    by_path = names(mmsearch("query", mill, "--paths", "--home", home))
    by_option = names(mmsearch("query", "--image", mill, "--paths", "--home", home))
    assert by_path[0] == by_option[0] == mill.name
    mixed = names(mmsearch("query", f"{mill} + giraffe", "-k", "9", "--paths", "--home", home))
    assert {"windmill", "giraffe"} <= {words[name] for name in mixed}


def test_query_filters_return_exactly_matching_pictures(mmsearch, home, collection):
    folder, _ = collection
    sizes = {}
    for path in folder.glob("*.jpg"):
        with Image.open(path) as image:
            sizes[path.name] = image.size

    def found(*options):
        return set(names(mmsearch("query", "a thing", "-k99", "--paths", "--home", home, *options)))

    wide = {name for name, (width, height) in sizes.items() if width > height}
    assert found("--orientation", "landscape") == wide
    assert found("--where", "aspect > 1 and width >= 512") == {
        n for n in wide if sizes[n][0] >= 512
    }
    assert found("--min-height", "400") == {n for n, (_, height) in sizes.items() if height >= 400}
    some = min(sizes)
    assert found("--path", f"{some[:4]}*") == {n for n in sizes if n.startswith(some[:4])}
    assert found("--after", "2100") == set()
    giraffes = found("--tag", "africa")
    assert giraffes == found("--where", "'Zoo' in tags")
    assert giraffes


def test_facets_count_pictures_and_name_the_options_that_narrow(mmsearch, home, collection):
    _, words = collection
    done = mmsearch("facets", "--by", "tag,format", "--no-fold", "--home", home)
    rows = [line.split("\t") for line in done.out.splitlines()]
    giraffes = sum(word == "giraffe" for word in words.values())
    assert ["tag", "zoo", str(giraffes), "--tag zoo"] in rows
    assert ["tag", "", str(len(words) - giraffes), ""] in rows
    assert ["format", "JPEG", str(len(words)), "--format JPEG"] in rows
    given_twice = mmsearch("facets", "--by", "tag", "--by=format", "--no-fold", "--home", home)
    assert given_twice.out == done.out
    narrowing = ("--tag", "zoo", "--no-fold")
    narrowed = mmsearch("query", "a picture", *narrowing, "-k", 100, "--paths", "--home", home)
    assert len(names(narrowed)) == giraffes
    found = json.loads(
        mmsearch("facets", "tall one at zoo", "--json", "--no-fold", "--home", home).out
    )
    assert found["match"] in ("likely", "possible")
    assert 0 < found["counted"] < found["of"] == len(words)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--by", "decade"], "Pictures are not counted by 'decade'. Known: year, month"),
        (["--by", ""], "Known: year, month"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--after", "soon"], "'soon' is not a date"),
    ],
)
def test_facets_invalid_arguments_exit_2_with_reason(mmsearch, home, options, complaint):
    assert complaint in mmsearch("facets", *options, "--home", home, code=2).err


def test_query_without_good_match_prints_closest_results(mmsearch, home):
    done = mmsearch("query", "a quantum physicist in a courtroom", "-k2", "--home", home)
    guesses = "does not know 'a quantum physicist in a courtroom' well."
    assert f"Best guesses: the built-in model {guesses}" in done.err
    assert len(done.out.splitlines()) == 2
    sure = mmsearch("query", "a red car", "--min-confidence", "0.9", "--paths", "--home", home)
    assert sure.out == ""


def test_query_with_right_and_wrong_hits_ranks_the_others_again(mmsearch, home, tmp_path):
    def ask(*arguments):
        return json.loads(mmsearch("query", *arguments, "-k", "100", "--json", "--home", home).out)

    first = ask("a windmill")["hits"]
    right, wrong = first[0], first[1]
    answer = ask("a windmill", "--like", right["id"], f"--unlike={wrong['id']}")
    ids = [hit["id"] for hit in answer["hits"]]
    assert wrong["id"] not in ids
    assert len(ids) == len(first) - 1
    assert answer["query"] == f"picture {right['id']} + a windmill - picture {wrong['id']}"
    alone = ask("--like", right["id"], "--unlike", wrong["id"])
    assert alone["hits"][0]["id"] == right["id"]
    file = tmp_path / "queries.txt"
    file.write_text("a windmill\n", encoding="utf-8")
    clicks = ("--like", right["id"], "--unlike", wrong["id"])
    batch = mmsearch("query", "--batch", file, *clicks, "-k", "100", "--home", home)
    assert [hit["id"] for hit in json.loads(batch.out)["hits"]] == ids
    refused = mmsearch("query", "--unlike", wrong["id"], "--home", home, code=2)
    assert "or give one that is right: --like ID" in refused.err
    both = mmsearch("query", "x", "--like", "1", "--unlike", "1", "--home", home, code=2)
    assert "Picture 1 is both liked and disliked. Leave one of them out." in both.err
    unknown = mmsearch("query", "x", "--like", "99999", "--home", home, code=2)
    assert "no picture 99999. Use the id of a hit, which --json shows." in unknown.err


def test_query_batch_file_answers_each_line_and_reports_failures(mmsearch, home, tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("windmill\n\n-people\ngiraffe + grass\n", encoding="utf-8")
    done = mmsearch("query", "--batch", file, "-k2", "--home", home, code=3)
    first, wrong, last = (json.loads(line) for line in done.out.splitlines())
    assert len(first["hits"]) == len(last["hits"]) == 2
    assert "error" in wrong
    assert "1 of 3" in done.err
    alone = json.loads(mmsearch("query", "windmill", "-k2", "--json", "--home", home).out)
    assert [hit["path"] for hit in alone["hits"]] == [hit["path"] for hit in first["hits"]]


def test_date_filter_says_how_many_pictures_have_no_known_date(mmsearch, home, collection):
    _, words = collection
    search = ("query", "x", "-k", "100", "--home", home, "--after", "1990")
    answer = json.loads(mmsearch(*search, "--json").out)
    assert (answer["passed"], answer["undated"]) == (0, len(words))
    narrow = json.loads(mmsearch(*search, "--json", "--tag", "zoo").out)
    assert narrow["undated"] == sum(word == "giraffe" for word in words.values())
    done = mmsearch(*search)
    assert f"{len(words)} pictures are left out because the date is unknown; --file" in done.err
    with_files = mmsearch(*search, "--file-dates", "--json")
    answer = json.loads(with_files.out)
    assert (answer["passed"], answer["undated"]) == (len(words), 0)
    assert "left out" not in with_files.err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-people"], "only says"),
        (["x", "--where", "width = 3"], "=="),
        (["x", "--where", "__import__('os')"], "condition"),
        (["x", "--where", "wdth > 3"], "wdth"),
        (["x", "--after", "yesterday"], "yesterday"),
        (["x", "--near", "100,0,1"], "100,0,1"),
        (["x", "--orientation", "round"], "round"),
        (["x", "--mode", "magic"], "magic"),
        (["x", "--blend", "magic"], "magic"),
        (["x", "--prompt", "no place"], "{}"),
        (["./none.jpg"], "none.jpg"),
        (["--batch", "none.txt"], "none.txt"),
    ],
)
def test_query_invalid_arguments_exit_2_with_reason(mmsearch, home, options, complaint):
    done = mmsearch("query", *options, "--home", home, code=2)
    assert complaint in done.err


def test_eval_captioned_set_prints_metrics_and_comparison(mmsearch, home, collection, tmp_path):
    _, words = collection
    path = tmp_path / "words.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows([("path", "word"), *words.items()])
    picture = tmp_path / "recall.png"
    options = ("--query-column", "word", "--compare", "mode=vector", "--plot", picture, "--json")
    answer = json.loads(mmsearch("eval", path, *options, "--home", home).out)
    assert len(answer["evaluations"]) == 2
    for rating in answer["evaluations"].values():
        assert rating["queries"] == len(set(words.values()))
        assert set(rating["metrics"]) == METRICS
    (compared,) = answer["comparisons"].values()
    assert set(compared) == METRICS - {"median rank"}
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert answer["ties"] == "index"
    done = mmsearch("eval", path, "--query-column", "word", "--home", home)
    assert [line.split("\t")[1] for line in done.out.splitlines()] == METRICS_IN_ORDER
    assert "up to 1,000 hits each; ties as the index orders them, by id." in done.err
    options = ("--query-column", "word", "--ties", "trec_eval")
    done = mmsearch("eval", path, *options, "--home", home)
    assert "ties as trec_eval orders them, by name, descending." in done.err
    done = mmsearch("eval", path, "--ties", "odd", "--home", home, code=2)
    assert done.err == "Error: Unknown order of ties 'odd'. Choose one of: index, trec_eval.\n"


def test_eval_set_with_unknown_pictures_exits_2(mmsearch, home, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("path,caption\nnowhere.jpg,a dog\n")
    done = mmsearch("eval", path, "--home", home, code=2)
    assert "None of the pictures" in done.err


def test_index_table_of_excel_names_pictures_as_windows_does(mmsearch, collection, tmp_path):
    folder, words = collection
    giraffe = next(name for name, word in words.items() if word == "giraffe")
    photos = tmp_path / "photos" / "2019"
    photos.mkdir(parents=True)
    shutil.copy(folder / giraffe, photos / "Äffchen.jpg")
    table = tmp_path / "captions.csv"
    table.write_bytes(
        'sep=;\r\nDateiname;Titel\r\nD:\\Fotos\\2019\\ÄFFCHEN.JPG;"Grüße; aus\r\nKöln"\r\n'
        "keins.jpg;Nichts\r\n".encode("cp1252")
    )
    home = tmp_path / "home"
    options = ("--captions", table, "--home", home)
    lines = mmsearch("index", photos.parent, *options).out.splitlines()
    assert lines[1:] == [
        "captions.csv (read as Windows-1252): 1 of 2 rows matched a picture; 1 did not, such as "
        "'keins.jpg'.",
        "1 matched by the end of their paths, such as "
        "'D:\\Fotos\\2019\\ÄFFCHEN.JPG = 2019/Äffchen.jpg'; check them.",
    ]
    found = mmsearch("query", "Grüße Köln", "--mode", "text", "--json", "--home", home)
    texts = [text["text"] for text in json.loads(found.out)["hits"][0]["texts"]]
    assert "Grüße; aus Köln" in texts
    table.write_text("path,caption\nkeins.jpg,Nichts\n")
    done = mmsearch("index", photos.parent, *options, "--json")
    report = json.loads(done.out)["report"]["captions"]
    assert (report["rows"], report["matched"]) == (1, 0)
    assert report["unmatched"] == {"rows": 1, "examples": ["keins.jpg"]}
    assert "0 of 1 rows matched a picture" in done.err
    assert "Write paths relative to the indexed folder" in done.err


def test_index_invalid_caption_table_exits_2(mmsearch, collection, tmp_path):
    folder, _ = collection
    table = tmp_path / "captions.csv"
    table.write_text("a,b\n1,2\n")
    done = mmsearch("index", folder, "--captions", table, "--home", tmp_path, code=2)
    assert "a path column and a caption column are required" in done.err
