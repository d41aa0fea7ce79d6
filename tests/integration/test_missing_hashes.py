"""Pictures that were indexed without a perceptual hash get one, and groups, from the next run."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmsearch
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.indexing import hashes
from mmsearch.storage.layout import IndexLayout
from tests import toy_index
from tests.toy_index import toy_engine, toy_indexer

DATA = Path(__file__).parents[1] / "data"
PHOTOS = sorted((Path(__file__).parents[1] / "photos/photos").glob("*.jpg"))
PAIRS = [["a-half.png", "a.jpg"], ["b-half.png", "b.jpg"]]
LOOKS = (
    "SELECT key, perceptual_hash FROM items JOIN assets USING (content_id) WHERE items.part = 0"
    " ORDER BY key"
)
GROUPS = "SELECT key, near_id FROM duplicates JOIN assets USING (content_id) ORDER BY key"


@pytest.fixture
def folder(tmp_path):
    """Two photographs with a copy of half the size each, and one photograph alone."""
    folder = tmp_path / "library"
    folder.mkdir()
    for name, path in (("a", PHOTOS[0]), ("b", PHOTOS[1]), ("alone", PHOTOS[4])):
        shutil.copy(path, folder / f"{name}.jpg")
    for name, path in (("a", PHOTOS[0]), ("b", PHOTOS[1])):
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2)).save(folder / f"{name}-half.png")
    for path in folder.iterdir():
        # Files that have just been written are read again.
        os.utime(path, (1.5e9, 1.5e9))
    return folder


@pytest.fixture
def index(tmp_path):
    with mmsearch.open_index("hashes", home=tmp_path / "home", model="starter") as index:
        yield index


def query(path, statement):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as db, db:
        return db.execute(statement).fetchall()


def lose_hashes(index, where="true", *, with_state=True):
    """Make an index as an earlier version left it, without hashes and without groups."""
    index.close()
    (index.folder / "catalog.seal").unlink(missing_ok=True)
    query(index.folder, f"UPDATE items SET perceptual_hash = NULL WHERE {where}")  # noqa: S608
    if with_state:
        query(index.folder, "DELETE FROM duplicates")
        query(index.folder, "DELETE FROM settings WHERE key = 'duplicates'")


def groups(folder):
    found = {}
    for key, name in query(folder, GROUPS):
        found.setdefault(name, []).append(key.decode())
    return sorted(found.values())


@pytest.fixture
def read(monkeypatch):
    """The contents of pages that were looked at for pictures without a hash."""
    pages = []
    make_tasks = hashes._make_tasks

    def record(layout, page):
        pages.append([picture.content_id for picture in page])
        return make_tasks(layout, page)

    monkeypatch.setattr(hashes, "_make_tasks", record)
    return pages


def test_next_run_over_an_unchanged_folder_makes_hashes_and_groups(index, folder, read):
    index.add_folder(folder)
    assert read == []
    before = query(index.folder, LOOKS)
    lose_hashes(index)
    phases = []
    report = index.add_folder(folder, progress=phases.append)
    assert (report.added, report.unchanged, report.retold) == (0, 5, 0)
    # The hash is that of the same pixels.
    assert query(index.folder, LOOKS) == before
    assert groups(index.folder) == PAIRS
    assert index.duplicates().unhashed == 0
    assert [(state.done, state.total) for state in phases if state.phase == "hashes"] == [
        (done, 5) for done in range(6)
    ]
    assert query(index.folder, "SELECT count(*) FROM embeddings WHERE stale > 0") == [(0,)]
    assert query(index.folder, "SELECT count(*) FROM stale_rows") == [(0,)]
    assert len(read) == 1
    index.add_folder(folder)
    assert len(read) == 1


def test_unchanged_folder_with_all_hashes_is_not_searched_for_others(index, folder, monkeypatch):
    index.add_folder(folder)
    index.close()
    monkeypatch.setattr("mmsearch.catalog.duplicates._LIST_UNHASHED", "no statement")
    monkeypatch.setattr("mmsearch.catalog.duplicates._COUNT_UNHASHED", "no statement")
    assert index.add_folder(folder).unchanged == 5


def test_interrupted_run_keeps_hashes_and_the_next_one_goes_on(index, folder, read, monkeypatch):
    index.add_folder(folder)
    before = query(index.folder, LOOKS)
    lose_hashes(index)
    monkeypatch.setattr(hashes, "PAGE_SIZE", 2)

    def stop(state):
        if state.phase == "hashes" and state.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add_folder(folder, progress=stop)
    assert query(index.folder, "SELECT count(perceptual_hash) FROM items") == [(2,)]
    assert groups(index.folder) == []
    read.clear()
    index.add_folder(folder)
    assert sum(map(len, read)) == 3
    assert query(index.folder, LOOKS) == before
    assert groups(index.folder) == PAIRS


def test_pictures_compared_without_a_hash_are_compared_again(index, folder):
    index.add_folder(folder)
    lose_hashes(index, "id <= 2")
    # A program adds a picture, which groups those that have hashes and leaves the others.
    index.add([PHOTOS[7]], ids=["new"])
    assert index.duplicates().unhashed == 2
    assert groups(index.folder) != PAIRS
    index.add_folder(folder)
    assert groups(index.folder) == PAIRS
    assert index.duplicates().unhashed == 0


def test_missing_files_of_another_folder_wait_for_its_run(index, folder, tmp_path, read):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(PHOTOS[9], other / "other.jpg")
    index.add_folder(folder)
    index.add_folder(other)
    lose_hashes(index)
    moved = other.rename(tmp_path / "unmounted")
    index.add_folder(folder)
    assert (groups(index.folder), index.duplicates().unhashed) == (PAIRS, 1)
    read.clear()
    index.add_folder(folder)
    assert read == []
    moved.rename(other)
    index.add_folder(other)
    assert index.duplicates().unhashed == 0


def test_file_that_vanishes_during_the_run_is_skipped(index, folder):
    index.add_folder(folder)
    lose_hashes(index)

    def remove(state):
        if state.phase == "texts":
            (folder / "alone.jpg").unlink(missing_ok=True)

    index.add_folder(folder, progress=remove)
    looks = dict(query(index.folder, LOOKS))
    assert looks.pop(b"alone.jpg") is None
    assert None not in looks.values()
    assert groups(index.folder) == PAIRS


def test_file_that_cannot_be_decoded_is_tried_once(index, folder, read):
    index.add_folder(folder)
    lose_hashes(index)
    # Its size and times say that it is the same.
    damaged, facts = folder / "b.jpg", (folder / "b.jpg").stat()
    damaged.write_bytes(b"\0" * facts.st_size)
    os.utime(damaged, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    query(index.folder, "UPDATE assets SET ctime_ns = 0")
    index.add_folder(folder)
    assert dict(query(index.folder, LOOKS))[b"b.jpg"] == 0
    assert groups(index.folder) == PAIRS[:1]
    read.clear()
    index.add_folder(folder)
    assert read == []


def test_pictures_in_archives_are_hashed_from_their_thumbnails(index, folder, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", folder)
    index.add_source(archive)
    before = dict(query(index.folder, LOOKS))
    lose_hashes(index)
    index.refresh()
    after = dict(query(index.folder, LOOKS))
    assert None not in after.values()
    for key, look in before.items():
        assert int(np.bitwise_count(np.int64(look) ^ np.int64(after[key]))) <= 6
    assert groups(index.folder) == PAIRS


def test_other_kinds_have_no_hash(tmp_path):
    folder, layout = tmp_path / "toys", IndexLayout(tmp_path / "index")
    folder.mkdir()
    (folder / "0.toy").write_bytes(b"toy 0")
    (folder / "1.film").write_bytes(b"film\na|one\nb|two")
    (folder / "2.note").write_bytes(b"note\nsome words")
    run_toys(layout, folder)
    query(layout.folder, "UPDATE items SET perceptual_hash = NULL")
    query(layout.folder, "DELETE FROM settings WHERE key = 'duplicates'")
    layout.folder.joinpath("catalog.seal").unlink()
    run_toys(layout, folder)
    kinds = query(
        layout.folder,
        "SELECT kind, perceptual_hash IS NULL FROM items JOIN contents ON contents.id = content_id"
        " GROUP BY 1, 2 ORDER BY 1",
    )
    assert kinds == [("image", 0), ("sound", 1), ("video", 1)]


@pytest.mark.parametrize("name", ["format1", "schema10"])
def test_index_of_format1_has_groups_after_its_next_run(tmp_path, name, monkeypatch):
    layout, folder = IndexLayout(tmp_path / "home" / "index"), tmp_path / "toys"
    shutil.copytree(DATA / name / "index", layout.folder)
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.toy").write_bytes(b"toy %d" % number)
    # Another content with the same pixels: a near duplicate.
    (folder / "near.toy").write_bytes(b"toy 4 ")
    seeded = toy_index.seeded_pixels
    monkeypatch.setattr(toy_index, "seeded_pixels", lambda content: seeded(content.strip()))
    with catalogs.open_write(layout, 0, create=False) as catalog:
        catalog.move_root("toys", bytes(folder))
    run_toys(layout, folder)
    assert groups(layout.folder) == [["4.toy", "near.toy"]]
    assert dict(query(layout.folder, LOOKS))[b"0.toy"] is not None
    with toy_engine(layout) as engine:
        assert engine.search_text("toy 4", 1).hits[0].folded == 1


def run_toys(layout, folder):
    with toy_indexer(layout) as indexer:
        return indexer.run(IndexRequest(bytes(folder)))
