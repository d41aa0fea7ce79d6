"""A rescan skips unchanged folders as a whole and misses no change."""

import os
import shutil
from dataclasses import replace

import pytest

from mmsearch.core.results import IndexRequest
from mmsearch.core.types import Text
from mmsearch.factories.indexing import walk_request
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyModality, toy_indexer

FOLDERS, FILES = 4, 5


def write(path, content, tick=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, ns=(tick * 10**9, tick * 10**9))


@pytest.fixture
def photos(tmp_path):
    for folder in range(FOLDERS):
        for file in range(FILES):
            write(tmp_path / f"photos/{folder}/{file}.toy", f"picture {folder} {file}")
    return tmp_path / "photos"


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


def run(layout, folder, *, sources=None, captions=None, **options):
    """Run the indexer; return its report and the number of file records read."""
    read = []
    more = {} if sources is None else {"sources": sources}
    with toy_indexer(layout, captions=captions, **more) as indexer:
        list_files_under = indexer.catalog.list_files_under

        def watched(*arguments):
            found = list_files_under(*arguments)
            read.append(len(found))
            return found

        indexer.catalog.list_files_under = watched
        report = indexer.run(IndexRequest(os.fsencode(folder), **options))
    return report, sum(read)


@pytest.fixture
def indexed(layout, photos):
    run(layout, photos)
    return photos


def test_rescan_of_unchanged_folders_reads_no_file_records(layout, indexed):
    report, read = run(layout, indexed)
    assert (report.unchanged, report.added, read) == (FOLDERS * FILES, 0, 0)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda p: write(p / "1/new.toy", "new", 2), {"added": 1, "unchanged": 20}),
        (lambda p: write(p / "1/2.toy", "other", 2), {"changed": 1, "unchanged": 19}),
        (lambda p: write(p / "1/2.toy", "picture 1 2", 2), {"unchanged": 20}),
        (lambda p: write(p / "1/2.toy.txt", "said", 2), {"unchanged": 20, "retold": 1}),
        (lambda p: (p / "1/2.toy").unlink(), {"gone": 1, "unchanged": 19}),
        (lambda p: shutil.rmtree(p / "1"), {"gone": FILES, "unchanged": 15}),
        (lambda p: (p / "1").rename(p / "one"), {"moved": FILES, "unchanged": 15}),
        (lambda p: (p / "1/2.toy").rename(p / "2/n.toy"), {"moved": 1, "unchanged": 19}),
        (lambda p: shutil.copy(p / "1/2.toy", p / "new.toy"), {"copied": 1, "unchanged": 20}),
        (lambda p: write(p / "1/2.toy", "bad", 2), {"unchanged": 19}),
    ],
)
def test_rescan_after_one_change_reads_only_affected_folders(layout, indexed, change, counts):
    change(indexed)
    report, read = run(layout, indexed)
    found = {name: getattr(report, name) for name in ("added", "changed", "moved", "copied")}
    found |= {name: getattr(report, name) for name in ("unchanged", "gone", "retold")}
    assert found == dict.fromkeys(found, 0) | counts
    # At most the files of two folders.
    assert read <= 2 * FILES + 1
    again, read = run(layout, indexed)
    assert (again.added + again.changed + again.moved + again.copied + again.gone) == 0
    assert again.unchanged == sum(counts.get(n, 0) for n in found if n not in ("gone", "retold"))
    # A fresh copy has a recent modification time, so the next run must read it again.
    assert read == 0 or counts.get("copied")


def test_rescan_skips_folder_with_failed_file_unless_retry_is_requested(layout, photos):
    write(photos / "0/0.toy", "bad")
    run(layout, photos)
    report, read = run(layout, photos)
    assert (report.unchanged, report.still_failed, read) == (FOLDERS * FILES - 1, 1, 0)
    report, read = run(layout, photos, retry_failed=True)
    assert (len(report.failed), report.unchanged) == (1, FOLDERS * FILES - 1)
    assert read


def test_rescan_detects_same_mtime_change_of_recently_written_file(layout, indexed):
    fresh = indexed / "3/fresh.toy"
    fresh.write_text("first")
    run(layout, indexed)
    facts = fresh.stat()
    fresh.write_text("other")
    os.utime(fresh, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    report, _ = run(layout, indexed)
    assert report.changed == 1


@pytest.mark.parametrize("second", [-370, 330, 8000], ids=["1600", "2300", "9970"])
def test_rescan_file_date_beyond_64_bits_is_compared_like_any_other(layout, photos, second):
    absurd = second * 31_556_952
    write(photos / "1/2.toy", "picture 1 2", absurd)
    write(photos / "1/2.toy.txt", "a caption", absurd)
    before = (photos / "1/2.toy").stat().st_mtime_ns
    assert run(layout, photos)[0].added == FOLDERS * FILES
    report, read = run(layout, photos)
    assert (report.unchanged, report.retold, read) == (FOLDERS * FILES, 0, 0)
    write(photos / "1/2.toy", "picture 2 1", absurd + 1)
    write(photos / "1/2.toy.txt", "another c", absurd + 1)
    # ext4 clamps dates to 1901-2446, so one second more gives the same date there.
    differs = (photos / "1/2.toy").stat().st_mtime_ns != before
    report, read = run(layout, photos)
    assert (report.changed, report.unchanged) == (int(differs), FOLDERS * FILES - int(differs))


def test_rescan_unstable_file_is_skipped_then_added_by_next_run(layout, indexed):
    new = indexed / "2/new.toy"
    write(new, "new", 2)
    report, _ = run(layout, indexed, unstable_paths=frozenset({os.fsencode(new)}))
    assert report.added == 0
    report, _ = run(layout, indexed)
    assert report.added == 1


def test_rescan_with_other_text_sources_reads_every_file(layout, photos):
    write(photos / "0/0.toy.txt", "a caption")
    run(layout, photos)
    assert run(layout, photos)[1] == 0
    report, read = run(layout, photos, sources=())
    assert (report.retold, read) == (1, FOLDERS * FILES)


def test_rescan_with_caption_table_updates_files_in_unchanged_folders(layout, indexed):
    table = {b"1/1.toy": (Text("caption", "a windmill", "en", "table"),)}
    assert run(layout, indexed, captions=table)[0].retold == 1
    assert run(layout, indexed)[0].unchanged == FOLDERS * FILES


def test_rescan_after_lost_segment_encodes_pictures_again(layout, indexed):
    with toy_indexer(layout) as indexer:
        for segment in indexer.catalog.segments():
            indexer.catalog.drop_segment(segment.number)
    report, _ = run(layout, indexed)
    assert report.changed + report.added == FOLDERS * FILES


def test_rescan_of_subfolder_ignores_changes_outside_it(layout, indexed):
    report, read = run(layout, indexed / "1")
    assert (report.unchanged, read) == (FILES, 0)
    (indexed / "2/0.toy").unlink()
    assert run(layout, indexed / "1")[0].gone == 0
    assert run(layout, indexed)[0].gone == 1


def test_rescan_after_aborted_run_does_not_skip_folders(layout, indexed, monkeypatch):
    write(indexed / "1/new.toy", "new", 2)
    with toy_indexer(layout) as indexer:
        monkeypatch.setattr(type(indexer), "_refresh_text_vectors", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            indexer.run(IndexRequest(os.fsencode(indexed)))
    monkeypatch.undo()
    report, read = run(layout, indexed)
    assert (report.unchanged, report.added) == (FOLDERS * FILES + 1, 0)
    assert read


def test_rescan_exclude_pattern_of_subfolder_does_not_apply_to_root(tmp_path):
    """The pattern x/b excludes a file of photos/sub, but not of photos, where it is sub/x/b."""
    layout = IndexLayout(tmp_path / "index")
    for path in ("sub/x/a.toy", "sub/x/b.toy"):
        write(tmp_path / "photos" / path, path)

    def added(folder):
        with toy_indexer(layout) as indexer:
            real = replace(
                indexer,
                walk=lambda request, recall: walk_request(request, (ToyModality(),), recall),
            )
            return real.run(IndexRequest(os.fsencode(folder), exclude=("x/b.toy",))).added

    assert added(tmp_path / "photos/sub") == 1
    assert added(tmp_path / "photos/sub") == 0
    assert added(tmp_path / "photos") == 1
