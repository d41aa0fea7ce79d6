"""A run accounts for every file, and notices every change."""

import os
import shutil
from dataclasses import dataclass, replace

import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import walk_request
from mmsearch.indexing import file_reader
from mmsearch.modalities import _contents, _folder
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyCaptionTable, ToyModality, toy_indexer


@dataclass(frozen=True)
class RawToyModality(ToyModality):
    """Reader of RAW toys, which needs an extra."""

    missing_extra: str | None = None

    def can_read(self, path):
        return path.endswith((b".cr2", b".toy", b".jpg"))


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def write(path, content, second=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (second, second))


def run(layout, folder, *modalities, captions=None, **options):
    """Index a folder; return the report and the reasons of the files that are not read."""
    modalities = modalities or (ToyModality(),)
    with toy_indexer(layout, captions=captions) as toys:
        indexer = replace(
            toys,
            walk=lambda request, recall: walk_request(request, modalities, recall),
            make_decoder=replace(toys.make_decoder, modalities=modalities),
        )
        report = indexer.run(IndexRequest(os.fsencode(folder), **options))
        reasons = {
            os.path.relpath(os.fsdecode(file.path), folder): file.reason
            for file in indexer.catalog.skipped_files()
        }
    return report, reasons


def total(report):
    return sum(count.files for count in report.skipped)


def test_files_are_opened_once_and_removed_with_their_rows(layout, folder, monkeypatch):
    for name in ("a.toy", "x.dat", "sub/y.dat", "sub/b.toy"):
        write(folder / name, f"picture {name}")
    write(folder / "picture", "toy picture")
    report, reasons = run(layout, folder)
    assert (report.added, total(report)) == (3, 2)
    assert reasons == dict.fromkeys(("x.dat", "sub/y.dat"), "not a picture")
    with monkeypatch.context() as patch:
        patch.setattr(_contents, "open_regular_file", None)
        report, again = run(layout, folder)
        assert (report.unchanged, total(report), again) == (3, 2, reasons)
        # Another file of the folder has changed.
        write(folder / "a.toy", "another picture", 2)
        report, again = run(layout, folder)
        assert (report.changed, report.unchanged, total(report), again) == (1, 2, 2, reasons)
    write(folder / "x.dat", "toy by now")
    assert run(layout, folder)[0].added == 1
    write(folder / "x.dat", "no toy any more")
    report, reasons = run(layout, folder)
    assert (report.gone, set(reasons)) == (1, {"x.dat", "sub/y.dat"})
    shutil.rmtree(folder / "sub")
    (folder / "x.dat").unlink()
    report, reasons = run(layout, folder)
    assert (report.gone, total(report), reasons) == (1, 0, {})


def test_folder_of_skipped_files_alone_is_forgotten_when_it_is_gone(layout, folder):
    write(folder / "a.toy", "picture")
    write(folder / "sub/x.dat", "data")
    assert total(run(layout, folder)[0]) == 1
    shutil.rmtree(folder / "sub")
    assert total(run(layout, folder)[0]) == 0


def test_raw_file_follows_its_photograph(layout, folder):
    modality = RawToyModality()
    write(folder / "a.cr2", "raw")
    assert run(layout, folder, modality)[0].added == 1
    write(folder / "A.jpg", "photo")
    report, reasons = run(layout, folder, modality)
    assert (report.added, report.gone, reasons) == (1, 1, {"a.cr2": "RAW of A.jpg"})
    (folder / "A.jpg").unlink()
    report, reasons = run(layout, folder, modality)
    # Its vector was kept.
    assert (report.copied, report.moved, report.gone, reasons) == (1, 0, 1, {})
    assert report.encoded == 0


def test_files_are_read_once_their_extra_is_installed(layout, folder):
    write(folder / "a.toy", "picture")
    write(folder / "b.cr2", "raw")
    toys = ToyModality()
    report, reasons = run(layout, folder, toys, RawToyModality("raw"))
    assert (report.added, reasons) == (1, {"b.cr2": "install '.[raw]'"})
    report, reasons = run(layout, folder, toys, RawToyModality())
    assert (report.added, report.unchanged, reasons) == (1, 1, {})
    # Without the extra, the picture stays in the index as long as the file is unchanged.
    report, reasons = run(layout, folder, toys, RawToyModality("raw"))
    assert (report.unchanged, report.gone, reasons) == (2, 0, {})


def test_emptied_folder_with_raw_files_says_what_to_install(layout, folder):
    write(folder / "a.toy", "picture")
    run(layout, folder)
    (folder / "a.toy").unlink()
    write(folder / "b.cr2", "raw")
    with pytest.raises(SourceError) as caught:
        run(layout, folder, ToyModality(), RawToyModality("raw"))
    assert "no pictures that can be read now (1 not read: 1 CR2 (install '.[raw]'))" in str(
        caught.value
    )


def test_table_of_captions_in_the_folder_is_read(layout, folder):
    write(folder / "a.toy", "picture")
    write(folder / "captions.csv", "path,caption")
    table = ToyCaptionTable(os.fsencode(folder / "captions.csv"), {})
    assert run(layout, folder, captions=table)[1] == {}
    assert run(layout, folder)[1] == {"captions.csv": "document"}


def test_subfolders_and_outer_folders_keep_their_own_rows(layout, folder):
    write(folder / "a/x.dat", "data")
    write(folder / "b/y.dat", "data")
    assert set(run(layout, folder / "a")[1]) == {"a/x.dat"} - {"a/x.dat"} | {"x.dat"}
    report, reasons = run(layout, folder)
    assert (total(report), set(reasons)) == (2, {"a/x.dat", "b/y.dat"})
    (folder / "a/x.dat").unlink()
    report, _ = run(layout, folder / "b")
    assert total(report) == 1
    assert total(run(layout, folder)[0]) == 1


def keep_times(path, content):
    """Change a file like exiftool -P: its size and modification time stay."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_text(content)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))


def test_change_with_kept_size_and_time_is_noticed(layout, folder):
    write(folder / "a.toy", "picture 1")
    write(folder / "b.toy", "picture 2")
    run(layout, folder)
    keep_times(folder / "a.toy", "picture 3")
    report, _ = run(layout, folder)
    assert (report.changed, report.unchanged, report.unnoticed) == (1, 1, 1)


def test_indexed_file_that_cannot_be_read_now_keeps_its_picture(layout, folder, monkeypatch):
    write(folder / "a.toy", "picture 1")
    run(layout, folder)
    (folder / "a.toy").chmod(0o600)

    def fail(path):
        raise DecodeError("too many open files", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr(file_reader, "hash_source_file", fail)
        report, _ = run(layout, folder)
    assert [failed.reason for failed in report.failed] == ["too many open files"]
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.pictures == 1
    report, _ = run(layout, folder)
    assert (report.unchanged, report.failed) == (1, ())


def test_sidecar_change_with_kept_size_and_time_is_noticed(layout, folder):
    write(folder / "a.toy", "picture 1")
    write(folder / "a.toy.txt", "a dog")
    run(layout, folder)
    keep_times(folder / "a.toy.txt", "a cat")
    report, _ = run(layout, folder)
    assert (report.unchanged, report.retold) == (1, 1)


@pytest.mark.parametrize(
    ("touch", "counts"),
    [
        (lambda folder: (folder / "a.toy").chmod(0o600), {"unchanged": 1}),
        (lambda folder: (folder / "a.toy").rename(folder / "b.toy"), {"moved": 1}),
        (lambda folder: os.link(folder / "a.toy", folder / "b.toy"), {"unchanged": 1, "copied": 1}),
    ],
)
def test_change_of_attributes_is_hashed_once_and_encodes_nothing(
    layout, folder, touch, counts, monkeypatch
):
    write(folder / "a.toy", "picture 1")
    run(layout, folder)
    touch(folder)
    report, _ = run(layout, folder)
    found = {name: getattr(report, name) for name in ("unchanged", "moved", "copied", "changed")}
    assert {name: count for name, count in found.items() if count} == counts
    assert report.encoded == 0
    monkeypatch.setattr(file_reader, "hash_source_file", None)
    report, _ = run(layout, folder)
    assert report.unchanged == sum(counts.values())


def test_files_of_earlier_versions_get_their_change_time_without_being_read(
    layout, folder, monkeypatch
):
    write(folder / "a.toy", "picture 1")
    with monkeypatch.context() as patch:
        patch.setattr(_folder, "clamped_ctime_ns", lambda stat: 0)
        run(layout, folder)
    with monkeypatch.context() as patch:
        patch.setattr(file_reader, "hash_source_file", None)
        for _ in range(2):
            assert run(layout, folder)[0].unchanged == 1
    keep_times(folder / "a.toy", "picture 2")
    assert run(layout, folder)[0].changed == 1


def test_verify_finds_changes_where_the_system_has_no_change_time(layout, folder, monkeypatch):
    monkeypatch.setattr(_folder, "clamped_ctime_ns", lambda stat: 0)
    write(folder / "a.toy", "picture 1")
    write(folder / "b.toy", "picture 2")
    write(folder / "c.toy", "bad")
    write(folder / "d.dat", "data")
    run(layout, folder)
    keep_times(folder / "a.toy", "picture 3")
    keep_times(folder / "d.dat", "toy ")
    assert run(layout, folder)[0].unchanged == 2
    report, reasons = run(layout, folder, verify=True)
    assert (report.changed, report.unchanged, report.unnoticed) == (1, 1, 1)
    assert (report.still_failed, report.added, reasons) == (1, 1, {})
    report, _ = run(layout, folder, verify=True)
    assert (report.unchanged, report.unnoticed, report.encoded) == (3, 0, 0)
