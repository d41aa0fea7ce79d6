"""Indexes move to a catalog in PostgreSQL and back, also after kills, and stay equal by value."""

# ruff: noqa: F811 - fixtures of another module

import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest

import mmsearch
from mmsearch import init_index, migrate_index
from mmsearch.catalog.open import open_writer
from mmsearch.catalog.tables import METADATA
from mmsearch.core.errors import DamagedFileError, StateError, StorageError, UsageError
from mmsearch.factories import catalogs, search_servers
from mmsearch.maintenance import migrate as module
from mmsearch.storage.layout import IndexLayout
from tests.cluster import services
from tests.cluster.made_library import fill
from tests.integration.test_facets import PICTURES, write_picture
from tests.integration.test_migration import dump, snapshot_of, without_locks
from tests.integration.test_stored_index import add_toys, hits, index_toys, toys, verdict  # noqa: F401

pytestmark = services.MARKS

ROOT = Path(__file__).parents[2]
TABLES = sorted(METADATA.tables)

MIGRATE_PROGRAM = """
import os, signal, sys
from importlib import import_module
from mmsearch import migrate_index

name, to, home, place, visit = sys.argv[1:]
module, _, function = place.rpartition(":")
left = int(visit)
if module:
    owner = import_module(module)
    real = getattr(owner, function)

    def replacement(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    setattr(owner, function, replacement)
print(migrate_index(name, to, home=home).pictures)
"""
"""Migrates, and dies when a function of a module is called once more than its number of visits."""


@pytest.fixture(scope="module")
def server(start_service):
    return start_service("postgres")


@pytest.fixture(autouse=True)
def _environment(server, monkeypatch, tmp_path):
    monkeypatch.setenv("MMSEARCH_CATALOG_PASSWORD", server["POSTGRES_PASSWORD"])
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "settings" / "settings.toml"))


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def names():
    """Names of the indexes of a test, which are also those of their schemas."""
    ending = uuid.uuid4().hex[:12]
    return f"photos_{ending}", f"big_{ending}", f"back_{ending}"


@pytest.fixture
def layout(home, toys, names):
    """An index of files with a deleted picture and a tail of newer segments."""
    layout = IndexLayout(home / names[0])
    index_toys(layout, toys)
    (toys / "7.toy").unlink()
    index_toys(layout, toys)
    return layout


@pytest.fixture
def big(home, names, server):
    init_index(names[1], home=home, catalog=server["POSTGRES_URL"])
    return IndexLayout(home / names[1])


def run_migration(name, to, home, place="", visit=0):
    return subprocess.run(
        [sys.executable, "-c", MIGRATE_PROGRAM, name, to, home, place, str(visit)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rows_of(path):
    """Return the rows of each table of a catalog in a file, without those of its upgrades."""
    with closing(sqlite3.connect(path)) as connection:
        found = {
            name: connection.execute(
                f"SELECT {', '.join(METADATA.tables[name].columns.keys())} FROM {name} ORDER BY"  # noqa: S608
                f" {', '.join(METADATA.tables[name].primary_key.columns.keys() or ['1'])}"
            ).fetchall()
            for name in TABLES
        }
        # SQLite has such a number only for ids that are never used twice.
        found["sqlite_sequence"] = sorted(connection.execute("SELECT * FROM sqlite_sequence"))
    return found


def test_each_row_of_a_library_comes_back_equal(server, tmp_path):
    from mmsearch.catalog.postgres import parse_url
    from mmsearch.catalog.postgres_copy import copy_to_file, copy_to_postgres
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    paths = [tmp_path / name / "catalog.sqlite" for name in ("first", "second")]
    for path in paths:
        path.parent.mkdir()
    catalog = open_writer(paths[0], create=True)
    fill(catalog)
    catalog.close()
    place = parse_url(f"{server['POSTGRES_URL']}?schema=library_copy", paths[0])
    # The second copy replaces the first one.
    for _ in range(2):
        copy_to_postgres(paths[0], place, lambda reader: None)
    catalog = open_postgres_writer(place)
    assert list(catalog.find_problems()) == []
    catalog.close()
    copy_to_file(place, paths[1])
    before, after = map(rows_of, paths)
    for name, rows in before.items():
        # PostgreSQL cannot store NUL.
        kept = [
            tuple(v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in row)
            for row in rows
        ]
        assert after[name] == kept, name
    assert len(before["items"]) > 300
    copied = open_writer(paths[1])
    assert list(copied.find_problems()) == []
    # Both go on with the same ids.
    assert copied.next_free_ids()[0] == before_ids(paths[0])
    with closing(open_postgres_writer(place)) as catalog:
        assert catalog.next_free_ids()[0] == before_ids(paths[0])
        assert catalog.reserve_ids(3, 1)
        fill_again(catalog)
    copied.close()


def before_ids(path):
    with closing(open_writer(path)) as catalog:
        return catalog.next_free_ids()[0]


def fill_again(catalog):
    """Write to a copy in PostgreSQL: its own numbers continue above those of the copied rows."""
    run = catalog.begin_run()
    catalog.finish_run(run, "finished", {}, None)
    assert list(catalog.find_problems()) == []


def test_files_to_postgresql_and_back_are_equal(layout, big, home, toys, names):
    expected, before = hits(layout), without_locks(snapshot_of(layout.folder))
    report = migrate_index(names[0], names[1], home=home)
    assert report.pictures == 19
    assert without_locks(snapshot_of(layout.folder)) == before
    assert not big.catalog.exists()
    assert not (big.folder / "migration.json").exists()
    assert not (big.folder / "rebuilding").exists()
    assert hits(big) == expected
    assert dump(big) == dump(layout)
    assert verdict(big) == ("sound", [])
    # The index goes on as any other one.
    add_toys(toys, [50])
    assert index_toys(big, toys).encoded == 1
    migrate_index(names[1], names[2], home=home)
    back = IndexLayout(home / names[2])
    assert hits(back) == hits(big)
    assert dump(back) == dump(big)
    assert verdict(back) == ("sound", [])
    assert index_toys(back, toys).encoded == 0


def test_postgresql_to_postgresql_is_equal(layout, big, home, names, server):
    migrate_index(names[0], names[1], home=home)
    init_index(names[2], home=home, catalog=server["POSTGRES_URL"])
    migrate_index(names[1], names[2], home=home)
    assert dump(IndexLayout(home / names[2])) == dump(layout)


COPY = "mmsearch.catalog.postgres_copy"


def test_killed_migration_leaves_nothing_and_goes_on(layout, big, home, names):
    # Each run goes on where the one before was killed, and comes further.
    for place, visit in (
        ("mmsearch.maintenance.migrate:_copy_file", 1),
        (f"{COPY}:_insert_in_postgres", 5),
        (f"{COPY}:_count_rows", 1),
        ("mmsearch.maintenance.migrate:_answers", 2),
        ("mmsearch.maintenance.migrate:claim_store", 0),
    ):
        done = run_migration(*names[:2], home, place, visit)
        assert done.returncode == -signal.SIGKILL, (place, done.stderr)
        with mmsearch.open_index(names[1], home=home) as index:
            assert index.status().pictures == (19 if "claim" in place else 0), place
    done = run_migration(*names[:2], home)
    assert done.returncode == 0, done.stderr
    assert (hits(big), dump(big)) == (hits(layout), dump(layout))
    assert verdict(big) == ("sound", [])


def test_killed_migration_from_postgresql_goes_on(layout, big, home, names):
    migrate_index(names[0], names[1], home=home)
    for place, visit in ((f"{COPY}:_copy_table", 4), (f"{COPY}:_count_rows", 1)):
        done = run_migration(*names[1:], home, place, visit)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not IndexLayout(home / names[2]).catalog.exists()
    done = run_migration(*names[1:], home)
    assert done.returncode == 0, done.stderr
    assert dump(IndexLayout(home / names[2])) == dump(layout)


def test_other_answers_in_postgresql_discard_the_copy(layout, big, home, names, monkeypatch):
    real, calls = module._answers, []

    def answers(*arguments):
        calls.append(real(*arguments))
        return calls[-1] if len(calls) < 3 else []

    with monkeypatch.context() as patch:
        patch.setattr(module, "_answers", answers)
        with pytest.raises(StateError, match="answers of the copy differ"):
            migrate_index(names[0], names[1], home=home)
    with mmsearch.open_index(names[1], home=home) as index:
        assert index.status().pictures == 0
    migrate_index(names[0], names[1], home=home)
    assert dump(big) == dump(layout)


def test_rows_that_postgresql_cannot_keep_are_named(layout, big, home, names):
    with closing(sqlite3.connect(layout.catalog)) as connection:
        connection.execute("UPDATE items SET rating = 'many' WHERE id = 3")
        connection.commit()
    with pytest.raises(DamagedFileError, match="table items cannot be kept by PostgreSQL"):
        migrate_index(names[0], names[1], home=home)


def test_migration_refuses_what_it_would_overwrite(layout, big, home, names, server, monkeypatch):
    migrate_index(names[0], names[1], home=home)
    with pytest.raises(UsageError, match="is not empty"):
        migrate_index(names[0], names[1], home=home)
    with pytest.raises(UsageError, match="has the catalog of an index"):
        init_index(names[1], home=home / "other", catalog=server["POSTGRES_URL"])
    monkeypatch.setenv("MMSEARCH_CATALOG_PASSWORD", "wrong")
    with pytest.raises(StorageError, match="refuses the user"):
        migrate_index(names[1], names[2], home=home)
    with pytest.raises(StorageError, match="refuses the user"):
        init_index(names[2], home=home, catalog=server["POSTGRES_URL"])
    assert not (home / names[2] / "index.toml").exists()
    with pytest.raises(StorageError, match="cannot be reached"):
        init_index(names[2], home=home, catalog="postgresql+psycopg://me@127.0.0.1:1/pictures")


def test_catalog_and_search_move_to_postgresql_and_back(
    start_service, server, photos, home, names, tmp_path, monkeypatch
):
    vectors = start_service("postgres_vector")
    monkeypatch.setenv("MMSEARCH_SEARCH_PASSWORD", vectors["POSTGRES_PASSWORD"])
    pictures = tmp_path / "pictures"
    sources = sorted((photos / "photos").glob("*.jpg"))
    for number, ((place, *known), source) in enumerate(zip(PICTURES, sources, strict=False)):
        write_picture(source, pictures / place / f"{number}.jpg", *known)
    with mmsearch.open_index(names[0], home=home) as index:
        index.add_folder(pictures)
        expected = answers_of(index)
    init_index(names[1], home=home, catalog=server["POSTGRES_URL"], search=vectors["POSTGRES_URL"])
    migrate_index(names[0], names[1], home=home)
    big = IndexLayout(home / names[1])
    with catalogs.open_read(big) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.built.plugin_name == "pgvector"
    with mmsearch.open_index(names[1], home=home) as index:
        assert answers_of(index) == expected
    migrate_index(names[1], names[2], home=home)
    with mmsearch.open_index(names[2], home=home) as index:
        assert answers_of(index) == expected
        assert not index.check().findings
    search_servers.close_search_servers()


def answers_of(index):
    return [
        (hit.path, round(hit.score, 2))
        for query in ("a boat", "snow", "a dog at the sea")
        for hit in index.search(query)
    ]
