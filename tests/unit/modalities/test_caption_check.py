"""Tests that a caption table is checked before a run starts its work."""

import sys

import pytest

import mmsearch
from mmsearch.core.errors import MissingExtraError, SourceError
from mmsearch.modalities._texts.caption_table import check_caption_table


def test_check_caption_table_accepts_a_table(tmp_path):
    for name, content in (
        ("a.csv", "path,caption\na.jpg,a dog\n"),
        ("a.jsonl", '{"path": "a.jpg", "caption": "a dog"}\n'),
    ):
        (tmp_path / name).write_text(content)
        check_caption_table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("none.csv", None, "none.csv cannot be read: no such file or directory"),
        ("none.parquet", None, "none.parquet cannot be read: no such file or directory"),
        ("a.docx", "x", "is not a caption table in a supported format"),
        ("a.csv", "name,words\na,b\n", "a path column and a caption column are required"),
        ("a.jsonl", '{"words": "b"}\n', "a path column and a caption column are required"),
    ],
)
def test_check_caption_table_names_what_is_wrong(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=reason):
        check_caption_table(tmp_path / name)


def test_add_folder_parquet_without_pyarrow_fails_before_the_model_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with (
        mmsearch.open_index(home=tmp_path / "home", model="starter") as index,
        pytest.raises(MissingExtraError, match=r"pip install '\.\[parquet\]'"),
    ):
        index.add_folder(tmp_path / "photos", captions=tmp_path / "a.parquet")
    assert not index.exists()
