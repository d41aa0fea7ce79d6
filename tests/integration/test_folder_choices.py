"""The choices of indexed folders hold for all later runs, and what they leave out is removed."""

import os
import shutil
import threading

import pytest

import mmsearch
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.maintenance.renamed import is_deleted
from tests.toy_index import make_toys, replaced


@pytest.fixture
def photos(tmp_path):
    for path in (
        "a.toy",
        "b.toy",
        "drafts/c.toy",
        "drafts/old/d.toy",
        ".hidden/e.toy",
        "sub/f.toy",
    ):
        write(tmp_path / "photos" / path)
    return tmp_path / "photos"


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"toy {path.name}")


@pytest.fixture
def messages():
    return []


@pytest.fixture
def index(tmp_path, messages):
    with (
        replaced(make_toys()),
        mmsearch.open_index(home=tmp_path / "home", on_message=messages.append) as index,
    ):
        yield index


def names(index):
    return sorted(path.name for item in index for path in (item.path, *item.copies))


def choices(index):
    (source,) = index.sources()
    return source.choices


def texts(index, name):
    (item,) = [item for item in index if item.path.name == name]
    return sorted(text.text for text in item.texts if text.source == "table")


# --- choices hold ---


def test_choices_hold_for_later_runs(index, photos):
    index.add_folder(photos, exclude=["drafts/"], hidden=True)
    expected = names(index)
    assert expected == ["a.toy", "b.toy", "e.toy", "f.toy"]
    write(photos / "drafts/new.toy")
    write(photos / ".hidden/new.toy")
    assert index.add_folder(photos).added == 1
    assert names(index) == sorted([*expected, "new.toy"])
    assert choices(index) == {"exclude": ["drafts/"], "hidden": True}


def test_include_and_follow_symlinks_hold(index, photos, tmp_path):
    write(tmp_path / "elsewhere/linked.toy")
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    index.add_folder(photos, include=["link*", "a*"], follow_symlinks=True)
    assert names(index) == ["a.toy", "linked.toy"]
    report = index.add_folder(photos)
    assert (report.unchanged, report.left_out, report.gone) == (2, 0, 0)


def test_given_choice_replaces_the_kept_one_and_says_so(index, photos, messages):
    index.add_folder(photos, exclude=["drafts/"])
    messages.clear()
    report = index.add_folder(photos, exclude=["sub/"])
    assert names(index) == ["a.toy", "b.toy", "c.toy", "d.toy"]
    assert (report.added, report.left_out) == (2, 1)
    assert messages == [f"{photos}: exclude is now sub/; before, it was drafts/."]


def test_reset_choice_is_the_default_again(index, photos):
    index.add_folder(photos, exclude=["drafts/"], hidden=True)
    assert index.add_folder(photos, reset="exclude").added == 2
    assert index.add_folder(photos, hidden=False).left_out == 1
    assert choices(index) == {}
    assert names(index) == ["a.toy", "b.toy", "c.toy", "d.toy", "f.toy"]


def test_unknown_choice_to_reset_changes_nothing(index, photos):
    with pytest.raises(UsageError, match="no choice 'colour' to reset"):
        index.add_folder(photos, reset=["colour"])
    assert not index.exists()


def test_choices_of_a_run_that_fails_are_not_kept(index, photos):
    index.add_folder(photos)
    with pytest.raises(SourceError, match=r"leave out all 5 of its indexed pictures\. Nothing was"):
        index.add_folder(photos, exclude=["*"])
    with pytest.raises(UsageError):
        index.add_folder(photos, exclude=["x" * 1001])
    assert choices(index) == {}
    assert index.add_folder(photos).unchanged == 5
    assert index.add_folder(photos, exclude=["*"], allow_empty=True).left_out == 5


def test_choices_hold_for_refresh_watch_and_repair(index, photos):
    index.add_folder(photos, exclude=["drafts/"])
    write(photos / "g.toy")
    (report,) = index.refresh().values()
    assert (report.added, report.left_out) == (1, 0)
    stop = threading.Event()
    for report in index.watch(photos, exclude=["drafts/", "sub/"], stop=stop):
        assert report.left_out == 1
        stop.set()
    assert choices(index) == {"exclude": ["drafts/", "sub/"]}
    index.close()
    catalog = index.folder / "catalog.sqlite"
    content = bytearray(catalog.read_bytes())
    page = content.index(b"b.toy") // 4096 * 4096
    content[page : page + 4096] = bytes(4096)
    catalog.write_bytes(content)
    assert any("scanned again" in line for line in index.repair().mended)
    assert "c.toy" not in names(index)


def test_choices_survive_the_loss_of_the_catalog(index, photos):
    index.add_folder(photos, exclude=["drafts/"])
    index.close()
    (index.folder / "catalog.sqlite").write_bytes(b"lost" * 1000)
    index.repair()
    assert choices(index) == {"exclude": ["drafts/"]}
    assert names(index) == ["a.toy", "b.toy", "f.toy"]


# --- what choices leave out ---


def test_excluded_folder_is_removed_and_its_vectors_are_used_again(index, photos):
    encoder_runs = index.add_folder(photos).encoded
    assert encoder_runs == 5
    report = index.add_folder(photos, exclude=["drafts/"])
    assert (report.left_out, report.gone, report.unchanged) == (2, 0, 3)
    assert names(index) == ["a.toy", "b.toy", "f.toy"]
    again = index.add_folder(photos, reset=["exclude"])
    assert (again.encoded, again.left_out) == (0, 0)
    assert names(index) == ["a.toy", "b.toy", "c.toy", "d.toy", "f.toy"]


def test_deleted_files_beside_excluded_ones_are_counted_as_gone(index, photos):
    index.add_folder(photos)
    (photos / "a.toy").unlink()
    report = index.add_folder(photos, exclude=["drafts/"])
    assert (report.left_out, report.gone) == (2, 1)


def test_folder_that_cannot_be_listed_keeps_its_pictures_beside_excluded_ones(index, photos):
    if not os.geteuid():
        pytest.skip("root lists everything")
    index.add_folder(photos)
    (photos / "sub").chmod(0)
    try:
        report = index.add_folder(photos, exclude=["drafts/"])
        assert (report.left_out, report.gone) == (2, 0)
        assert "f.toy" in names(index)
    finally:
        (photos / "sub").chmod(0o755)


def test_moved_into_an_excluded_folder_is_gone(index, photos):
    index.add_folder(photos, exclude=["drafts/"])
    shutil.move(photos / "a.toy", photos / "drafts/a.toy")
    report = index.add_folder(photos)
    assert (report.gone, names(index)) == (1, ["b.toy", "f.toy"])


# --- subfolders and parents ---


def test_choices_hold_for_a_run_over_a_subfolder(index, photos):
    index.add_folder(photos, exclude=["/drafts/old/"])
    assert index.add_folder(photos / "drafts").unchanged == 1
    assert names(index) == ["a.toy", "b.toy", "c.toy", "f.toy"]


def test_choice_given_for_a_subfolder_holds_there_alone(index, photos):
    index.add_folder(photos)
    assert index.add_folder(photos / "drafts", exclude=["old/"]).left_out == 1
    write(photos / "old/x.toy")
    report = index.add_folder(photos)
    assert (report.added, report.left_out) == (1, 0)
    assert names(index) == ["a.toy", "b.toy", "c.toy", "f.toy", "x.toy"]
    assert choices(index) == {"folders": {"drafts": {"exclude": ["old/"]}}}


@pytest.mark.parametrize("folder", [".hidden", "drafts/old"])
def test_left_out_folder_that_is_indexed_by_itself_stays(index, photos, folder):
    index.add_folder(photos, exclude=["drafts/"])
    assert index.add_folder(photos / folder).added == 1
    report = index.add_folder(photos)
    assert (report.unchanged, report.left_out) == (4, 0)
    assert index.add_folder(photos, exclude=["drafts/", ".hidden"]).left_out == 1


def test_parent_takes_over_the_choices_of_folders_inside(index, photos, tmp_path):
    index.add_folder(photos, exclude=["drafts/"], hidden=True)
    write(tmp_path / "drafts/g.toy")
    write(tmp_path / ".other/h.toy")
    report = index.add_folder(tmp_path, exclude=["home"])
    assert (report.added, report.left_out) == (1, 0)
    assert names(index) == ["a.toy", "b.toy", "e.toy", "f.toy", "g.toy"]
    assert choices(index) == {
        "exclude": ["home"],
        "folders": {"photos": {"exclude": ["drafts/"], "hidden": True}},
    }


def test_moved_root_keeps_its_choices(index, photos, tmp_path):
    index.add_folder(photos, exclude=[f"{photos}/drafts"])
    photos.rename(tmp_path / "pictures")
    index.set_root("photos", tmp_path / "pictures")
    report = index.add_folder(tmp_path / "pictures")
    assert (report.unchanged, report.added) == (3, 0)


# --- tables of captions ---


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("path,caption\na.toy,a boat\nnew.toy,a windmill\n")
    return path


def test_kept_table_gives_captions_to_new_pictures(index, photos, table):
    index.add_folder(photos, captions=table)
    write(photos / "new.toy")
    report = index.add_folder(photos)
    assert (report.added, report.captions) == (1, None)
    assert texts(index, "new.toy") == ["a windmill"]
    assert texts(index, "a.toy") == ["a boat"]


def test_kept_table_that_has_changed_is_read_again(index, photos, table):
    index.add_folder(photos, captions=table)
    table.write_text("path,caption\nb.toy,a lighthouse\n")
    report = index.add_folder(photos)
    assert (report.captions.matched, report.captions_removed) == (1, 1)
    assert (texts(index, "a.toy"), texts(index, "b.toy")) == ([], ["a lighthouse"])
    assert index.add_folder(photos).captions is None


def test_two_kept_tables_both_count_and_are_read_again(index, photos, table, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("path,caption\nnew.toy,a mill\n")
    index.add_folder(photos, captions=table)
    index.add_folder(photos, captions=other)
    write(photos / "new.toy")
    index.add_folder(photos)
    assert texts(index, "new.toy") == ["a mill", "a windmill"]
    for path in (table, other):
        path.write_text("path,caption\nnew.toy,a barn\nb.toy,a cow\n")
    index.add_folder(photos)
    assert (texts(index, "new.toy"), texts(index, "b.toy")) == (["a barn"] * 2, ["a cow"] * 2)


def test_table_of_a_parent_gives_captions_to_a_run_over_a_subfolder(index, photos, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("path,caption\nsub/new.toy,a windmill\n")
    index.add_folder(photos, captions=table)
    write(photos / "sub/new.toy")
    index.add_folder(photos / "sub")
    assert texts(index, "new.toy") == ["a windmill"]


def test_missing_kept_table_keeps_its_captions(index, photos, table, messages):
    index.add_folder(photos, captions=table)
    table.unlink()
    messages.clear()
    index.add_folder(photos)
    assert texts(index, "a.toy") == ["a boat"]
    (message,) = messages
    assert message.startswith(f"The table of captions {table} cannot be read; its captions are")


def test_reset_captions_forgets_the_tables_and_their_captions(index, photos, table):
    index.add_folder(photos, captions=table)
    report = index.add_folder(photos, reset="captions")
    assert (report.captions_removed, texts(index, "a.toy")) == (1, [])
    write(photos / "new.toy")
    index.add_folder(photos)
    assert texts(index, "new.toy") == []
    assert choices(index) == {}


def test_rescan_with_an_unchanged_table_reads_no_file(index, photos, table):
    index.add_folder(photos, captions=table)
    index.add_folder(photos)
    table.chmod(0o644)
    report = index.add_folder(photos)
    assert (report.unchanged, report.retold, report.captions) == (5, 0, None)


# --- refresh ---


def test_refresh_reports_each_source_and_goes_on_after_one_that_is_missing(index, photos, tmp_path):
    write(tmp_path / "other/x.toy")
    index.add_folder(photos)
    index.add_folder(tmp_path / "other")
    photos.rename(tmp_path / "away")
    write(tmp_path / "other/y.toy")
    reports = index.refresh()
    assert isinstance(reports["photos"], SourceError)
    assert reports["other"].added == 1
    assert len(index) == 7
    assert list(index.refresh("other")) == ["other"]


def test_refresh_without_sources_is_an_error(index, photos):
    index.add([photos / "a.toy"], ids=["1"])
    with pytest.raises(UsageError, match="no source to refresh"):
        index.refresh()
    with pytest.raises(UsageError, match="a program added"):
        index.refresh("records")


# --- renamed folders ---


def paths(index):
    return sorted(str(path) for item in index for path in (item.path, *item.copies))


def settle(photos):
    """Give the files of a folder times that are certain."""
    for path in photos.rglob("*.toy"):
        os.utime(path, (1e9, 1e9))


@pytest.fixture
def table_in():
    def make(folder):
        path = folder / "captions.csv"
        path.write_text("path,caption\na.toy,a boat\n")
        return path

    return make


def test_renamed_folder_moves_its_source_with_its_choices(index, photos, tmp_path, messages):
    index.add_folder(photos, exclude=["drafts/"])
    new = photos.rename(tmp_path / "pictures")
    messages.clear()
    report = index.add_folder(new)
    assert (report.unchanged, report.moved, report.copied, report.gone) == (3, 0, 0, 0)
    assert all(path.startswith(f"{new}/") for path in paths(index))
    (source,) = index.sources()
    assert (source.uri, source.choices) == (os.fsencode(new), {"exclude": ["drafts/"]})
    assert messages == [f"Folder {photos} is now {new}; the index keeps its choices."]


def test_renamed_folder_with_a_few_changes_loses_only_what_is_gone(index, photos, tmp_path):
    for number in range(20):
        write(photos / f"{number}.toy")
    index.add_folder(photos)
    new = photos.rename(tmp_path / "pictures")
    (new / "3.toy").unlink()
    write(new / "more.toy")
    report = index.add_folder(new)
    assert (report.unchanged, report.gone, report.added) == (24, 1, 1)
    assert len(index.sources()) == 1


def test_drive_at_another_place_moves_its_folder(index, photos, tmp_path):
    index.add_folder(photos / "drafts")
    (tmp_path / "mnt").mkdir()
    photos.rename(tmp_path / "mnt/photos")
    index.add_folder(tmp_path / "mnt")
    (source,) = index.sources()
    assert source.uri == os.fsencode(tmp_path / "mnt")
    assert all(path.startswith(f"{tmp_path}/mnt/photos/") for path in paths(index))
    assert len(index) == 5


def move_to_another_disk(folder, new):
    """Copy the files of a folder with their times, and delete it: `mv` to another file system."""
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, new)
    shutil.rmtree(folder)
    return new


def test_folder_moved_to_another_disk_keeps_its_source(index, photos, tmp_path, messages, table_in):
    settle(photos)
    index.add_folder(photos, exclude=["drafts/"], captions=table_in(photos))
    index.set_source("photos", hidden=True)
    index.refresh()
    before = {item.path.name: item.id for item in index}
    new = move_to_another_disk(photos, tmp_path / "big" / "Bilder")
    messages.clear()
    report = index.add_folder(new)
    assert (report.unchanged, report.added, report.copied, report.gone) == (4, 0, 0, 0)
    (source,) = index.sources()
    assert (source.name, source.uri) == ("photos", os.fsencode(new))
    assert source.choices["exclude"] == ["drafts/"]
    assert messages == [f"Folder {photos} is now {new}; the index keeps its choices."]
    assert {item.path.name: item.id for item in index} == before
    assert texts(index, "a.toy") == ["a boat"]
    # The table of captions is in the folder, and is read there from now on.
    (new / "captions.csv").write_text("path,caption\na.toy,a lighthouse\n")
    index.refresh()
    assert texts(index, "a.toy") == ["a lighthouse"]


def test_folder_moved_below_a_folder_that_is_indexed_keeps_its_choices(index, photos, tmp_path):
    index.add_folder(photos, exclude=["drafts/"])
    write(tmp_path / "big/other/x.toy")
    move_to_another_disk(photos, tmp_path / "big" / "photos")
    report = index.add_folder(tmp_path / "big")
    assert (report.added, report.gone) == (1, 0)
    (source,) = index.sources()
    assert source.uri == os.fsencode(tmp_path / "big")
    assert not any("drafts" in path for path in paths(index))


def test_folder_moved_with_other_contents_is_another_folder(index, photos, tmp_path):
    settle(photos)
    index.add_folder(photos)
    new = move_to_another_disk(photos, tmp_path / "big" / "photos")
    for path in new.rglob("*.toy"):
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, (1e9, 1e9))
    assert index.add_folder(new).added == 5
    assert len(index.sources()) == 2
    assert len(index) == 10


def test_copy_of_a_folder_that_exists_is_another_source(index, photos, tmp_path, messages):
    index.add_folder(photos)
    shutil.copytree(photos, tmp_path / "copy")
    messages.clear()
    assert index.add_folder(tmp_path / "copy").copied == 5
    assert [source.name for source in index.sources()] == ["photos", "copy"]
    assert messages == []


def test_copy_of_a_drive_that_is_not_mounted_is_not_taken_for_it(index, tmp_path, photos, messages):
    drive = tmp_path / "media" / "drive"
    move_to_another_disk(photos, drive / "photos")
    settle(drive)
    index.add_folder(drive / "photos", exclude=["drafts/"])
    copy = tmp_path / "copy"
    shutil.copytree(drive / "photos", copy)
    away = drive.rename(tmp_path / ".unmounted")
    messages.clear()
    report = index.add_folder(copy)
    assert (report.copied, report.gone) == (3, 0)
    assert [source.name for source in index.sources()] == ["photos", "copy"]
    assert messages == [
        f"{copy} has the files of {drive}/photos, which does not exist now; perhaps its disk is"
        " not mounted, so that both stay in the index. If it has moved, run: mmsearch sources set"
        f" photos --place {copy}"
    ]
    away.rename(drive)
    assert index.refresh("photos")["photos"].unchanged == 3


def test_place_of_a_drive_can_be_set_to_a_copy_that_is_indexed(index, tmp_path, photos):
    drive = tmp_path / "media" / "drive"
    move_to_another_disk(photos, drive / "photos")
    index.add_folder(drive / "photos", exclude=["drafts/"])
    copy = tmp_path / "copy"
    shutil.copytree(drive / "photos", copy)
    index.add_folder(copy)
    with pytest.raises(SourceError, match="already belongs"):
        index.set_source("photos", place=copy)
    drive.rename(tmp_path / ".gone")
    index.set_source("photos", place=copy)
    (source,) = index.sources()
    assert (source.name, source.uri) == ("photos", os.fsencode(copy))
    assert (index.refresh()["photos"].failed, len(index)) == ((), 3)


def test_empty_or_missing_folder_above_is_taken_for_an_unmounted_disk(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    assert not is_deleted(os.fsencode(disk / "photos"))
    assert not is_deleted(os.fsencode(disk / "sub" / "photos"))
    (disk / "other").mkdir()
    assert is_deleted(os.fsencode(disk / "photos"))
    monkeypatch.setattr(os.path, "ismount", lambda path: path == os.fsencode(disk / "other"))
    assert not is_deleted(os.fsencode(disk / "photos"))
    assert not any(map(is_deleted, (b"/media/u/x", b"/mnt/x", b"/run/media/u/x", b"/Volumes/x")))


def test_missing_folder_keeps_its_pictures_when_another_is_indexed(index, photos, tmp_path):
    index.add_folder(photos)
    photos.rename(tmp_path / ".unmounted")
    write(tmp_path / "other/a.toy")
    index.add_folder(tmp_path / "other")
    assert len(index) == 5
    assert len(index.sources()) == 2


def test_folder_renamed_into_another_source_does_not_stop_a_run(index, photos, tmp_path):
    write(tmp_path / "all/archive/x.toy")
    index.add_folder(photos)
    index.add_folder(tmp_path / "all/archive")
    photos.rename(tmp_path / "all/archive/photos")
    index.add_folder(tmp_path / "all/archive")
    index.add_folder(tmp_path / "all")
    assert len(index) == 6
