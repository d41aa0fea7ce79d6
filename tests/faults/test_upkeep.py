"""Compaction, backup and restoration, also when killed or beside a writer."""

import json
import shutil
import subprocess

import numpy as np
import pytest

import mmsearch as library
from tests.faults.conftest import content_of, index_in_process, same, verify


@pytest.fixture(scope="session")
def reduced(few_photos, undisturbed, mmsearch, tmp_path_factory):
    """Folder with photographs and the home of their index, from which some have been removed."""
    made = tmp_path_factory.mktemp("reduced")
    home, folder = made / "home", made / "photos"
    shutil.copytree(few_photos, folder)
    mmsearch("index", folder, "--home", home, "--model", "starter", code=3)
    for path in sorted(folder.glob("*.jpg"))[:8]:
        path.unlink()
    index_in_process(folder, home)
    return made


@pytest.fixture
def indexed(reduced, tmp_path):
    """Home of a copy of that index, of the photographs in the folder of the test."""
    shutil.copytree(reduced, tmp_path, dirs_exist_ok=True)
    with library.open_index(home=tmp_path / "home") as index:
        index.set_root("photos", tmp_path / "photos")
    return tmp_path / "home"


def test_compact_drops_only_removed_pictures(indexed, mmsearch):
    before = content_of(indexed)
    report = json.loads(mmsearch("compact", "--home", indexed, "--json").out)
    assert report["dropped"] > 0
    assert report["segments_after"] == 1
    assert report["bytes_after"] < report["bytes_before"]
    assert same(content_of(indexed), before)
    mmsearch("check", "--home", indexed)
    again = json.loads(mmsearch("compact", "--home", indexed, "--json").out)
    assert (again["dropped"], again["segments_before"]) == (0, 1)


@pytest.mark.parametrize("point", ["file_renamed", "transaction_ready", "transaction_committed"])
@pytest.mark.parametrize("visit", [1, 2, 3])
def test_compact_killed_keeps_content_and_next_run_completes(
    point, visit, indexed, undisturbed, environment, forked_command, mmsearch
):
    before = content_of(indexed)
    subprocess.run(
        [forked_command, "compact", "--home", indexed],
        env=environment | {"MMSEARCH_FAULT": f"{point}:{visit}"},
        capture_output=True,
        check=False,
    )
    verify(indexed, undisturbed)
    assert same(content_of(indexed), before)
    mmsearch("compact", "--home", indexed)
    mmsearch("check", "--home", indexed)
    assert same(content_of(indexed), before)


def test_backup_is_searchable_index_and_restores_content(indexed, mmsearch, tmp_path):
    before = content_of(indexed)
    kept = tmp_path / "kept" / "monday"
    mmsearch("backup", kept, "--home", indexed)
    mmsearch("check", "--home", kept.parent, "--index", "monday")
    there = mmsearch("query", "a photograph", "--home", kept.parent, "--index", "monday").out
    assert there == mmsearch("query", "a photograph", "--home", indexed).out
    assert "exists already" in mmsearch("backup", kept, "--home", indexed, code=2).err
    assert "--replace" in mmsearch("restore", kept, "--home", indexed, code=2).err
    mmsearch("remove", "default", "--yes", "--home", indexed)
    mmsearch("restore", kept, "--home", indexed)
    assert same(content_of(indexed), before)
    mmsearch("restore", kept, "--home", indexed, "--replace")
    mmsearch("check", "--home", indexed)
    assert [path.name for path in indexed.iterdir()] == ["default"]


def test_open_index_answers_from_restored_backup(indexed, mmsearch, tmp_path):
    def found(index):
        return [(hit.path, hit.score) for hit in index.search("a photograph", k=300, fold=False)]

    kept, folder = tmp_path / "kept", tmp_path / "photos"
    mmsearch("backup", kept, "--home", indexed)
    with library.open_index(home=indexed) as index:
        before = found(index)
        for victim in sorted(folder.glob("*.jpg"))[::2]:
            victim.unlink()
        mmsearch("index", folder, "--home", indexed)
        fewer = found(index)
        assert 0 < len(fewer) < len(before)
        mmsearch("restore", kept, "--home", indexed, "--replace")
        assert found(index) == before
        mmsearch("index", folder, "--home", indexed)
        assert found(index) == fewer


def test_restore_of_damaged_backup_keeps_current_index(indexed, mmsearch, tmp_path):
    kept = tmp_path / "kept"
    mmsearch("backup", kept, "--home", indexed)
    segment = next(iter((kept / "segments").iterdir()))
    segment.write_bytes(segment.read_bytes()[:-1])
    before = content_of(indexed)
    mmsearch("restore", kept, "--home", indexed, "--replace", code=1)
    assert same(content_of(indexed), before)
    mmsearch("check", "--home", indexed)


def test_backup_during_indexing_is_sound(
    few_photos, photos, environment, forked_command, mmsearch, tmp_path
):
    home, folder = tmp_path / "home", tmp_path / "photos"
    folder.mkdir()
    for path in sorted(photos.rglob("*.jpg"))[:100]:
        shutil.copy2(path, folder)
    mmsearch("index", few_photos, "--home", home, "--model", "starter", code=3)
    writer = subprocess.Popen(
        [forked_command, "index", folder, "--home", home],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    taken = 0
    while writer.poll() is None:
        kept = tmp_path / f"kept-{taken}"
        with library.open_index(home=home) as index:
            report = index.backup(kept)
        with library.open_index(kept.name, home=tmp_path) as copy:
            assert copy.check() == library.CheckReport.from_findings([])
            assert len(copy.search("a photograph", k=300, fold=False)) == report.pictures
        taken += 1
    assert taken > 1


def test_check_sources_reports_changed_and_missing_files(indexed, mmsearch, tmp_path):
    folder = tmp_path / "photos"
    victim = sorted(folder.glob("*.jpg"))[10]
    victim.write_bytes(victim.read_bytes() + b"more")
    gone = sorted(folder.glob("*.jpg"))[12]
    gone.unlink()
    done = mmsearch("check", "--sources", "--home", indexed, code=3)
    assert f"{victim} has changed" in done.out
    assert f"{gone} cannot be read" in done.out


def test_compact_without_remaining_pictures_leaves_sound_empty_index(indexed, mmsearch, tmp_path):
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    mmsearch("index", tmp_path / "photos", "--home", indexed, "--allow-empty")
    mmsearch("compact", "--home", indexed)
    mmsearch("check", "--home", indexed)
    assert mmsearch("query", "a photograph", "--home", indexed).out == ""


@pytest.fixture(scope="module")
def adapter(undisturbed, tmp_path_factory):
    """Name of an adapted model of starter, whose vectors are derived from stored ones."""
    path = tmp_path_factory.mktemp("adapter") / "mine.safetensors"
    dim = library.open_model("starter").spec.dim
    maps = np.random.default_rng(0).normal(size=(2, 32, dim))
    name = library.save_adapter(path, "starter", *maps)
    # The copy in the cache is written before, so that only files of the index are counted.
    library.open_model(name)
    return name


@pytest.fixture(params=["tiny_clip", "adapter"])
def other_model(request):
    """Name of a model of 32 dimensions."""
    return request.getfixturevalue(request.param)


def test_reindex_killed_keeps_old_vectors_and_resumes(
    indexed, environment, forked_command, mmsearch, other_model
):
    before = content_of(indexed)
    # Visits of that step: the seal, the staged segment, the vector index.
    done = subprocess.run(
        [forked_command, "reindex", "--model", other_model, "--home", indexed],
        env=environment | {"MMSEARCH_FAULT": "file_renamed:3"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9
    assert same(content_of(indexed), before)
    assert "is not finished" in mmsearch("compact", "--home", indexed, code=1).err
    mmsearch("reindex", "--model", other_model, "--home", indexed)
    mmsearch("check", "--home", indexed)
    after = content_of(indexed)
    pictures = {path for path, (_, error, _) in before.items() if error is None}
    assert {path for path, (_, error, _) in after.items() if error is None} == pictures
    assert len(next(after[path][2] for path in pictures)) == 32
    mmsearch("compact", "--home", indexed)


def test_repair_of_lost_catalog_after_killed_reindex_restores_content(
    indexed, environment, forked_command, mmsearch, other_model
):
    before = content_of(indexed)
    subprocess.run(
        [forked_command, "reindex", "--model", other_model, "--home", indexed],
        env=environment | {"MMSEARCH_FAULT": "file_renamed:3"},
        capture_output=True,
        check=False,
    )
    (indexed / "default" / "catalog.sqlite").write_bytes(b"\0" * 5000)
    said = mmsearch("repair", "--home", indexed, code=3).out
    assert "0 pictures had to be encoded" in said
    mmsearch("check", "--home", indexed)
    assert same(content_of(indexed), before)


def test_repair_killed_several_times_restores_pictures(
    indexed, environment, forked_command, mmsearch
):
    before = content_of(indexed)
    catalog = indexed / "default" / "catalog.sqlite"
    catalog.write_bytes(b"\0" * 5000)
    for visit in (2, 4, 6):
        subprocess.run(
            [forked_command, "repair", "--home", indexed],
            env=environment | {"MMSEARCH_FAULT": f"transaction_committed:{visit}"},
            capture_output=True,
            check=False,
        )
    mmsearch("repair", "--home", indexed, code=None)
    mmsearch("check", "--home", indexed)
    after = content_of(indexed)
    pictures = {path: row for path, row in before.items() if row[1] is None}
    assert same({path: row for path, row in after.items() if row[1] is None}, pictures)
