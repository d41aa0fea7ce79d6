"""Sources and their choices through the command, with real photographs."""

import json
import re
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def folder(photos, tmp_path):
    """A folder of six photographs: photos, photos/drafts and photos/.private have two each."""
    files = sorted((photos / "photos").glob("*.jpg"))[:6]
    for file, name in zip(files, ["", "", "drafts", "drafts", ".private", ".private"], strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def command(mmsearch, tmp_path):
    def run(*words, **options):
        return mmsearch(*words, "--home", tmp_path / "home", **options)

    return run


def pictures(command):
    return json.loads(command("status", "--json").out)["pictures"]


def test_choices_hold_for_later_runs_and_exclusion_takes_pictures_out(command, folder):
    done = command("index", folder, "--model", "starter", "--hidden")
    assert done.out.startswith("6 added in ")
    done = command("index", folder, "--exclude", "drafts/")
    assert done.out.startswith("2 left out, 4 unchanged in ")
    assert "Index 'default' holds 4 pictures." in done.out
    assert command("index").out.startswith("photos: 4 unchanged in ")
    done = command("index", folder, "--reset", "exclude")
    assert done.out.startswith("2 copied, 4 unchanged in ")
    assert "exclude is now as by default; before, it was drafts/." in done.err


def test_index_without_sources_updates_all_and_reports_each(command, folder, tmp_path):
    command("index", folder / "drafts", folder / ".private", "--model", "starter")
    (tmp_path / "photos/.private").rename(tmp_path / "away")
    done = command("index", "--json", code=2)
    report = json.loads(done.out)
    assert report["pictures"] == 4
    drafts, private = report["sources"]
    assert (drafts["source"], drafts["report"]["unchanged"]) == ("drafts", 2)
    assert private["error"].startswith(f"There is no folder {folder}/.private.")
    assert done.err.startswith(".private: There is no folder")


def test_index_without_sources_or_index_names_the_next_step(command, folder):
    done = command("index", code=2)
    assert done.err == (
        "Error: There is no index 'default' yet, so there is nothing to update. Name a folder of"
        " pictures: mmsearch index FOLDER\n"
    )
    command("index", folder, "--model", "starter")
    done = command("index", "--exclude", "drafts/", code=2)
    assert done.err.startswith("Error: --exclude needs a SOURCE. Name the folder that it is for")


def test_run_that_would_leave_out_everything_changes_nothing(command, folder):
    command("index", folder, "--model", "starter")
    done = command("index", folder, "--exclude", "*", code=2)
    assert "leave out all 4 of its indexed pictures. Nothing was changed." in done.err
    assert pictures(command) == 4
    assert command("index", folder).out.startswith("4 unchanged")


def test_source_is_added_changed_refreshed_and_removed(command, folder):
    done = command("sources", "add", folder, "--name", "family", "--exclude", "drafts/")
    assert done.err == "Source 'family' is added. Index it: mmsearch sources refresh family\n"
    (source,) = json.loads(command("sources", "--json").out)
    assert (source["name"], source["pictures"], source["last_run"]) == ("family", 0, None)
    assert command("sources", "refresh", "family").out.startswith("family: 2 added in ")
    done = command("sources", "set", "family", "--reset", "exclude", "--hidden")
    assert "its choices: hidden=true.\nApply them: mmsearch sources refresh family" in done.err
    assert command("sources", "refresh").out.startswith("family: 4 added, 2 unchanged in ")
    (source,) = json.loads(command("sources", "list", "--json").out)
    assert (source["pictures"], source["outcome"], source["choices"]) == (
        6,
        "finished",
        {"hidden": True},
    )
    done = command("sources", "remove", "family", "--yes")
    assert done.err.endswith("index 'default' holds 0 pictures.\n")
    assert command("query", "a dog").out == ""


def test_removal_of_a_source_asks_first(command, folder):
    command("index", folder, "--model", "starter")
    done = command("sources", "remove", "photos", stdin="n\n", code=1)
    assert f"Forget {folder} and its 4 pictures in index 'default'?" in done.out
    assert done.err == "Nothing was changed.\n"
    assert pictures(command) == 4
    command("sources", "remove", "photos", stdin="y\n")
    assert pictures(command) == 0


def test_moved_folder_gets_its_new_place(command, folder, tmp_path):
    command("index", folder, "--model", "starter")
    folder.rename(tmp_path / "new")
    command("sources", "set", "photos", "--place", tmp_path / "new")
    assert command("index").out.startswith("photos: 4 unchanged in ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["add", "{folder}"],
            "is a source already: 'photos'. Change its choices: mmsearch sources",
        ),
        (
            ["add", "{folder}/drafts"],
            "which is a source. Choices of a folder in it: mmsearch index",
        ),
        (["add", "nothing.zip"], "nothing.zip cannot be read: no such file or directory."),
        (["add", "nothing"], "There is no folder"),
        (["add", "{folder}", "--choice", "a=b"], "--choice does not apply to a folder."),
        (["set", "nothing", "--hidden"], "There is no source named 'nothing'. Known: photos."),
        (
            ["set", "photos", "--reset", "x"],
            "There is no choice 'x' to reset. Use one of: include,",
        ),
        (["set", "photos", "--place", "nothing"], "There is no folder"),
        (["set", "photos", "--captions", "nothing.csv"], "nothing.csv cannot be read"),
        (["set", "photos", "--choice", "a=b"], "'photos' is a folder, which has no --choice."),
        (["refresh", "nothing"], "There is no source named 'nothing'. Known: photos."),
        (["remove", "nothing"], "There is no source named 'nothing'. Known: photos."),
    ],
)
def test_mistakes_with_sources_are_one_sentence_each(command, folder, words, message):
    command("index", folder, "--model", "starter")
    done = command("sources", *(word.format(folder=folder) for word in words), code=2)
    assert message in done.err
    assert done.err.startswith("Error: ")
    assert len(json.loads(command("sources", "--json").out)) == 1


@pytest.mark.parametrize("name", ["nothing.tar", "nothing.csv"])
def test_missing_archive_or_table_is_called_a_file(command, name):
    done = command("index", name, "--model", "starter", code=2)
    assert f"{name} cannot be read: no such file" in done.err


def test_renamed_folder_that_is_indexed_again_leaves_no_dead_path(command, folder, tmp_path):
    command("index", folder, "--model", "starter", "--exclude", "drafts/")
    folder.rename(tmp_path / "pictures")
    done = command("index", tmp_path / "pictures")
    assert done.out.startswith("2 unchanged in ")
    assert f"Folder {folder} is now {tmp_path}/pictures; the index keeps its choices." in done.err
    (source,) = json.loads(command("sources", "--json").out)
    assert (source["pictures"], source["choices"]) == (2, {"exclude": ["drafts/"]})
    found = command("query", "a photo").out.splitlines()
    assert len(found) == 2
    assert all(f"{tmp_path}/pictures/" in line for line in found)


def test_folder_of_img2dataset_has_the_captions_of_its_tables(command, folder, tmp_path):
    shards = tmp_path / "laion"
    shards.mkdir()
    files = sorted(folder.rglob("*.jpg"))[:4]
    for number, members in enumerate((files[:2], files[2:])):
        keys = [f"{number:05}{place:04}" for place in range(2)]
        with tarfile.open(shards / f"{number:05}.tar", "w") as tar:
            for key, file in zip(keys, members, strict=True):
                tar.add(file, f"{key}.jpg")
        table = {
            "key": [*keys, f"{number:05}0002"],
            "url": ["http://a/b", "http://a/c", "http://a/d"],
            "caption": [f"zeppelin {key}" for key in keys] + ["never fetched"],
            "status": ["success", "success", "failed_to_download"],
        }
        pq.write_table(pa.table(table), shards / f"{number:05}.parquet")
    assert command("index", shards, "--model", "starter").out.startswith("4 added in ")
    (source,) = json.loads(command("sources", "--json").out)
    assert (source["kind"], source["pictures"]) == ("archive", 4)
    hits = json.loads(command("query", "zeppelin 000010001", "--mode", "text", "--json").out)[
        "hits"
    ]
    assert hits[0]["key"] == "00001.tar/000010001.jpg"
    assert hits[0]["metadata"]["url"] == "http://a/c"
    assert command("index").out.startswith("laion: 4 unchanged in ")


def test_texts_that_a_source_wants_are_made_by_each_run(command, folder, tmp_path):
    vocabulary = tmp_path / "tags.txt"
    vocabulary.write_text("photograph\nanimal\n")
    done = command("index", folder, "--model", "starter", "--describe", "tags")
    assert re.search(r"^tags: \d+ texts of 4 pictures in ", done.out, re.MULTILINE)
    assert "describe=tags" in command("sources").out
    assert command("index").out.startswith("photos: 4 unchanged in ")
    status = json.loads(command("status", "--json").out)
    (work,) = status["derived"]
    assert (work["enricher"], work["done"], work["left"]) == ("tags", 4, 0)
    assert "tags: 4 done (tags-" in command("status").out
    done = command("sources", "set", "photos", "--describe", "tags", "--vocabulary", vocabulary)
    assert f"describe=tags (vocabulary {vocabulary})." in done.err
    shown = command("status").out
    assert "tags: 0 done, 4 left, some 1 s of one core" in shown
    assert "tags: 4 done with earlier options or models" in shown
    (report,) = json.loads(command("describe", "--json").out)
    assert report["described"] == 4
    removed = command("describe", "--remove", "tags")
    assert removed.out == "The texts of 4 pictures are removed.\n"
    assert removed.err.startswith("The source 'photos' wants tags, so the next run")
    vocabulary.unlink()
    done = command("index", "--json")
    assert f"tags: The vocabulary {vocabulary} cannot be read" in done.err
    report = json.loads(done.out)["sources"][0]["report"]
    assert (report["unchanged"], report["described"][0]["left"]) == (4, 4)
    assert command("index", folder, "--describe", "none").err.startswith(
        f"{folder}: describe is now as by default; before, it was tags (vocabulary"
    )
    assert command("index").err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--describe", "nonsense"], "There is no enricher named 'nonsense'."),
        (["--vocabulary", "tags.txt"], "The vocabulary is for tags. Add --describe tags."),
        (
            ["--caption-model", "m"],
            "The captioning model is for captions. Add --describe captions.",
        ),
        (["--describe", "captions"], "caption"),
        (["--describe", "tags", "--vocabulary", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_wrong_texts_of_models_are_refused_and_make_no_index(command, folder, words, message):
    assert message in command("index", folder, *words, code=2).err
    assert command("list", code=0).out == ""
