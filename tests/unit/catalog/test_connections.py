import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine.base import RootTransaction
from sqlalchemy.engine.default import DefaultExecutionContext

from mmsearch.catalog import connection
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_reader
from mmsearch.catalog.sqlalchemy_engine import read_transaction, write_transaction
from mmsearch.core.errors import DamagedFileError, IndexLockedError, StateError
from tests.unit.catalog.samples import encoded

NOBODY = 65534


def open_any(path, read_only):
    return (open_reader if read_only else open_writer)(path)


def test_writer_connections_have_required_pragmas(catalog):
    with read_transaction(catalog._engine) as one, read_transaction(catalog._engine) as two:
        for connection in (one, two):
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000


def test_write_transaction_before_first_write_holds_write_lock(catalog, path):
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with write_transaction(catalog._engine) as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_commit_shard_interrupted_in_statement_releases_database_lock(
    catalog, root, path, monkeypatch
):
    proceed = DefaultExecutionContext._setup_result_proxy

    def interrupt(self):
        if self.statement.startswith("SELECT"):
            raise KeyboardInterrupt
        return proceed(self)

    shard = encoded(catalog, root, {b"a.jpg": "a"})
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    with monkeypatch.context() as interrupted:
        # SQLAlchemy calls this method after it runs a statement and before it reads the rows.
        interrupted.setattr(DefaultExecutionContext, "_setup_result_proxy", interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            catalog.commit_shard(shard)
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    run = catalog.begin_run()
    catalog.finish_run(run, "interrupted", {})
    assert catalog.last_run().outcome == "interrupted"
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    other.close()
    # The traceback, which can keep a statement alive, still exists here.
    assert caught.tb is not None


def test_finish_run_interrupted_in_commit_raises_interrupt_and_allows_retry(catalog, monkeypatch):
    run = catalog.begin_run()
    proceed = RootTransaction._deactivate_from_connection
    moments = iter([KeyboardInterrupt])

    def interrupt_once(self):
        for interruption in moments:
            raise interruption
        proceed(self)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(RootTransaction, "_deactivate_from_connection", interrupt_once)
        with pytest.raises(KeyboardInterrupt):
            catalog.finish_run(run, "finished", {})
    catalog.finish_run(run, "interrupted", {})
    assert catalog.last_run().outcome == "interrupted"


@pytest.mark.parametrize("name", ["cata?log#1 %41.sqlite", "caf\udce9.sqlite"])
def test_open_catalog_special_characters_in_file_name_opens_that_file(tmp_path, name):
    path = tmp_path / name
    open_writer(path, create=True).close()
    assert path.name in os.listdir(tmp_path)
    open_reader(path).close()


@pytest.mark.parametrize("read_only", [False, True])
def test_open_catalog_missing_file_raises_error_and_creates_no_file(path, read_only):
    with pytest.raises(StateError, match="cannot be opened"):
        open_any(path, read_only)
    assert not path.exists()


@pytest.mark.parametrize("read_only", [False, True])
def test_open_catalog_non_sqlite_file_raises_damaged_file_error(path, read_only):
    path.write_bytes(b"not a database at all, but long enough to look for a header" * 100)
    with pytest.raises(DamagedFileError, match=r"is not an SQLite database\. .*index\.repair\(\)"):
        open_any(path, read_only)


def test_read_catalog_with_overwritten_pages_raises_damaged_file_error(catalog, path):
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"%05d" % n: f"{n}" for n in range(2000)}))
    catalog.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="is damaged: database disk image is malformed"):
        read_all(path)


def test_read_catalog_truncated_file_raises_damaged_file_error(catalog, path):
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"%05d" % n: f"{n}" for n in range(2000)}))
    catalog.close()
    os.truncate(path, path.stat().st_size // 8192 * 4096)
    with pytest.raises(DamagedFileError, match="is damaged"):
        read_all(path)


def read_all(path):
    catalog = open_reader(path)
    try:
        catalog.list_files_under(1, b"")
        with catalog.snapshot() as snapshot:
            snapshot.records(range(1, 2001))
    finally:
        catalog.close()


def test_write_catalog_locked_by_other_program_raises_index_locked_error(
    catalog, path, monkeypatch
):
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    second = open_writer(path)
    with pytest.raises(IndexLockedError, match="held by another program"):
        second.begin_run()
    other.execute("ROLLBACK")
    other.close()
    assert second.begin_run() == 1
    second.close()


def test_commit_shard_without_disk_space_raises_error_and_allows_retry(catalog, path):
    root, _ = catalog.ensure_root(b"/photos")
    with read_transaction(catalog._engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    shard = encoded(catalog, root, {b"%05d" % number: f"{number}" for number in range(500)})
    with pytest.raises(StateError, match="no room left on the disk"):
        catalog.commit_shard(shard)
    assert catalog.file_count() == 0
    assert catalog.segments() == []
    with read_transaction(catalog._engine) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    catalog.commit_shard(shard)
    assert catalog.file_count() == 500


def test_read_only_catalog_write_raises_state_error(catalog, path):
    with (
        closing(open_reader(path)) as reader,
        reader._connections.read_transaction() as db,
        pytest.raises(StateError, match="cannot be written"),
    ):
        db.query("DELETE FROM runs")


@contextmanager
def unprivileged():
    """Run the block as an ordinary user, to whom file permissions apply."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only_folder():
    """A folder that other users can reach but only read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


def make_read_only(folder):
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def create_filled_catalog(path):
    catalog = open_writer(path, create=True)
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
    return catalog


@pytest.mark.skipif(os.name == "nt", reason="permissions of a folder are POSIX")
class TestCatalogInReadOnlyFolder:
    def test_catalog_closed_by_writer_is_readable(self, read_only_folder):
        path = read_only_folder / "catalog.sqlite"
        create_filled_catalog(path).close()
        assert sorted(file.name for file in read_only_folder.iterdir()) == [
            "catalog.seal",
            "catalog.sqlite",
        ]
        make_read_only(read_only_folder)
        self.check(path)

    def test_catalog_with_wal_left_by_reader_is_readable(self, read_only_folder):
        path = read_only_folder / "catalog.sqlite"
        create_filled_catalog(path).close()
        read_only_folder.chmod(0o777)
        self.check(path)
        assert Path(f"{path}-wal").exists()
        make_read_only(read_only_folder)
        self.check(path)

    def test_catalog_open_in_writer_of_other_user_is_readable(self, read_only_folder):
        path = read_only_folder / "catalog.sqlite"
        writer = create_filled_catalog(path)
        make_read_only(read_only_folder)
        self.check(path)
        writer.close()

    def test_catalog_with_commits_in_unreadable_wal_raises_state_error(self, read_only_folder):
        path = read_only_folder / "catalog.sqlite"
        writer = create_filled_catalog(path)
        copies = {name: Path(f"{path}{name}").read_bytes() for name in ("", "-wal")}
        writer.close()
        assert copies["-wal"]
        for name, content in copies.items():
            Path(f"{path}{name}").write_bytes(content)
        make_read_only(read_only_folder)
        with unprivileged(), pytest.raises(StateError, match="cannot be opened"):
            open_reader(path)

    @staticmethod
    def check(path):
        with unprivileged():
            reader = open_reader(path)
            with reader.snapshot() as snapshot:
                assert snapshot.records([1])[0].paths == (b"/photos/a",)
            reader.close()


WRITER = """
import sys
from pathlib import Path
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_reader
from tests.unit.catalog.samples import encoded

catalog = open_writer(Path(sys.argv[1]))
root = catalog.roots()[0]
for line in sys.stdin:
    catalog.commit_shard(encoded(catalog, root, {b"a": line.strip()}))
    print("committed", flush=True)
catalog.close()
"""


def test_snapshot_during_commits_of_other_process_keeps_generation(path):
    create_filled_catalog(path).close()
    reader = open_reader(path)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with writer, reader.snapshot() as old:
        for content in ("b", "c"):
            writer.stdin.write(content + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "committed\n"
            assert (old.generation, old.pictures) == (1, 1)
            assert [record.paths for record in old.records([1])] == [(b"/photos/a",)]
        with reader.snapshot() as new:
            assert new.generation == 3
            assert new.deleted_ids.tolist() == [1, 2]
            assert [part.number for part in new.unindexed_segments] == [1, 2, 3]
        assert len(old.unindexed_segments) == 1
        writer.stdin.close()
        assert writer.wait() == 0
    reader.close()


def test_read_only_catalog_after_file_is_recreated_reads_new_file(path):
    create_filled_catalog(path).close()
    reader = open_reader(path)
    assert reader.file_count() == 1
    for file in path.parent.iterdir():
        file.unlink()
    open_writer(path, create=True).close()
    assert reader.file_count() == 0
    reader.close()
