"""A folder appears complete or not at all."""

import pytest

from mmsearch.storage.folders import atomic_folder, is_vacant


def test_atomic_folder_appears_with_its_files_once_the_block_ends(tmp_path):
    target = tmp_path / "new" / "a"
    with atomic_folder(target) as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("content")
        assert not target.exists()
    assert (target / "below" / "file").read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_atomic_folder_after_an_error_leaves_nothing(tmp_path):
    def fill():
        with atomic_folder(tmp_path / "new" / "a") as folder:
            (folder / "file").write_text("content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_atomic_folder_replaces_an_empty_folder_and_what_a_killed_process_left(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / ".a.unfinished").mkdir()
    (tmp_path / ".a.unfinished" / "old").write_text("")
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("content")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_is_vacant_is_true_for_nothing_and_for_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    names = ("none", "empty", "full", "link", "full/file")
    assert [is_vacant(tmp_path / name) for name in names] == [True, True, False, False, False]
