"""Removal deletes the whole index, and can be repeated if it fails halfway."""

import os
import shutil

import pytest

import mmsearch as library
from mmsearch.core.errors import UnknownIndexError
from mmsearch.core.results import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import toy_indexer


@pytest.fixture
def home(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.toy").write_text("1")
    with toy_indexer(IndexLayout(tmp_path / "home" / "default")) as indexer:
        indexer.run(IndexRequest(os.fsencode(tmp_path / "photos")))
    return tmp_path / "home"


def remove(home):
    with library.open_index(home=home) as index:
        index.remove()


def fail_to_delete(monkeypatch):
    def rmtree(path, *_, **__):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)


@pytest.mark.parametrize("linked", [False, True])
def test_remove_repeated_after_failure_deletes_remaining_files(home, monkeypatch, linked):
    if linked:
        (home / "default").rename(home / "elsewhere")
        (home / "default").symlink_to(home / "elsewhere")
    with monkeypatch.context() as patch:
        fail_to_delete(patch)
        with pytest.raises(library.MMSearchError):
            remove(home)
    assert [path.name for path in home.iterdir() if not path.is_symlink()] == [".default.removed"]
    remove(home)
    assert list(home.iterdir()) == []


def test_remove_removed_index_raises_unknown_index_error(home):
    remove(home)
    with pytest.raises(UnknownIndexError):
        remove(home)
