"""Opening of a catalog for writing: creation, checksum verification and schema migration."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from mmsearch.catalog import checksum, schema
from mmsearch.catalog.connection import connect_read_only, reject_journal, translated_errors
from mmsearch.catalog.migrations import FORMAT1_SCHEMA
from mmsearch.catalog.sqlalchemy_engine import as_read_connection, open_engine, read_transaction
from mmsearch.catalog.sqlite_maintenance import SqliteMaintenance
from mmsearch.core.errors import DamagedFileError, DiskFullError, Hint
from mmsearch.core.files import create_file
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, fsync_folder
from mmsearch.storage.failpoints import FailPoint, hit_failpoint
from mmsearch.storage.layout import format1_copy


def open_writer(path: Path, *, create: bool = False) -> SqliteMaintenance:
    """Open the catalog of an index for writing, and migrate an older schema to the newest one.

    The caller must hold the index's lock.

    Args:
        path: The database.
        create: Create the catalog if it is missing.

    Raises:
        DamagedFileError: The file is not an SQLite database, not a catalog, or damaged.
        SchemaError: Its schema is newer than this code's.
        StateError: The file cannot be opened, for example because it is missing.
    """
    if create and not path.exists():
        _create_catalog(path)
    reject_journal(path)
    previous = _verify_and_mark_dirty(path)
    engine = open_engine(path)
    try:
        _copy_format1(path)
        schema.migrate(engine, path)
        with read_transaction(engine) as connection:
            schema.check_file_names(as_read_connection(connection))
    except BaseException:
        engine.dispose()
        if previous is not None and previous.sha256 is not None:
            checksum.mark_clean(path, previous.roots)
        raise
    return SqliteMaintenance(path, engine)


def _verify_and_mark_dirty(path: Path) -> checksum.CatalogChecksum | None:
    """Verify the checksum of a catalog, mark it dirty, and return the previous checksum.

    Raises:
        DamagedFileError: The catalog is not as the last writer left it.
    """
    if not checksum.verify_checksum(path) and checksum.count_unreadable_commits(path) > 1:
        raise DamagedFileError(
            f"{path}-wal is damaged: commits in it cannot be read.",
            Hint(
                "{} to rebuild the catalog without encoding pictures again.",
                "Call index.repair()",
                "Run 'mmsearch repair'",
            ),
        )
    previous = checksum.read_checksum(path)
    checksum.mark_dirty(path, previous.roots if previous else {})
    return previous


def _copy_format1(path: Path) -> None:
    """Copy a catalog of format 1 before it is migrated, unless there is a copy.

    The segments that it refers to stay until the index is compacted.
    """
    copy = format1_copy(path)
    if copy.exists():
        return
    with translated_errors(path), closing(connect_read_only(path)) as connection:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
        if application_id != schema.APPLICATION_ID or not 0 < version <= FORMAT1_SCHEMA:
            return
        temporary_path = copy.with_name(f"{copy.name}{TEMPORARY_SUFFIX}")
        _remove_database(temporary_path)
        # A file created by SQLite would be readable by everybody.
        create_file(temporary_path).close()
        with closing(sqlite3.connect(temporary_path)) as target:
            connection.backup(target)
            # The copy has no readers, so it needs no WAL files.
            target.execute("PRAGMA journal_mode = DELETE")
    with temporary_path.open("rb+") as file:
        os.fsync(file.fileno())
    temporary_path.replace(copy)
    fsync_folder(copy.parent)


def _create_catalog(path: Path) -> None:
    """Create an empty catalog under a temporary name and rename it: readers never see a part."""
    temporary_path = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    _remove_database(temporary_path)
    try:
        # A file created by SQLite would be readable by everybody. The -wal and -shm files take the
        # permissions of the database.
        create_file(temporary_path).close()
        engine = open_engine(temporary_path)
        try:
            schema.migrate(engine, temporary_path)
        finally:
            # The last connection to close moves everything from the -wal file into the database.
            engine.dispose()
        _check_complete(temporary_path, path)
    except BaseException:
        with suppress(OSError):
            _remove_database(temporary_path)
        raise
    hit_failpoint(FailPoint.CATALOG_MADE)
    temporary_path.replace(path)
    checksum.checksum_path(path).unlink(missing_ok=True)
    hit_failpoint(FailPoint.CATALOG_NAMED)
    fsync_folder(path.parent)


def _check_complete(temporary_path: Path, path: Path) -> None:
    """Raise an error if a -wal file remains, as on a full disk: the database is incomplete.

    Raises:
        DiskFullError: A -wal file remains.
    """
    if temporary_path.with_name(f"{temporary_path.name}-wal").exists():
        raise DiskFullError(
            f"{path} could not be written completely: the disk is full or failing.",
            "Free some space, check the system log, and run it again.",
        )


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
