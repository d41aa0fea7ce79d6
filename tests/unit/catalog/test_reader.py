"""A reader returns the same data and raises the same errors as the catalog."""

import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from mmsearch.catalog import checksum, connection
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_reader
from mmsearch.core.errors import (
    DamagedFileError,
    MMSearchError,
    SchemaError,
    StateError,
    StorageError,
)
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.query import TextTerm
from tests.unit.catalog.samples import IDENTITY, encoded, indexed


@pytest.fixture
def reading():
    """Function that opens readers; they are closed after the test."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(closing(open_reader(path)))


def fill_catalog(catalog, root):
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b"}))
    catalog.commit_shard(indexed(root, {b"c.jpg": "a"}))


def test_reader_snapshot_equals_catalog_snapshot(catalog, root, path, reading):
    fill_catalog(catalog, root)
    reader = reading(path)
    assert reader.identity() == catalog.identity() == IDENTITY
    with reader.snapshot() as one, catalog.snapshot() as two:
        for name in (
            "generation",
            "identity",
            "pictures",
            "built",
            "unindexed_segments",
            "has_texts",
        ):
            assert getattr(one, name) == getattr(two, name), name
        assert one.deleted_ids.tolist() == two.deleted_ids.tolist()
        assert one.records([2, 1, 2]) == two.records([2, 1, 2])
        assert one.filter_ids(make_filter_tree(Filters(min_width=1))).tolist() == [1, 2]
        ids = np.array([1, 2])
        assert one.has_text_mask(ids).tolist() == two.has_text_mask(ids).tolist()
        found = [each.match([TextTerm("a", 1.0)], 5, None) for each in (one, two)]
        assert found[0].ids.tolist() == found[1].ids.tolist()


def test_reader_index_without_run_has_no_identity_and_no_pictures(catalog, path, reading):
    reader = reading(path)
    assert reader.identity() is None
    with reader.snapshot() as snapshot:
        assert (snapshot.generation, snapshot.pictures, snapshot.built) == (0, 0, None)


def test_reader_snapshot_during_commit_keeps_generation(catalog, root, path, reading):
    fill_catalog(catalog, root)
    reader = reading(path)
    with reader.snapshot() as old:
        before = old.generation
        catalog.commit_shard(encoded(catalog, root, {b"d.jpg": "d"}))
        assert (old.generation, old.pictures) == (before, 2)
        with reader.snapshot() as new:
            assert (new.generation, new.pictures) == (before + 1, 3)


def test_reader_consecutive_snapshots_reuse_connection(catalog, root, path, monkeypatch, reading):
    fill_catalog(catalog, root)
    reader = reading(path)
    opened = []
    monkeypatch.setattr(connection, "connect", lambda *given: opened.append(given))
    for image_id in (1, 2):
        with reader.snapshot() as snapshot:
            assert snapshot.records([image_id])[0].id == image_id
    assert opened == []


def test_reader_snapshot_after_commit_sees_new_pictures(catalog, root, path, reading):
    reader = reading(path)
    for number in range(3):
        catalog.commit_shard(encoded(catalog, root, {b"%d.jpg" % number: f"{number}"}))
        with reader.snapshot() as snapshot:
            assert snapshot.pictures == number + 1


def test_reader_after_error_in_snapshot_opens_next_snapshot(catalog, root, path, reading):
    fill_catalog(catalog, root)
    reader = reading(path)
    with pytest.raises(KeyError), reader.snapshot() as snapshot:
        snapshot.records([99])
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 2


def test_reader_after_catalog_file_is_replaced_reads_new_file(
    catalog, root, path, tmp_path, reading
):
    fill_catalog(catalog, root)
    reader = reading(path)
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 2
    aside = tmp_path / "aside"
    aside.mkdir()
    with closing(open_writer(aside / path.name, create=True)) as other:
        other.set_identity(IDENTITY)
    catalog.close()
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    for file in aside.iterdir():
        os.replace(file, path.parent / file.name)
    with closing(open_writer(path)) as writer:
        new_root, _ = writer.ensure_root(b"/elsewhere")
        writer.commit_shard(encoded(writer, new_root, {b"new.jpg": "new"}))
        with reader.snapshot() as snapshot:
            assert snapshot.pictures == 1
        reader.close()
        # Closing the old connection must not delete the -wal of the new file.
        with reading(path).snapshot() as snapshot:
            assert snapshot.pictures == 1


def test_reader_after_catalog_file_is_overwritten_reads_new_content(
    catalog, root, path, tmp_path, reading
):
    fill_catalog(catalog, root)
    catalog.close()
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with closing(open_writer(path)) as writer:
        writer.commit_shard(encoded(writer, root, {b"d.jpg": "d"}))
    reader = reading(path)
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 3
    for file in list(path.parent.iterdir()):
        if file.is_file() and file not in before:
            file.unlink()
    for file, content in before.items():
        file.write_bytes(content)
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 2


def test_reader_idle_connection_allows_checkpoint_and_vacuum(catalog, root, path, reading):
    fill_catalog(catalog, root)
    reader = reading(path)
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 2
    catalog.close()
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    with closing(open_writer(path)) as writer:
        writer.vacuum()
    with reader.snapshot() as snapshot:
        assert snapshot.pictures == 2


def error_of(open_it):
    with pytest.raises(MMSearchError) as error:
        open_it()
    return type(error.value), str(error.value)


def missing(path):
    path.unlink()


def no_database(path):
    path.write_bytes(b"not a database at all, but long enough to look for a header" * 100)


def other_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()


def newer(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()


def older(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (missing, StorageError),
        (no_database, DamagedFileError),
        (other_database, DamagedFileError),
        (newer, SchemaError),
        (older, SchemaError),
    ],
)
def test_reader_and_catalog_raise_same_error_for_unusable_file(path, damage, kind):
    open_writer(path, create=True).close()
    damage(path)
    said = error_of(lambda: open_reader(path))
    assert said[0] is kind
    assert said == error_of(lambda: open_reader(path))


def test_reader_pages_overwritten_after_open_raise_damaged_file_error(catalog, root, path, reading):
    catalog.commit_shard(encoded(catalog, root, {b"%05d" % n: f"{n}" for n in range(2000)}))
    catalog.close()
    reader = reading(path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="is damaged"), reader.snapshot() as snapshot:
        snapshot.records(range(1, 2001))


def test_reader_catalog_file_deleted_after_open_raises_state_error(catalog, path, reading):
    reader = reading(path)
    catalog.close()
    os.unlink(path)
    with pytest.raises(StateError, match="cannot be opened"):
        reader.identity()


class RacyIdleList(list):
    """List that reports an entry although another thread has just taken it."""

    def __len__(self):
        return max(1, super().__len__())


def test_read_pool_idle_connection_taken_during_close_raises_no_error(path, catalog):
    read = connection.ReadPool(path, lambda db, path: None)
    read._idle = RacyIdleList()
    with read.read_transaction() as db:
        assert db.query("SELECT 1") == [(1,)]
    read.close()


def test_has_content_beside_file_removed_during_check_returns_false(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert checksum._has_content_beside(tmp_path / "catalog.sqlite", "-wal") is False
