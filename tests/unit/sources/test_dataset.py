"""Tests of data sets on disk: columns, labels, splits, rows that fail."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.sources import SourceFailure, SourceItem
from mmsearch.sources import dataset
from tests.source_samples import with_features

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def is_picture(name, head):
    raise AssertionError("every row has a picture")


def build(folder, **choices):
    return dataset.build(str(folder).encode(), is_picture=is_picture, **choices)


def read_all(folder, **choices):
    source = build(folder, **choices)
    found = [item for part in source.parts() for item in source.items(part)]
    items = {item.key: item for item in found if isinstance(item, SourceItem)}
    return items, [item for item in found if isinstance(item, SourceFailure)]


def write(folder, columns, *, name="data-00000-of-00001.arrow", file_format="stream", **features):
    folder.mkdir(parents=True, exist_ok=True)
    table = with_features(pa.table(columns), **features)
    make = pa.ipc.new_stream if file_format == "stream" else pa.ipc.new_file
    with pa.OSFile(str(folder / name), "wb") as file, make(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return folder


def images(*contents):
    return pa.array([{"bytes": content, "path": "/etc/passwd"} for content in contents], IMAGE)


@pytest.mark.parametrize("backwards", [False, True])
def test_dataset_first_row_of_an_id_counts_over_all_files(tmp_path, backwards):
    folder = tmp_path / "d"
    first = {"id": ["x", "y", "x"], "image": images(b"1", b"2", b"3")}
    second = {"id": ["y", "z", None], "image": images(b"4", b"5", b"6")}
    write(folder, first, name="a.arrow")
    write(folder, second, name="b.arrow")
    files = [{"filename": name} for name in ("a.arrow", "b.arrow")]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    source = build(folder, id_column="id")
    parts = list(source.parts())
    found = [item for part in (parts[::-1] if backwards else parts) for item in source.items(part)]
    contents = {item.key: item.load() for item in found if isinstance(item, SourceItem)}
    assert contents == {b"x": b"1", b"y": b"2", b"z": b"5"}
    assert {key: source.read(key) for key in contents} == contents
    failures = {item.key: item.reason for item in found if isinstance(item, SourceFailure)}
    assert failures == {
        b"a.arrow/2": "an earlier row has the same id",
        b"b.arrow/0": "an earlier row has the same id",
        b"b.arrow/2": "the row has no id",
    }


@pytest.mark.parametrize("file_format", ["stream", "file"])
def test_dataset_rows_have_texts_labels_and_metadata(tmp_path, file_format):
    columns = {
        "id": ["x", "y", "z"],
        "text": ["a barn", ["a", "b"][0], None],
        "label": [1, 0, -1],
        "image": images(b"1", b"2", b"3"),
        "mask": images(b"4", b"5", b"6"),
        "box": [[1.5, float("nan")], None, []],
    }
    names = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    folder = write(tmp_path / "d", columns, file_format=file_format, label=names)
    items, failures = read_all(folder, id_column="id")
    assert failures == []
    assert [item.load() for item in items.values()] == [b"1", b"2", b"3"]
    assert [item.metadata["label"] for item in items.values()] == ["dog", "cat", -1]
    assert [[text.text for text in item.texts] for item in items.values()] == [
        ["a barn"],
        ["a"],
        [],
    ]
    items, _ = read_all(folder, image_column="mask")
    assert [item.load() for item in items.values()] == [b"4", b"5", b"6"]


def test_dataset_picture_that_is_only_named_is_a_failure_and_not_read(tmp_path):
    items, failures = read_all(write(tmp_path / "d", {"image": images(b"1", None)}))
    assert [item.load() for item in items.values()] == [b"1"]
    assert [failure.reason for failure in failures] == ["its picture is not in the data set"]
    with pytest.raises(DecodeError, match="not in the data set"):
        build(tmp_path / "d").read(failures[0].key)


def test_dataset_parquet_with_pictures_as_plain_bytes_is_read(tmp_path):
    (tmp_path / "d" / "data").mkdir(parents=True)
    table = pa.table({"jpg": [b"1", b"2"], "caption": ["a", "b"], "key": ["7", "8"]})
    pq.write_table(table, tmp_path / "d" / "data" / "0.parquet")
    (tmp_path / "d" / "dataset_info.json").write_text("{}")
    items, _ = read_all(tmp_path / "d", id_column="key")
    assert {key: item.load() for key, item in items.items()} == {b"7": b"1", b"8": b"2"}
    assert build(tmp_path / "d", id_column="key").read(b"8") == b"2"


def test_dataset_damaged_file_fails_alone(tmp_path):
    folder = write(tmp_path / "d", {"image": images(b"1")})
    (folder / "second.arrow").write_bytes(b"no arrow")
    files = [{"filename": "data-00000-of-00001.arrow"}, {"filename": "second.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    items, failures = read_all(folder)
    assert len(items) == 1
    assert [(failure.key, failure.ends_part) for failure in failures] == [(b"second.arrow", True)]
    assert "is not a Arrow file" not in failures[0].reason


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "", "..", "a/b.arrow", 7, None])
def test_dataset_file_outside_of_its_folder_is_never_opened(tmp_path, name):
    folder = write(tmp_path / "d", {"image": images(b"1")})
    write(tmp_path, {"image": images(b"secret")}, name="secret.arrow")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(SourceError, match="is not a data set"):
        build(folder)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(SourceError, match="is not a data set"):
        build(folder)


def test_dataset_split_is_chosen_by_its_name(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / "d" / split, {"image": images(split.encode())})
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    items, _ = read_all(tmp_path / "d", split="test")
    assert [item.load() for item in items.values()] == [b"test"]
    with pytest.raises(SourceError, match="no split 'x'; it has train, test"):
        build(tmp_path / "d", split="x")
    with pytest.raises(SourceError, match="without splits"):
        build(tmp_path / "d" / "train", split="train")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"image_column": "n"}, "no such column as 'n'; those that fit are image"),
        ({"id_column": "x"}, "no such column as 'x'; those that fit are n"),
        ({"text_columns": ("x",)}, "no such column as 'x'"),
    ],
)
def test_dataset_choices_that_are_not_valid_are_source_errors(tmp_path, choices, message):
    write(tmp_path / "d", {"image": images(b"1"), "n": [1]})
    with pytest.raises(SourceError, match=message):
        build(tmp_path / "d", **choices)


def test_dataset_without_pictures_or_files_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="no column with pictures"):
        build(write(tmp_path / "d", {"n": [1]}))
    with pytest.raises(SourceError, match="is not a data set"):
        build(tmp_path / "missing")
    (tmp_path / "d" / "state.json").write_text("{")
    with pytest.raises(SourceError, match="is not JSON"):
        build(tmp_path / "d")


@pytest.mark.parametrize("features", ["{", "[]", '{"info": 7}', '{"info": {"features": [1]}}', "["])
def test_dataset_with_a_damaged_description_has_numbers_for_labels(tmp_path, features):
    folder = write(tmp_path / "d", {"image": images(b"1"), "label": [1]})
    table = pa.table({"image": images(b"1"), "label": [1]})
    table = table.replace_schema_metadata({"huggingface": features})
    path = folder / "data-00000-of-00001.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    (item,) = read_all(folder)[0].values()
    assert item.metadata == {"label": 1}
