"""Catalogs of unknown origin: the schema must match, and every statement has a time limit."""

import signal
import sqlite3
import time
from contextlib import closing

import pytest

from mmsearch.catalog import connection as connection_module
from mmsearch.catalog.connection import ReadPool, connect
from mmsearch.catalog.migrations import MIGRATIONS
from mmsearch.catalog.reader import open_pinned_reader, open_reader
from mmsearch.catalog.salvage import DamagedCatalog
from mmsearch.catalog.schema import SCHEMA_SHA256, expected_statements, migrate, schema_sha256
from mmsearch.catalog.sqlalchemy_engine import open_engine, read_transaction
from mmsearch.core.deadlines import deadline
from mmsearch.core.errors import DamagedFileError, DeadlineError, StateError

ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n"

CRAFTED = {
    "a view in the place of a table": (
        f"DROP TABLE settings; CREATE VIEW settings (key, value) AS SELECT 'encoder', ({ENDLESS})",
        "CREATE VIEW settings",
    ),
    "a view beside the tables": ("CREATE VIEW extra AS SELECT 1 AS x", "CREATE VIEW extra AS"),
    "a trigger": (
        "CREATE TRIGGER extra AFTER INSERT ON runs BEGIN DELETE FROM assets; END",
        "CREATE TRIGGER extra AFTER INSERT ON runs",
    ),
    "a virtual table": (
        "CREATE VIRTUAL TABLE extra USING fts5 (x)",
        "CREATE TABLE 'extra_config'",
    ),
    "a table in the place of a function": (
        f"CREATE VIEW pragma_user_version AS {ENDLESS}",
        "CREATE VIEW pragma_user_version AS WITH RECURSIVE n",
    ),
    "a generated column": (
        "ALTER TABLE runs ADD COLUMN big AS (zeroblob(1000000000))",
        "CREATE TABLE runs",
    ),
    "an index on an expression": ("CREATE INDEX extra ON runs (hex(id))", "CREATE INDEX extra"),
}


def craft(path, script):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def upgrade(path):
    engine = open_engine(path)
    try:
        migrate(engine, path)
    finally:
        engine.dispose()


def openers(path):
    return [
        lambda: open_reader(path),
        lambda: open_reader(path),
        lambda: upgrade(path),
    ]


def test_schema_sha256_constant_equals_digest_of_all_migrations():
    assert schema_sha256(expected_statements(MIGRATIONS)) == SCHEMA_SHA256


@pytest.mark.parametrize("case", CRAFTED)
def test_catalog_with_foreign_schema_object_raises_damaged_file_error(catalog, path, case):
    catalog.close()
    script, named = CRAFTED[case]
    craft(path, script)
    for open_it in openers(path):
        with pytest.raises(DamagedFileError) as caught:
            open_it()
        assert caught.value.message.startswith(
            f"{path} holds an object that mmsearch did not create: {named}"
        )
        assert caught.value.hint


def test_upgrade_older_schema_with_foreign_trigger_raises_damaged_file_error(path):
    from tests.unit.catalog.test_migrations import migrate_database

    migrate_database(path, MIGRATIONS[:2])
    craft(path, "CREATE TRIGGER extra AFTER INSERT ON migrations BEGIN DELETE FROM assets; END")
    with pytest.raises(DamagedFileError, match="CREATE TRIGGER extra AFTER INSERT ON migrations"):
        upgrade(path)


def test_catalog_without_required_table_raises_damaged_file_error(catalog, path):
    catalog.close()
    craft(path, "DROP TABLE parts")
    for open_it in openers(path):
        with pytest.raises(DamagedFileError, match="lacks a part of its schema: CREATE TABLE part"):
            open_it()


def test_catalog_with_sqlite_analyze_statistics_opens(catalog, root, path):
    catalog.close()
    craft(path, "ANALYZE")
    open_reader(path).close()
    upgrade(path)


def test_reader_snapshot_after_schema_change_raises_damaged_file_error(catalog, root, path):
    reader = open_reader(path)
    with reader.snapshot() as snapshot:
        assert snapshot.generation == 0
    catalog.close()
    craft(path, "CREATE VIEW extra AS SELECT 1")
    with pytest.raises(DamagedFileError), reader.snapshot():
        pass


def endless_by_reader(path):
    with closing(ReadPool(path, lambda db, path: None)) as file, file.read_transaction() as db:
        db.query(ENDLESS)


def endless_in_a_snapshot(path):
    with closing(open_reader(path)) as reader, reader.snapshot() as snapshot:
        snapshot._db.query(ENDLESS)


def endless_by_iteration(path):
    with closing(ReadPool(path)) as file, file.read_transaction() as db:
        list(db.iterate(ENDLESS))


def endless_in_a_check(path):
    with closing(open_pinned_reader(path)) as reader, reader.snapshot() as snapshot:
        snapshot._db.query(ENDLESS)


def endless_by_a_writer(path):
    engine = open_engine(path)
    try:
        with read_transaction(engine) as connection:
            connection.exec_driver_sql(ENDLESS).all()
    finally:
        engine.dispose()


ENDLESS_RUNNERS = [
    endless_by_reader,
    endless_in_a_snapshot,
    endless_by_iteration,
    endless_in_a_check,
    endless_by_a_writer,
]


@pytest.fixture
def short_timeouts(monkeypatch):
    """Time limits short enough for a test."""
    monkeypatch.setattr(connect, "__defaults__", (0.2,))
    for module in ("connection", "sqlalchemy_engine"):
        monkeypatch.setattr(f"mmsearch.catalog.{module}.MAINTENANCE_TIMEOUT_S", 0.2)


@pytest.mark.parametrize("run_endless", ENDLESS_RUNNERS)
def test_endless_statement_past_time_limit_raises_state_error(
    catalog, path, short_timeouts, run_endless
):
    with pytest.raises(StateError) as caught:
        run_endless(path)
    assert caught.value.message == f"Reading {path} took longer than 0 seconds."
    assert caught.value.hint
    assert caught.type is StateError


@pytest.mark.parametrize("run_endless", ENDLESS_RUNNERS)
def test_endless_statement_past_caller_deadline_raises_deadline_error(catalog, path, run_endless):
    with pytest.raises(DeadlineError), deadline(time.monotonic() + 0.2):
        run_endless(path)


@pytest.mark.parametrize("run_endless", ENDLESS_RUNNERS)
def test_endless_statement_on_signal_raises_keyboard_interrupt(catalog, path, run_endless):
    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_endless(path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_connection_time_limit_applies_to_each_statement(catalog, path, monkeypatch):
    monkeypatch.setattr(connection_module, "PROGRESS_CHECK_STEPS", 1000)
    with closing(connect(path, "ro", 0.3)) as connection:
        for _ in range(3):
            time.sleep(0.2)
            counted = connection.execute(
                "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10000)"
                " SELECT count(*) FROM n"
            ).fetchall()
            assert counted == [(10_000,)]


@pytest.mark.parametrize("inner", [ENDLESS, "SELECT 1"])
def test_salvage_view_in_place_of_table_counts_as_unreadable_table(catalog, root, path, inner):
    catalog.close()
    craft(
        path,
        f"DROP TABLE settings; CREATE VIEW settings (key, value) AS SELECT 'encoder', ({inner})",
    )
    with closing(DamagedCatalog(path)) as damaged:
        settings = dict(damaged.read_rows("settings", {"key": "text", "value": "text"}))
        assert "encoder" not in settings
        assert damaged.unreadable_tables == {"settings"}
        assert list(damaged.read_rows("sources", {"uri": "blob"})) == [(b"/photos",)]
