"""Tests of ``mmsearch list``: an unreadable index does not hide the others."""

import json

import pytest
import typer

import mmsearch
from mmsearch.cli.manage import list_all
from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import toy_indexer


@pytest.fixture
def home(tmp_path):
    for name in ("bad", "good"):
        layout = IndexLayout.for_name(tmp_path, name)
        layout.create()
        with toy_indexer(layout):
            pass
    (tmp_path / "bad" / "catalog.sqlite").write_bytes(b"not a database" * 1000)
    return tmp_path


def test_list_with_unreadable_index_lists_others_and_reports_it(home, capsys):
    with pytest.raises(typer.Exit) as left:
        list_all(home, as_json=True)
    assert left.value.exit_code == 1
    printed = capsys.readouterr()
    assert [index["name"] for index in json.loads(printed.out)] == ["good"]
    assert printed.err.startswith("Could not be read: 1\n  bad: ")
    assert printed.err.count("bad/catalog.sqlite is not an SQLite database.") == 1


def test_list_indexes_unreadable_index_raises_or_calls_on_error(home):
    with pytest.raises(DamagedFileError):
        mmsearch.list_indexes(home)
    errors = {}
    found = mmsearch.list_indexes(home, on_error=errors.__setitem__)
    assert [index.name for index in found] == ["good"]
    assert list(errors) == ["bad"]
    assert isinstance(errors["bad"], DamagedFileError)
