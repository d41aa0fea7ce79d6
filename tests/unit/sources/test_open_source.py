"""Tests of `open_source`: guesses of the kind, and choices that are not valid."""

import json

import pytest

from mmsearch.core.errors import SourceError, UnknownNameError, UsageError
from mmsearch.factories.sources import choices_to_json, guess_kind, list_choices, open_source
from tests.source_samples import MODALITIES


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("a.zip", "archive"),
        ("A.TAR", "archive"),
        ("/x/{0..9}.tar.gz", "archive"),
        ("a.tar.zst", "archive"),
        ("a.csv", "table"),
        ("a.JSONL", "table"),
        ("a.parquet", "table"),
        ("urls.txt", "table"),
        ("s3://b/a.tar", "remote"),
        ("https://h/photos/", "remote"),
        ("memory://a.csv", "remote"),
    ],
)
def test_guess_kind_decides_by_the_name(uri, kind):
    assert guess_kind(uri.encode()) == kind


def test_guess_kind_of_a_folder_is_a_data_set_or_an_error(tmp_path):
    with pytest.raises(SourceError, match="is a folder of files") as error:
        guess_kind(str(tmp_path).encode())
    assert str(error.value.hint) == "Index it with add_folder."
    assert error.value.hint.command == "Index it with 'mmsearch index FOLDER'."
    (tmp_path / "state.json").write_text("{}")
    assert guess_kind(str(tmp_path).encode()) == "dataset"


@pytest.mark.parametrize("uri", ["photos", "a.jpg", "a.docx", "C:\\photos"])
def test_guess_kind_of_another_name_is_a_source_error(uri):
    with pytest.raises(SourceError, match="is not a source that is known by its name"):
        guess_kind(uri.encode())


def test_open_source_unknown_choice_names_a_similar_one(tmp_path):
    with pytest.raises(UsageError, match=r"have no choice 'url_colum'\. Did you mean url_column"):
        open_source(tmp_path / "a.csv", MODALITIES, url_colum="x")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"url_column": 1}, "url_column must be a string"),
        ({"max_mb": "x"}, "max_mb must be a number"),
        ({"tries": 1.5}, "tries must be a whole number"),
        ({"allow_private": "no"}, "allow_private must be True or False"),
        ({"kind": 3}, "kind must be a string"),
    ],
)
def test_open_source_choice_of_another_type_is_a_usage_error(tmp_path, choices, message):
    (tmp_path / "a.csv").write_text("path\n")
    with pytest.raises(UsageError, match=message):
        open_source(tmp_path / "a.csv", MODALITIES, **choices)


@pytest.mark.parametrize("uri", [None, 3, ""])
def test_open_source_uri_of_another_type_is_a_usage_error(uri):
    with pytest.raises(UsageError, match="uri must be a path"):
        open_source(uri, MODALITIES)


def test_open_source_unknown_kind_is_an_unknown_name():
    with pytest.raises(UnknownNameError, match="no kind of source named 'ftp'"):
        open_source("a", MODALITIES, kind="ftp")


def test_list_choices_has_annotations_that_are_checked():
    assert list_choices("archive") == {"hidden": "bool"}
    assert list_choices("table")["text_columns"] == "tuple[str, ...]"


def test_choices_to_json_keeps_what_opens_the_source_again(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"content")
    (tmp_path / "t.csv").write_text("sku,path,what\n7,a.jpg,a barn\n")
    monkeypatch.chdir(tmp_path)
    choices = {"base": "photos", "text_columns": ("what",), "id_column": "sku", "max_mb": 3}
    kept = json.dumps(choices_to_json("table", choices))
    source = open_source("t.csv", MODALITIES, **choices)
    assert source.uri == bytes(tmp_path / "t.csv")
    monkeypatch.chdir("/")
    again = open_source(source.uri, MODALITIES, kind="table", **json.loads(kept))
    (part,) = again.parts()
    (item,) = again.items(part)
    assert (item.key, item.load(), item.texts[0].text) == (b"7", b"content", "a barn")
    assert choices_to_json("archive", {}) == {}
    with pytest.raises(UsageError, match="no choice 'base'"):
        choices_to_json("archive", choices)
