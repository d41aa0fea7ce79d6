"""Sources and their choices through the command, with real photographs."""

import json
import shutil

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
