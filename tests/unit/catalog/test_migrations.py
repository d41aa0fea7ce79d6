import sqlite3

import pytest

from mmsearch.catalog import schema
from mmsearch.catalog.migrations import MIGRATIONS, Migration
from mmsearch.catalog.open import open_catalog
from mmsearch.catalog.schema import migrate
from mmsearch.catalog.sqlalchemy_engine import open_engine
from mmsearch.core.errors import DamagedFileError, SchemaError, StateError
from tests.unit.catalog.samples import encoded

ADDED = Migration(
    "a_later_step", ("CREATE TABLE later (x INTEGER)", "INSERT INTO later VALUES (5)")
)
BROKEN = Migration("broken", ("CREATE TABLE half (x)", "DROP TABLE files", "INSERT INTO nowhere"))


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
    engine = open_engine(path, create=True, read_only=False)
    try:
        migrate(engine, path, steps)
    finally:
        engine.dispose()


def test_a_new_database_has_seen_every_step(catalog, path):
    names = ask(path, "SELECT name FROM migrations ORDER BY rowid")
    assert [name for (name,) in names] == [step.name for step in MIGRATIONS]
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]


def test_names_of_steps_are_unique():
    assert len({step.name for step in MIGRATIONS}) == len(MIGRATIONS)


def test_a_writer_upgrades_an_older_database(path):
    migrate_database(path, MIGRATIONS[:1])
    assert ask(path, "PRAGMA user_version") == [(1,)]
    catalog = open_catalog(path)
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
    with catalog.snapshot() as snapshot:
        assert snapshot.deleted_ids.tolist() == []
    catalog.close()
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_an_upgrade_keeps_what_was_there(catalog, path):
    catalog.commit_shard(encoded(catalog, catalog.ensure_root(b"/photos")[0], {b"a": "a"}))
    migrate_database(path, [*MIGRATIONS, ADDED])
    assert ask(path, "SELECT x FROM later") == [(5,)]
    assert ask(path, "SELECT path FROM files") == [(b"a",)]
    assert ask(path, "SELECT count(*) FROM migrations") == [(len(MIGRATIONS) + 1,)]


def test_a_reader_refuses_an_older_database_and_leaves_it(path):
    migrate_database(path, MIGRATIONS[:1])
    with pytest.raises(
        SchemaError, match=r"schema 1, of an older mmsearch; .* a writer upgrades it"
    ):
        open_catalog(path, read_only=True)
    assert ask(path, "PRAGMA user_version") == [(1,)]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_database_is_refused_by_both_versions(path, read_only):
    migrate_database(path, [*MIGRATIONS, ADDED])
    before = dump(path)
    newer = len(MIGRATIONS) + 1
    with pytest.raises(SchemaError, match=rf"schema {newer}, of a newer .* {len(MIGRATIONS)}"):
        open_catalog(path, read_only=read_only)
    assert dump(path) == before


def test_a_step_that_fails_leaves_the_database_as_it_was(catalog, path, monkeypatch):
    catalog.commit_shard(encoded(catalog, catalog.ensure_root(b"/photos")[0], {b"a": "a"}))
    catalog.close()
    before = dump(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, BROKEN))
    with pytest.raises(Exception, match=r"syntax error|incomplete input"):
        open_catalog(path)
    assert dump(path) == before
    monkeypatch.undo()
    again = open_catalog(path)
    assert again.file_count() == 1
    again.close()


def test_steps_before_a_failing_one_stay(path):
    with pytest.raises(Exception, match=r"syntax error|incomplete input"):
        migrate_database(path, [*MIGRATIONS, BROKEN, ADDED])
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_an_empty_file_is_a_catalog_to_be(path):
    path.touch()
    with pytest.raises(StateError, match="empty database"):
        open_catalog(path, read_only=True)
    open_catalog(path).close()
    assert ask(path, "SELECT count(*) FROM files") == [(0,)]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("sql", ["CREATE TABLE guests (name)", "PRAGMA user_version = 2"])
def test_the_database_of_another_program_is_left_alone(path, sql, read_only):
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    before = dump(path)
    with pytest.raises(DamagedFileError, match="not a catalog"):
        open_catalog(path, read_only=read_only)
    assert dump(path) == before
