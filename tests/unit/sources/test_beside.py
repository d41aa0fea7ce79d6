"""Tables beside tars: the captions and values of img2dataset's metadata."""

import json
import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmsearch.core.errors import MissingExtraError
from mmsearch.core.sources import SourceFailure
from mmsearch.factories.sources import guess_kind, is_folder_of_files
from mmsearch.sources import _archives
from mmsearch.sources._beside import TableBeside
from tests.unit.sources.test_archive import JPEG, build, member, write_tar


def write_table(path, rows):
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)


def shard(folder, number, *samples, sidecars=()):
    """Write a tar with pictures and its table, whose rows are in another order."""
    members = [member(f"{key}.jpg", JPEG + key.encode()) for key, _ in samples]
    write_tar(folder / f"{number}.tar", *members, *sidecars)
    rows = [{"key": key, "status": "success", **row} for key, row in reversed(samples)]
    write_table(folder / f"{number}.parquet", [*rows, {"key": "9", "status": "failed_to_download"}])


def read_all(path):
    return [item for part in build(path).parts() for item in build(path).items(part)]


def captions(item):
    return [text.text for text in item.texts]


def test_table_gives_captions_and_values_to_a_tar_that_has_none(tmp_path):
    shard(tmp_path, "00000", ("000", {"caption": "a boat", "width": 3}), ("001", {"url": "u"}))
    first, second = read_all(tmp_path / "00000.tar")
    assert (first.key, captions(first)) == (b"000.jpg", ["a boat"])
    assert first.metadata == {"key": "000", "status": "success", "width": 3}
    assert (captions(second), second.metadata["url"]) == ([], "u")


def test_texts_and_values_of_the_tar_count_more_than_those_of_the_table(tmp_path):
    beside = json.dumps({"caption": "a windmill", "width": 5}).encode()
    row = {"caption": "a boat", "width": 3, "url": "u"}
    shard(tmp_path, "00000", ("000", row), sidecars=[member("000.json", beside)])
    (item,) = read_all(tmp_path / "00000.tar")
    assert captions(item) == ["a windmill"]
    assert (item.metadata["width"], item.metadata["url"]) == (5, "u")


def test_folder_of_shards_is_an_archive_and_reads_all_of_them(tmp_path):
    shard(tmp_path, "00000", ("000", {"caption": "a boat"}))
    shard(tmp_path, "00001", ("100", {"caption": "a mill"}))
    (tmp_path / "00000_stats.json").write_text("{}")
    write_tar(tmp_path / "other.tar", member("x.jpg"))
    path = str(tmp_path).encode()
    assert (guess_kind(path), is_folder_of_files(path)) == ("archive", False)
    items = read_all(tmp_path)
    assert [(item.key, captions(item)) for item in items] == [
        (b"00000.tar/000.jpg", ["a boat"]),
        (b"00001.tar/100.jpg", ["a mill"]),
    ]
    assert build(tmp_path).read(b"00001.tar/100.jpg") == JPEG + b"100"


@pytest.mark.parametrize("names", [["00000.tar"], ["00000.parquet"], ["a.tar", "a.parquet"], []])
def test_other_folders_are_folders_of_files(tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert is_folder_of_files(str(tmp_path).encode())


def test_changed_table_changes_the_stamp_of_its_tar_alone(tmp_path):
    shard(tmp_path, "00000", ("000", {"caption": "a boat"}))
    shard(tmp_path, "00001", ("100", {"caption": "a mill"}))
    before = [part.stamp for part in build(tmp_path).parts()]
    write_table(tmp_path / "00001.parquet", [{"key": "100", "caption": "a windmill by the sea"}])
    after = [part.stamp for part in build(tmp_path).parts()]
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_damaged_table_is_a_failure_and_its_pictures_are_read(tmp_path):
    shard(tmp_path, "00000", ("000", {"caption": "a boat"}))
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 nonsense PAR1")
    failure, item = read_all(tmp_path / "00000.tar")
    assert isinstance(failure, SourceFailure)
    assert (failure.key, failure.ends_part, captions(item)) == (b"00000.parquet", False, [])


def test_missing_pyarrow_is_a_failure_and_pictures_are_read(tmp_path, monkeypatch):
    def refuse(path):
        raise MissingExtraError.for_extra("Parquet", "pyarrow", "parquet")

    shard(tmp_path, "00000", ("000", {"caption": "a boat"}))
    monkeypatch.setattr(_archives, "TableBeside", refuse)
    failure, item = read_all(tmp_path / "00000.tar")
    assert "needs the Python package 'pyarrow'" in failure.reason
    assert item.key == b"000.jpg"


def test_table_without_keys_is_not_used(tmp_path):
    write_tar(tmp_path / "a.tar", member("000.jpg"))
    write_table(tmp_path / "a.parquet", [{"name": "000", "caption": "a boat"}])
    (item,) = read_all(tmp_path / "a.tar")
    assert (captions(item), item.metadata) == ([], {})


def test_rows_of_a_large_table_are_not_in_memory(tmp_path):
    keys = [f"{number:09}" for number in range(60_000)]
    random.Random(1).shuffle(keys)
    table = {"key": keys, "caption": [f"caption {key} " + "x" * 500 for key in keys]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet", row_group_size=10_000)
    tracemalloc.start()
    rows = TableBeside(tmp_path / "t.parquet")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    texts, metadata = rows.find(b"folder/000012345")
    assert texts[0].text.startswith("caption 000012345 ")
    assert metadata == {"key": "000012345"}
    assert rows.find(b"000060000") is None
    rows.close()
    assert peak < 8_000_000
