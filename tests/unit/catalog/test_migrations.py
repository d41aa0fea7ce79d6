import re
import sqlite3

import pytest

from mmsearch.catalog import schema
from mmsearch.catalog.migrations import MIGRATIONS, Migration
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.reader import open_reader
from mmsearch.catalog.schema import migrate
from mmsearch.catalog.sqlalchemy_engine import open_engine
from mmsearch.core.errors import DamagedFileError, SchemaError, StateError
from tests.unit.catalog.samples import encoded

ADDED = Migration(
    "a_later_step", ("CREATE TABLE later (x INTEGER)", "INSERT INTO later VALUES (5)")
)
BROKEN = Migration("broken", ("CREATE TABLE half (x)", "DROP TABLE tags", "INSERT INTO nowhere"))


def open_any(path, read_only):
    return (open_reader if read_only else open_writer)(path)


def ask(path, sql):
    connection = sqlite3.connect(path)
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def dump(path):
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return [*lines, *ask(path, "PRAGMA user_version")]


def migrate_database(path, steps):
    engine = open_engine(path, create=True)
    try:
        migrate(engine, path, steps)
    finally:
        engine.dispose()


def test_new_catalog_records_all_migrations(catalog, path):
    names = ask(path, "SELECT name FROM migrations ORDER BY rowid")
    assert [name for (name,) in names] == [step.name for step in MIGRATIONS]
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


def test_migration_names_are_unique():
    assert len({step.name for step in MIGRATIONS}) == len(MIGRATIONS)


def test_writer_older_schema_upgrades_to_newest(path):
    migrate_database(path, MIGRATIONS[:1])
    assert ask(path, "PRAGMA user_version") == [(1,)]
    catalog = open_writer(path)
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
    with catalog.snapshot() as snapshot:
        assert snapshot.deleted_ids.tolist() == []
    catalog.close()
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_migrate_existing_catalog_keeps_rows(catalog, path):
    catalog.commit_shard(encoded(catalog, catalog.ensure_root(b"/photos")[0], {b"a": "a"}))
    migrate_database(path, [*MIGRATIONS, ADDED])
    assert ask(path, "SELECT x FROM later") == [(5,)]
    assert ask(path, "SELECT key FROM assets") == [(b"a",)]
    assert ask(path, "SELECT count(*) FROM migrations") == [(len(MIGRATIONS) + 1,)]


def test_read_only_open_older_schema_raises_schema_error_without_upgrade(path):
    migrate_database(path, MIGRATIONS[:1])
    with pytest.raises(SchemaError, match=r"schema 1, of an older mmsearch; .* that upgrades it"):
        open_reader(path)
    assert ask(path, "PRAGMA user_version") == [(1,)]


@pytest.mark.parametrize("read_only", [False, True])
def test_open_catalog_newer_schema_raises_schema_error_without_change(path, read_only):
    migrate_database(path, [*MIGRATIONS, ADDED])
    before = dump(path)
    newer = len(MIGRATIONS) + 1
    with pytest.raises(SchemaError, match=rf"schema {newer}, of a newer .* {len(MIGRATIONS)}"):
        open_any(path, read_only)
    assert dump(path) == before


def test_open_catalog_failing_migration_leaves_database_unchanged(catalog, path, monkeypatch):
    catalog.commit_shard(encoded(catalog, catalog.ensure_root(b"/photos")[0], {b"a": "a"}))
    catalog.close()
    before = dump(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, BROKEN))
    with pytest.raises(Exception, match=r"syntax error|incomplete input"):
        open_writer(path)
    assert dump(path) == before
    monkeypatch.undo()
    again = open_writer(path)
    assert again.file_count() == 1
    again.close()


def test_migrate_failing_step_keeps_earlier_steps(path):
    with pytest.raises(Exception, match=r"syntax error|incomplete input"):
        migrate_database(path, [*MIGRATIONS, BROKEN, ADDED])
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_open_catalog_empty_file_is_initialized_by_writer_only(path):
    path.touch()
    with pytest.raises(StateError, match="empty database"):
        open_reader(path)
    open_writer(path).close()
    assert ask(path, "SELECT count(*) FROM assets") == [(0,)]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("sql", ["CREATE TABLE guests (name)", "PRAGMA user_version = 2"])
def test_open_catalog_database_of_other_program_is_refused_unchanged(path, sql, read_only):
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    before = dump(path)
    with pytest.raises(DamagedFileError, match="not an mmsearch catalog"):
        open_any(path, read_only)
    assert dump(path) == before


FIRST_SHARED = 15
"""Number of the first schema that catalogs in PostgreSQL may have."""

# What `mmsearch.catalog.postgres_schema` does by comparing an older schema with the newest.
_COMPARED = re.compile(
    r"\s*(CREATE (TABLE|INDEX|UNIQUE INDEX|TRIGGER)|DROP (INDEX|TRIGGER)|ALTER TABLE \w+ ADD)\b"
)


@pytest.mark.parametrize("migration", MIGRATIONS[FIRST_SHARED:], ids=lambda step: step.name)
def test_migrations_do_nothing_that_upgrades_of_postgresql_leave_out(migration):
    """One that changes rows, for example, needs statements in `postgres_schema`, too."""
    assert [text for text in migration.statements if not _COMPARED.match(text)] == []
