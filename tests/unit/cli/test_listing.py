"""``mmsearch list``: one index that cannot be read hides no other."""

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


def test_indexes_beside_an_unreadable_one_are_listed_and_it_is_named(home, capsys):
    with pytest.raises(typer.Exit) as left:
        list_all(home, as_json=True)
    assert left.value.exit_code == 1
    printed = capsys.readouterr()
    assert [index["name"] for index in json.loads(printed.out)] == ["good"]
    assert printed.err.startswith("Could not be read: 1\n  bad: ")
    assert printed.err.count("bad/catalog.sqlite is not an SQLite database.") == 1


def test_python_gets_the_error_or_hands_over_a_function_for_it(home):
    with pytest.raises(DamagedFileError):
        mmsearch.list_indexes(home)
    errors = {}
    found = mmsearch.list_indexes(home, on_error=errors.__setitem__)
    assert [index.name for index in found] == ["good"]
    assert list(errors) == ["bad"]
    assert isinstance(errors["bad"], DamagedFileError)
