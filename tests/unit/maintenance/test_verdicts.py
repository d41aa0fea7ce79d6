"""A check reports sound, damaged or unknown, and a repair changes only proven damage."""

import errno
import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mmsearch as library
from mmsearch.core import plugins
from mmsearch.core.errors import InspectionError, MMSearchError, StateError
from mmsearch.core.results import IndexRequest
from mmsearch.core.types import FusionSpec, IndexSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.maintenance.check import check_built_index
from mmsearch.modalities._texts.caption_table import read_captions
from mmsearch.storage.layout import IndexLayout
from tests.property_budget import share_of
from tests.toy_index import ToyEncoder, toy_indexer

PICTURES = 60


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Return the folder of a toy index with captioned pictures and one broken picture.

    The folder of the pictures is missing, so that a repair needs no encoder.
    """
    folder = tmp_path_factory.mktemp("verdicts")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(PICTURES):
        (photos / f"{number:03}.toy").write_text(str(number))
    (photos / "broken.toy").write_text("bad")
    table = folder / "captions.csv"
    lines = [f"{number:03}.toy,caption {number}" for number in range(PICTURES)]
    table.write_text("path,caption\n" + "\n".join(lines) + "\n")
    layout = IndexLayout(folder / "home" / "default")
    captions = read_captions(table, os.fsencode(photos))
    with toy_indexer(layout, vector_index="faiss_flat", captions=captions) as indexer:
        indexer.run(IndexRequest(os.fsencode(photos)))
    photos.rename(folder / "elsewhere")
    return layout.folder


@pytest.fixture
def layout(indexed, tmp_path):
    shutil.copytree(indexed, tmp_path / "home" / "default")
    return IndexLayout(tmp_path / "home" / "default")


def open_index(layout):
    return library.open_index(layout.name, home=layout.folder.parent)


def check(layout):
    with open_index(layout) as index:
        return index.check()


def repair(layout):
    with open_index(layout) as index:
        return index.repair()


def content_of(layout):
    """Return the digest of every file of the index except the lock."""
    return {
        str(path.relative_to(layout.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in layout.folder.rglob("*")
        if path.is_file() and not path.name.startswith("lock") and not _is_of_readers(path)
    }


def _is_of_readers(path):
    """Return True for a file that SQLite creates for any reader."""
    return path.name.endswith("-shm") or (path.name.endswith("-wal") and not path.stat().st_size)


def rows_of(layout):
    """Return the rows that are stored only in the catalog."""
    with closing(sqlite3.connect(layout.catalog)) as connection:
        ask = connection.execute
        return {
            "sources": ask("SELECT id, name, uri, kind, choices FROM sources").fetchall(),
            "assets": ask(
                "SELECT id, source_id, key, size, mtime_ns, ctime_ns, checked_ns, digest, error,"
                " texts_key, metadata, record FROM assets ORDER BY id"
            ).fetchall(),
            "captions": ask(
                "SELECT item_id, asset_id, text, table_path FROM texts WHERE source = 'table'"
                " ORDER BY item_id"
            ).fetchall(),
            "settings": ask(
                # Groups, suggestions and names of places are made again.
                "SELECT * FROM settings WHERE key NOT IN ('mmsearch_version',"
                " 'unfinished_repair', 'duplicates', 'suggestions', 'places')"
            ).fetchall(),
            "runs": ask("SELECT started_at, finished_at, outcome, counts FROM runs").fetchall(),
            "pictures": ask(
                "SELECT items.id, digest, asset_count, stale FROM items"
                " JOIN contents ON contents.id = content_id"
                " JOIN embeddings ON embeddings.item_id = items.id ORDER BY items.id"
            ).fetchall(),
        }


# --- vector indexes, each within its tolerance ---


@pytest.mark.parametrize("fusion", plugins.names("fusions"))
@pytest.mark.parametrize("name", plugins.names("vector_indexes"))
def test_check_each_vector_index_with_each_fusion_reports_sound(name, fusion, layout):
    encoder = ToyEncoder()
    with catalogs.open_write(layout, 0, create=False) as catalog:
        bound = catalog.identity()
        builder = make_index_builder(layout, catalog, lambda: encoder)
        fusion = make_fusion(FusionSpec(fusion, 0.3))
        identity = replace(bound, fusion=fusion.spec, vector_index=name)
        built = builder.build(catalog.segments(), fusion, identity, catalog.stale_rows())
        catalog.publish(built, identity)
    report = check(layout)
    assert report.verdict == "sound", report.findings
    assert repair(layout).mended == ()


@pytest.mark.parametrize("name", plugins.names("vector_indexes"))
def test_check_index_built_of_other_vectors_reports_damage_and_is_repaired(name, layout):
    """The index file has the right ids and checksum, but other vectors."""
    plugin = load_vector_index_plugin(name)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        with catalog.snapshot() as snapshot:
            built = snapshot.built
        vectors = as_unit_vectors(
            np.random.default_rng(0).standard_normal((built.rows, built.settings["dim"]))
        )
        ids = np.arange(1, built.rows + 1, dtype=np.int64)
        path = layout.vector_index_path(9, plugin.SUFFIX)
        spec = IndexSpec(name, vectors.shape[1], "cpu")
        file_ref = plugin.write(spec, [(ids, vectors)], path)
        catalog.publish(replace(built, plugin_name=name, file_ref=file_ref))
        fusion = make_fusion(catalog.identity().fusion)
        found = list(check_built_index(layout, catalog, load_vector_index_plugin, fusion))
    assert [finding.weight for finding in found] == ["damage"]
    assert "do not match exact search" in found[0].message
    assert check(layout).verdict == "damaged"
    assert repair(layout).mended == ("The vector index was damaged and has been rebuilt.",)
    assert check(layout).verdict == "sound"


# --- parts that cannot be checked ---


REFUSED = [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("segments/000001", number) for number in (*REFUSED, errno.ENOMEM)),
        ("ann/000001.vectors", errno.EMFILE),
        ("catalog.seal", errno.EIO),
        ("catalog.sqlite", errno.EACCES),
    ],
)
def test_check_unreadable_file_reports_unknown_and_repair_changes_nothing(
    name, number, layout, monkeypatch
):
    before = content_of(layout)
    plain = os.open

    def refuse(path, *arguments, **more):
        if name in os.fspath(path):
            raise OSError(number, os.strerror(number), str(path))
        return plain(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        report = check(layout)
        assert report.verdict == "unknown", report.findings
        assert {finding.weight for finding in report} <= {"unknown", "note"}
        with pytest.raises(InspectionError) as caught:
            repair(layout)
    assert caught.value.exit_code == 4
    assert content_of(layout) == before
    assert check(layout).verdict == "sound"


def test_check_out_of_memory_reports_unknown_and_repair_changes_nothing(layout, monkeypatch):
    from mmsearch.maintenance import check as module

    before = content_of(layout)

    def refuse(*arguments):
        raise MemoryError

    monkeypatch.setattr(module, "read_segment_with_metadata", refuse)
    assert check(layout).verdict == "unknown"
    with pytest.raises(InspectionError):
        repair(layout)
    assert content_of(layout) == before


CODES = ["FULL", "IOERR", "CANTOPEN", "BUSY", "LOCKED", "READONLY", "PERM", "PROTOCOL", "ERROR"]


@pytest.mark.parametrize("name", CODES)
def test_check_sqlite_error_reports_unknown_and_repair_changes_nothing(name, layout, monkeypatch):
    from mmsearch.catalog import connection

    before = content_of(layout)
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}")

    def refuse(path):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(connection, "connect_read_only", refuse)
        assert check(layout).verdict == "unknown"
        with pytest.raises(InspectionError):
            repair(layout)
    assert content_of(layout) == before


def test_check_newer_catalog_version_reports_unknown_and_asks_for_upgrade(layout):
    with closing(sqlite3.connect(layout.catalog)) as connection:
        connection.execute("PRAGMA user_version = 99")
    layout.catalog.with_suffix(".seal").unlink()
    before = content_of(layout)
    report = check(layout)
    assert report.verdict == "unknown"
    assert "of a newer mmsearch" in report.findings[-1].message
    assert "Upgrade mmsearch" in report.findings[-1].message
    with pytest.raises(InspectionError, match="newer mmsearch"):
        repair(layout)
    assert content_of(layout) == before


def test_check_newer_version_with_wrong_seal_reports_unknown_not_damage(layout):
    with closing(sqlite3.connect(layout.catalog)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = content_of(layout)
    assert check(layout).verdict == "unknown"
    with pytest.raises(InspectionError, match="newer mmsearch"):
        repair(layout)
    assert content_of(layout) == before


@pytest.mark.skipif(os.name == "nt", reason="folders have no such permissions")
def test_check_forbidden_folder_reports_unknown_and_repair_fails(layout, monkeypatch):
    """The folder looks as it does to another user; root may read all, so scandir is patched."""
    plain = {name: getattr(os, name) for name in ("scandir", "stat", "lstat")}

    def refuse(name, path, **more):
        if not isinstance(path, int) and os.fspath(path).startswith(str(layout.folder)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return plain[name](path, **more)

    with monkeypatch.context() as patch:
        for name in plain:
            patch.setattr(os, name, lambda path, name=name, **more: refuse(name, path, **more))
        assert check(layout).verdict == "unknown"
        with pytest.raises(InspectionError):
            repair(layout)
    assert check(layout).verdict == "sound"


def test_check_and_repair_without_temporary_folder_succeed(layout, monkeypatch, tmp_path):
    import tempfile

    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert check(layout).verdict == "sound"
    damage(layout, "assets")
    assert repair(layout).mended
    assert check(layout).verdict == "sound"


def test_check_leaves_all_files_unchanged(layout):
    layout.catalog.with_suffix(".seal").unlink()
    before = content_of(layout)
    check(layout)
    assert content_of(layout) == before


def test_check_missing_model_reports_note_and_sound(layout):
    report = check(layout)
    assert [(finding.weight, finding.part) for finding in report] == [("note", "encoder")]
    assert report.verdict == "sound"


# --- proven damage ---


def damage(layout, table, bytes_lost=8):
    """Overwrite the first bytes of the root page of a table."""
    with closing(sqlite3.connect(layout.catalog)) as connection:
        rows = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table])
        page = rows.fetchone()[0] if table != "sqlite_schema" else 1
    with layout.catalog.open("rb+") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * bytes_lost)


DERIVED = ["contents", "items", "embeddings", "spaces", "segments", "words_data"]
"""Tables that are made again from the segments and from other tables."""

TABLES = ["sqlite_schema", "assets", "texts", "sources", "settings", "runs", *DERIVED]


@pytest.mark.parametrize("table", [*TABLES, "sqlite_sequence"])
@pytest.mark.parametrize("bytes_lost", [1, 8])
def test_repair_damaged_table_root_page_recovers_all_rows(table, bytes_lost, layout):
    """SQLite cannot read such a table; its rows are in other pages or behind the damage."""
    before = rows_of(layout)
    damage(layout, table, bytes_lost)
    assert check(layout).verdict == "damaged"
    report = repair(layout)
    assert check(layout).verdict == "sound"
    after = rows_of(layout)
    # If rows were lost, the keys of texts are cleared, so that texts are read again.
    before["assets"], after["assets"] = ([row[:9] for row in r["assets"]] for r in (before, after))
    assert after == before, report.not_kept
    if table not in DERIVED:
        assert "Some rows of the catalog's tables" in report.not_kept[0]


def test_repair_changed_byte_of_catalog_keeps_all_rows(layout):
    before = rows_of(layout)
    content = bytearray(layout.catalog.read_bytes())
    content[content.rindex(b"caption 17")] ^= 1
    layout.catalog.write_bytes(content)
    report = check(layout)
    assert report.verdict == "damaged"
    assert "does not match its checksum" in report.findings[0].message
    assert repair(layout).not_kept == ()
    after = rows_of(layout)
    assert len(after.pop("captions")) == len(before.pop("captions")) == PICTURES
    for rows in (before, after):
        # The vectors of the picture belong to its previous text.
        rows["pictures"] = [row[:3] for row in rows["pictures"]]
    assert after == before


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_repair_truncated_catalog_keeps_pictures_and_roots(share, layout):
    before = rows_of(layout)
    content = layout.catalog.read_bytes()
    layout.catalog.write_bytes(content[: int(len(content) * share)])
    assert check(layout).verdict == "damaged"
    report = repair(layout)
    assert report.not_kept
    assert check(layout).verdict == "sound"
    after = rows_of(layout)
    assert [row[:2] for row in after["pictures"]] == [row[:2] for row in before["pictures"]]
    assert [row[2] for row in after["sources"]] == [row[2] for row in before["sources"]]
    # Captions whose files were lost stay with their pictures until the folder is back.
    assert {row[::2] for row in after["captions"]} <= {row[::2] for row in before["captions"]}


def test_repair_catalog_of_foreign_content_keeps_roots_and_reports_loss(layout):
    before = rows_of(layout)
    layout.catalog.write_bytes(b"Dear diary, " * 1000)
    assert check(layout).verdict == "damaged"
    report = repair(layout)
    assert any("Captions" in line for line in report.not_kept)
    assert check(layout).verdict == "sound"
    assert [row[2] for row in rows_of(layout)["sources"]] == [row[2] for row in before["sources"]]


@pytest.mark.parametrize("damaged", [False, True])
def test_repair_lost_catalog_with_two_files_of_one_segment_keeps_newest_intact_one(damaged, layout):
    before = rows_of(layout)
    (segment,) = (layout.folder / "segments").glob("000001-*.vectors")
    other = Path(shutil.copy2(segment, layout.new_segment_path(1)))
    seconds = segment.stat().st_mtime
    os.utime(other, (seconds + 60, seconds + 60))
    if damaged:
        other.write_bytes(segment.read_bytes()[:-50])
    layout.catalog.unlink()
    report = repair(layout)
    assert not report.lost
    assert check(layout).verdict == "sound"
    assert [row[:2] for row in rows_of(layout)["pictures"]] == [
        row[:2] for row in before["pictures"]
    ]
    with catalogs.open_read(layout) as catalog:
        names = [held.file_ref.name for held in catalog.segments() if held.number == 1]
    assert names == [f"segments/{(segment if damaged else other).name}"]


def test_check_damaged_segment_reports_damage_not_unknown(layout):
    (segment,) = (layout.folder / "segments").glob("000001-*.vectors")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    report = check(layout)
    assert report.verdict == "damaged"
    assert ("damage", f"segments/{segment.name}") in [(f.weight, f.part) for f in report]


@pytest.mark.parametrize("content", [b"", os.urandom(300), b"[]", b'{"check": 1}', b"[" * 99_999])
def test_repair_damaged_seal_restores_it_and_keeps_all_rows(content, layout):
    before = rows_of(layout)
    layout.catalog.with_suffix(".seal").write_bytes(content)
    assert check(layout).verdict == "damaged"
    assert repair(layout).mended == ("The catalog's seal was damaged; the catalog is sound.",)
    assert check(layout).verdict == "sound"
    assert rows_of(layout) == before


# --- interrupted repairs ---


class Killed(BaseException):
    pass


@pytest.mark.parametrize("visit", range(1, 12))
def test_repair_killed_at_any_step_loses_no_rows(visit, layout, monkeypatch):
    """After a killed repair, the check still reports damage, and a second repair succeeds."""
    from mmsearch.storage import failpoints

    before = rows_of(layout)
    damage(layout, "words_data")
    left = visit

    def hit_failpoint(point):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    with monkeypatch.context() as patch:
        for module in (
            "catalog.sqlalchemy_engine",
            "catalog.open",
            "storage.atomic",
            "storage.stored_files",
        ):
            patch.setattr(f"mmsearch.{module}.hit_failpoint", hit_failpoint)
        patch.setattr("mmsearch.factories.catalogs.hit_failpoint", hit_failpoint)
        with pytest.raises(Killed):
            repair(layout)
    assert failpoints.hit_failpoint is not hit_failpoint
    assert check(layout).verdict == "damaged"
    repair(layout)
    assert check(layout).verdict == "sound"
    assert rows_of(layout) == before
    assert not (layout.folder / "rebuilding").exists()


def test_repair_with_full_disk_raises_error_and_changes_nothing(layout, monkeypatch):
    damage(layout, "words_data")
    before = content_of(layout)

    def refuse(*arguments, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", refuse)
        with pytest.raises(StateError, match="disk is full"):
            repair(layout)
    held = {name: digest for name, digest in content_of(layout).items() if "rebuilding" not in name}
    assert held == before


# --- invalid values in the catalog ---

NONSENSE = [-1, 2**63 - 1, 0.5, "", b"\xff\xfe", "null", "[1", '{"a": 1}', None]


def cells_of(path):
    with closing(sqlite3.connect(path)) as connection:
        tables = ["settings", "sources", "assets", "contents", "items", "texts", "segments"]
        for table in [*tables, "built_indexes", "generations", "runs", "spaces"]:
            for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                yield table, column


def spoil(layout, table, column, value, text):
    with closing(sqlite3.connect(layout.catalog, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        new = "CAST(? AS TEXT)" if text else "?"
        last = f"SELECT max(rowid) FROM {table}"  # noqa: S608 - our names
        change = f"UPDATE OR IGNORE {table} SET {column} = {new} WHERE rowid IN ({last})"  # noqa: S608
        try:
            connection.execute(change, [value])
        except sqlite3.Error:
            return False
        return bool(connection.execute("SELECT changes()").fetchone()[0])


@pytest.mark.parametrize(("number", "value"), list(enumerate([*NONSENSE, "not utf-8"])), ids=repr)
def test_index_calls_with_nonsense_in_any_cell_raise_only_library_errors(
    number, value, layout, tmp_path
):
    """Each call returns or raises an `MMSearchError`, for any value in any column."""
    sound = layout.catalog.read_bytes()
    layout.catalog.with_suffix(".seal").unlink()
    text = value == "not utf-8"
    for table, column in share_of(list(cells_of(layout.catalog)), number):
        layout.catalog.write_bytes(sound)
        for suffix in ("-wal", "-shm"):
            layout.catalog.with_name(layout.catalog.name + suffix).unlink(missing_ok=True)
        if not spoil(layout, table, column, b"\xff\xfe\x80" if text else value, text):
            continue
        for call in (
            lambda index: index.check(sources=True),
            lambda index: index.status(),
            lambda index: index.roots(),
            lambda index: index.set_root("photos", tmp_path),
            lambda index: index.backup(tmp_path / "copy"),
            lambda index: index.search("a dog", mode="text"),
        ):
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            try:
                with open_index(layout) as index:
                    found = call(index)
            except MMSearchError:
                continue
            if isinstance(found, library.CheckReport):
                unchecked = [f.message for f in found if "could not be checked" in f.message]
                assert not unchecked, (table, column)
