"""Opening of a catalog: creation, checksum verification and schema migration."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mmsearch.catalog import checksum, schema
from mmsearch.catalog.connection import reject_journal
from mmsearch.catalog.sqlalchemy_engine import (
    as_read_connection,
    open_engine,
    open_pinned_engine,
    read_transaction,
)
from mmsearch.catalog.sqlite import SqliteCatalog
from mmsearch.catalog.wal import count_unreadable_commits
from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import DamagedFileError, DiskFullError
from mmsearch.core.files import create_file
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, fsync_folder
from mmsearch.storage.failpoints import FailPoint, hit_failpoint


def open_catalog(path: Path, *, create: bool = False, read_only: bool = False) -> Catalog:
    """Open the catalog of an index.

    A writer (``read_only=False``) must hold the index's lock; it migrates an older schema to the
    newest one. A reader needs no lock and changes nothing: it rejects an older schema. It works
    beside a writer, and in a folder that cannot be written.

    Args:
        path: The database.
        create: Create the catalog if it is missing; only for a writer.
        read_only: Open the catalog for reading only.

    Raises:
        DamagedFileError: The file is not an SQLite database, not a catalog, or damaged.
        SchemaError: Its schema is newer than this code, or older and ``read_only`` is set.
        StateError: The file cannot be opened, for example because it is missing.
    """
    if create and read_only:
        raise ValueError("a read-only catalog cannot be created")
    if create and not path.exists():
        _create_catalog(path)
    reject_journal(path)
    previous = None if read_only else _verify_and_mark_dirty(path)
    engine = open_engine(path, create=False, read_only=read_only)
    try:
        if read_only:
            with read_transaction(engine) as connection:
                schema.check_readable(as_read_connection(connection), path)
        else:
            schema.migrate(engine, path)
            with read_transaction(engine) as connection:
                schema.check_file_names(as_read_connection(connection))
    except BaseException:
        engine.dispose()
        if previous is not None and previous.sha256 is not None:
            checksum.mark_clean(path, previous.roots)
        raise
    return SqliteCatalog(engine, None if read_only else path)


def open_pinned_catalog(path: Path) -> Catalog:
    """Open the newest state of a catalog for reading; this state is fixed until it is closed.

    Writers may continue meanwhile. Nothing is written, and no temporary file is created.

    Args:
        path: The database.

    Raises:
        DamagedFileError: The file is not an SQLite database, not a catalog, or damaged.
        SchemaError: Its schema is newer or older than this code's.
        StateError: The file cannot be opened.
    """
    reject_journal(path)
    engine = open_pinned_engine(path)
    try:
        with read_transaction(engine) as connection:
            schema.check_readable(as_read_connection(connection), path)
    except BaseException:
        engine.dispose()
        raise
    return SqliteCatalog(engine)


def _verify_and_mark_dirty(path: Path) -> checksum.CatalogChecksum | None:
    """Verify the checksum of a catalog, mark it dirty, and return the previous checksum.

    Raises:
        DamagedFileError: The catalog is not as the last writer left it.
    """
    if not checksum.verify_checksum(path) and count_unreadable_commits(path) > 1:
        raise DamagedFileError(
            f"{path}-wal is damaged: commits in it cannot be read.",
            "Run 'mmsearch repair' to rebuild the catalog without encoding pictures again.",
        )
    previous = checksum.read_checksum(path)
    checksum.mark_dirty(path, previous.roots if previous else ())
    return previous


def _create_catalog(path: Path) -> None:
    """Create an empty catalog under a temporary name and rename it: readers never see a part."""
    temporary_path = path.with_name(f"{path.name}{TEMPORARY_SUFFIX}")
    _remove_database(temporary_path)
    try:
        # A file created by SQLite would be readable by everybody. The -wal and -shm files take the
        # permissions of the database.
        create_file(temporary_path).close()
        engine = open_engine(temporary_path, create=False, read_only=False)
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
