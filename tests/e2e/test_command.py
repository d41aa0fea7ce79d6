"""The command, as a user runs it: some tests start the installed one, the others a fork."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.e2e


def words(photos):
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"].rsplit("/", 1)[1]: row["word"].lower() for row in csv.DictReader(file)}


def test_query_by_description_returns_ranked_matching_photographs(
    installed_mmsearch, photo_index, photos
):
    word_of = words(photos)
    windmills = [name for name, word in word_of.items() if word == "windmill"]
    done = installed_mmsearch("query", "a windmill", "--home", photo_index, "-k", len(windmills))
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == [str(rank + 1) for rank in range(len(windmills))]
    assert word_of[Path(lines[0][2]).name] == "windmill"
    assert done.err == "Best guesses: the built-in model does not know 'a windmill' well.\n"


def test_index_unchanged_folder_second_run_encodes_nothing(installed_mmsearch, photo_index, photos):
    done = installed_mmsearch("index", photos, "--home", photo_index, "--json")
    report = json.loads(done.out)["report"]
    assert (report["unchanged"], report["encoded"], report["failed"]) == (212, 0, [])


def test_query_json_output_has_all_answer_and_hit_fields(mmsearch, photo_index):
    answer = json.loads(mmsearch("query", "a dog", "-k3", "--json", "--home", photo_index).out)
    assert answer["query"] == "a dog"
    assert answer["encoder"] == "starter"
    assert answer["pictures"] == 212
    assert answer["generation"] > 0
    assert {"encode", "search"} <= set(answer["timings_s"])
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    for hit in answer["hits"]:
        path = Path(hit["path"])
        assert path.is_absolute()
        with Image.open(path) as image:
            assert (hit["width"], hit["height"]) == image.size
        assert {"id", "score", "taken_at", "texts"} <= set(hit)


def test_query_smaller_k_returns_prefix_of_larger_k(mmsearch, photo_index):
    short, long = (
        mmsearch("query", "an animal", "-k", k, "--paths", "--home", photo_index).out.splitlines()
        for k in (5, 15)
    )
    assert len(long) == 15
    assert short == long[:5]


def test_query_paths_and_nul_output_list_existing_files(mmsearch, photo_index):
    paths = mmsearch("query", "a boat", "-k4", "--paths", "--home", photo_index).out
    assert all(Path(line).is_file() for line in paths.splitlines())
    nul = mmsearch("query", "a boat", "-k4", "-0", "--home", photo_index).out
    assert nul.split("\0")[:-1] == paths.splitlines()


def test_query_min_score_above_all_hits_prints_no_results(mmsearch, photo_index):
    done = mmsearch("query", "a dog", "--min-score", "0.999", "--home", photo_index)
    assert done.out == ""
    assert "No results above" in done.err


def test_query_sheet_png_and_html_show_hits_and_pdf_is_refused(mmsearch, photo_index, tmp_path):
    for name in ("sheet.png", "sheet.html"):
        mmsearch("query", "a horse", "-k7", "--sheet", tmp_path / name, "--home", photo_index)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 5 * 256
        assert len(sheet.convert("RGB").getcolors(2**24)) > 1000
    page = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    assert page.count("<li>") == page.count("data:image/jpeg;base64,") == 7
    done = mmsearch("query", "x", "--sheet", tmp_path / "a.pdf", "--home", photo_index, code=2)
    assert ".html, .png" in done.err


def test_similar_indexed_picture_returns_itself_first(mmsearch, photo_index, photos):
    picture = sorted((photos / "photos").iterdir())[17]
    hits = json.loads(mmsearch("similar", picture, "--json", "--home", photo_index).out)["hits"]
    assert hits[0]["path"] == str(picture)
    assert hits[0]["score"] > 0.999
    assert hits[1]["score"] < 0.999


def test_query_verbose_prints_model_and_device(mmsearch, photo_index):
    done = mmsearch("query", "a dog", "-v", "--home", photo_index)
    assert "starter" in done.err
    assert "cpu" in done.err


def test_status_list_and_roots_print_index_facts(installed_mmsearch, photo_index, photos):
    status = json.loads(installed_mmsearch("status", "--json", "--home", photo_index).out)
    assert (status["pictures"], status["files"], status["failures"]) == (212, 212, [])
    assert status["identity"]["encoder"]["name"] == "starter"
    assert status["last_run"]["outcome"] == "finished"
    assert "212" in installed_mmsearch("status", "--home", photo_index).out
    assert installed_mmsearch("list", "--home", photo_index).out.split("\t")[:3] == [
        "default",
        "212",
        "starter",
    ]
    assert installed_mmsearch("roots", "--home", photo_index).out.split() == ["photos", str(photos)]


def test_search_in_python_imports_no_training_library(photo_index, environment):
    import subprocess

    program = (
        "import sys, mmsearch\n"
        f"index = mmsearch.open_index(home={str(photo_index)!r})\n"
        "assert index.search('a red car', k=3)\n"
        "heavy = {'torch', 'open_clip', 'timm', 'transformers', 'torchvision', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_roots_set_after_folder_move_encodes_nothing(mmsearch, photos, tmp_path):
    home, old, new = tmp_path / "home", tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for picture in sorted((photos / "photos").iterdir())[:6]:
        shutil.copy(picture, old)
    mmsearch("index", old, "--home", home, "--model", "starter")
    old.rename(new)
    mmsearch("roots", "set", "old", new, "--home", home)
    report = json.loads(mmsearch("index", new, "--home", home, "--json").out)["report"]
    assert (report["unchanged"], report["encoded"], report["gone"]) == (6, 0, 0)
    paths = mmsearch("query", "anything", "--paths", "--home", home).out.splitlines()
    assert {str(Path(path).parent) for path in paths} == {str(new)}


def test_index_unreadable_files_are_listed_and_others_indexed(mmsearch, photos, tmp_path):
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    good = min((photos / "photos").iterdir())
    shutil.copy(good, folder / "good.jpg")
    content = good.read_bytes()
    (folder / "broken.jpg").write_bytes(content[:300])
    (folder / "cut.jpg").write_bytes(content[: len(content) * 3 // 4])
    (folder / "text\nfile.png").write_text("no picture")
    (folder / "empty.webp").touch()
    (folder / "notes.txt").write_text("not claimed")
    done = mmsearch("index", folder, "--home", home, "--model", "starter", code=3)
    assert "2 added, 3 unreadable" in done.out
    assert "broken.jpg" in done.err
    assert "text\\nfile.png" in done.err
    assert "notes.txt" not in done.err
    listed = mmsearch("status", "--failures", "--home", home).out
    assert len(listed.splitlines()) == 4
    assert f"{folder}/cut.jpg\tdamaged: the last " in listed
    status = mmsearch("status", "--home", home).out
    assert "damaged       1 indexed in part" in status
    assert f"{folder}/cut.jpg: damaged: the last " in status
    again = mmsearch("index", folder, "--home", home)
    assert "3 unreadable as before" in again.out
    shutil.copy(good, folder / "broken.jpg")
    assert "1 changed" in mmsearch("index", folder, "--home", home).out


def test_index_says_what_it_did_not_read_and_status_lists_it(mmsearch, photos, tmp_path):
    folder, home = tmp_path / "folder", tmp_path / "home"
    folder.mkdir()
    first, second = sorted((photos / "photos").iterdir())[:2]
    shutil.copy(first, folder / "IMG_1.JPG")
    shutil.copy(second, folder / "download")
    (folder / "IMG_1.MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
    (folder / "song.mid").write_bytes(b"MThd")
    (folder / "link.jpg").symlink_to("IMG_1.JPG")
    done = mmsearch("index", folder, "--home", home, "--model", "starter")
    summary, skipped = done.out.splitlines()
    assert summary.startswith("2 added")
    assert skipped == (
        "2 not read: 1 link not followed (add --follow-symlinks), 1 MID (audio); "
        "1 belongs to another file."
    )
    listed = mmsearch("status", "--skipped", "--home", home).out.splitlines()
    assert listed == [
        f"{folder}/IMG_1.MOV\tvideo of IMG_1.JPG",
        f"{folder}/link.jpg\tlink that is not followed (add --follow-symlinks)",
        f"{folder}/song.mid\taudio",
    ]
    files = json.loads(mmsearch("status", "--skipped", "--json", "--home", home).out)
    assert [file["reason"] for file in files] == [line.split("\t")[1] for line in listed]
    assert "not read      2: 1 link" in mmsearch("status", "--home", home).out
    report = json.loads(mmsearch("index", folder, "--home", home, "--json").out)["report"]
    assert {"kind": "MID", "reason": "audio", "files": 1} in report["skipped"]
    verified = mmsearch("index", folder, "--home", home, "--verify").out
    assert "2 unchanged" in verified
    assert "All files were read: 0 had changed unnoticed" in verified


def test_remove_deletes_index_only_if_confirmed(mmsearch, photos, tmp_path):
    home = tmp_path / "home"
    (tmp_path / "few").mkdir()
    shutil.copy(min((photos / "photos").iterdir()), tmp_path / "few")
    mmsearch("index", tmp_path / "few", "--home", home, "--index", "x", "--model", "starter")
    mmsearch("remove", "x", "--home", home, stdin="n\n", code=1)
    mmsearch("status", "--index", "x", "--home", home)
    mmsearch("remove", "x", "--home", home, "--yes")
    mmsearch("status", "--index", "x", "--home", home, code=2)
    assert not (home / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["query", "a dog", "--index", "nowhere"], 2, "no index named 'nowhere'"),
        (["query", "a dog", "--index", "../x"], 2, "cannot be the name of an index"),
        (["query", "  "], 2, "The query is empty"),
        (["query", "a dog", "-k", "0"], 2, "-k must be at least 1, got"),
        (["query", "a dog", "--device", "abacus"], 2, "abacus"),
        (["index", "/nowhere/at/all"], 2, "There is no folder /nowhere/at/all"),
        (["index", __file__], 2, "is not a source that is known by its name"),
        (["similar", "/nowhere.jpg"], 2, "cannot be used as a query"),
        (["similar", "5"], 2, "no file 5. If it is the id of a hit, use: mmsearch query --like 5"),
        (["query", "--image", "5"], 2, "no file 5. If it is the id of a hit"),
        (["similar", __file__], 2, "cannot be used as a query"),
        (["models", "info", "open_clip:NoSuch/thing"], 2, "NoSuch"),
        (["roots", "set", "nothing", "."], 2, "nothing"),
        (["status", "--index", "nowhere"], 2, "no index named"),
        (["remove", "nowhere", "--yes"], 2, "no index named"),
    ],
)
def test_command_invalid_arguments_exit_2_with_short_message(
    mmsearch, photo_index, tmp_path, arguments, code, sentence
):
    where = [] if arguments[0] == "models" else ["--home", photo_index]
    if arguments[0] == "index":
        where = ["--home", tmp_path, "--model", "starter"]
    done = mmsearch(*arguments, *where, code=code)
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) <= 8


def test_index_and_query_without_pictures_print_no_pictures_message(mmsearch, tmp_path):
    (tmp_path / "empty").mkdir()
    home = tmp_path / "home"
    done = mmsearch("index", tmp_path / "empty", "--home", home, "--model", "starter")
    assert "No pictures were found" in done.out
    done = mmsearch("query", "a dog", "--home", home)
    assert (done.out, "holds no pictures yet" in done.err) == ("", True)
    answer = json.loads(mmsearch("query", "a dog", "--json", "--home", home).out)
    assert answer["hits"] == []


def test_query_over_token_limit_is_truncated_with_warning(mmsearch, photo_index):
    done = mmsearch("query", "a very " * 400 + "red car", "--home", photo_index)
    assert "tokens were left out" in done.err
    assert len(done.out.splitlines()) == 10


def test_help_of_verbs_shows_example_and_version_is_printed(mmsearch, installed_mmsearch):
    for verb in ("index", "query", "similar", "status", "list", "remove"):
        assert "Example: mmsearch" in mmsearch(verb, "--help").out
    for verb in ("list", "info", "use", "compile"):
        assert "Example: mmsearch" in mmsearch("models", verb, "--help").out
    assert installed_mmsearch("--version").out.startswith("mmsearch 0.")


def test_python_m_mmsearch_prints_version(environment):
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "mmsearch", "--version"],
        env=environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"mmsearch 0.")


def test_query_unknown_precision_setting_exits_2(installed_mmsearch, photo_index):
    done = installed_mmsearch(
        "query", "a dog", "--home", photo_index, env={"MMSEARCH_PRECISION": "float8"}, code=2
    )
    assert done.err.startswith("Error: Unknown precision 'float8'.")
